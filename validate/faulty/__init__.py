"""HEAR modules with one fault each. The number is the row of the table in the specification of the HEAR API.

EXPECTED says which check names the fault, how severe it is, and a piece of its message.
"""
