"""HEAR modules without an error: the checks, and the real hear-validator, must accept them."""
