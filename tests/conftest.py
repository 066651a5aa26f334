"""Fixtures of several folders."""

from made_up_family import made_up  # noqa: F401
