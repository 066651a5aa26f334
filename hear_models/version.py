"""The version of this package, on the ground floor: everybody may ask for it."""

__version__ = "0.1.0"
