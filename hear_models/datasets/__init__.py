"""Sounds: isolated events, their mixtures, and everything that is made up."""

from hear_models.datasets.library import Library

__all__ = ["Library"]
