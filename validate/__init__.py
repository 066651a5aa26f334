"""Conformance material of the checkout, never installed: good HEAR modules, and faulty ones that prove the checks."""
