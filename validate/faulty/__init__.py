"""HEAR modules with one fault each, numbered from the API itself to long recordings.

26 is a good module that an old validator refused (32 kHz); 42, what appended silence does, is no fault.

EXPECTED says which check names the fault, how severe it is, and a piece of its message.
"""
