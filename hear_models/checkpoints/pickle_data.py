"""What a pickle names but this project never imports or calls, as inert records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Name:
    """A class or function by the name that a pickle gives; nothing is imported to make one."""

    module: str
    name: str

    def __str__(self) -> str:
        return printable(f"{self.module}.{self.name}")


class Instance:
    """An object of a class that is not known here: what the pickle would have handed to it, and nothing more.

    Equality and hash are the object's own, so that an object may be a dictionary's key as it was for the writer.

    Attributes:
        of: the class, or the function that would have made the object.
        args: positional arguments of its construction.
        kwargs: keyword arguments of it.
        state: what it would have been given to restore its attributes, usually a dict; None if nothing.
        items: what would have been appended to it (a subclass of list or set).
        entries: what would have been set in it by key (a subclass of dict).
    """

    __slots__ = ("args", "entries", "items", "kwargs", "of", "state")

    def __init__(self, of: Name, args: tuple[Any, ...] = (), kwargs: dict[Any, Any] | None = None) -> None:
        self.of = of
        self.args = args
        self.kwargs: dict[Any, Any] = kwargs if kwargs is not None else {}
        self.state: Any = None
        self.items: list[Any] = []
        self.entries: dict[Any, Any] = {}

    def __repr__(self) -> str:  # never of its content, which may be deep, large or contain itself
        return f"<record of {self.of}>"


def printable(text: str, limit: int = 120) -> str:
    """A text of a stranger's file for a message: no control characters, no line breaks, not long."""
    shown = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text[:limit])
    return shown + ("..." if len(text) > limit else "")


def shown(value: Any) -> str:
    """A value of a stranger's file for a message: its type, and its content only where that is short and flat."""
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 1 << 63 else "a huge integer"
    if isinstance(value, str):
        return f"'{printable(value, 60)}'"
    if isinstance(value, (Name, Instance)):
        return str(value) if isinstance(value, Name) else repr(value)
    return f"a {type(value).__name__}"
