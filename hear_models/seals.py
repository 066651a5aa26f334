"""A digest of a file within the file itself: over every other byte of it, whatever the format.

Whoever writes a file puts `UNSEALED` into a text that its format keeps as it is (a comment, a value of its metadata),
near its beginning or its end, and calls `seal` when the file is finished.
"""

from __future__ import annotations

import hashlib
import os
from typing import IO

MARK, BLANK = b"hear-models sha256 ", b"0" * 64
UNSEALED = MARK + BLANK
NEAR = 1 << 20  # bytes from an end in which it is looked for


def seal(file: IO[bytes], *, at_end: bool) -> None:
    """Put the digest into a finished file that is open for reading and writing, and holds `UNSEALED`."""
    place = _place(file, at_end)
    if place is None:
        raise ValueError("there is no place for the digest")
    digest = _digest(file, place)
    file.seek(place)
    file.write(digest)


def is_sealed(file: IO[bytes], *, at_end: bool) -> bool:
    """Whether there is a digest, right or wrong."""
    return _place(file, at_end) is not None


def verify_seal(file: IO[bytes], *, at_end: bool) -> None:
    """ValueError unless every byte is as it was when the file was sealed."""
    place = _place(file, at_end)
    if place is None:
        raise ValueError("it has no digest")
    file.seek(place)
    if file.read(len(BLANK)) != _digest(file, place):
        raise ValueError("its content does not match its digest")
    file.seek(0)


def _place(file: IO[bytes], at_end: bool) -> int | None:
    """Where the digits stand."""
    size = file.seek(0, os.SEEK_END)
    begin = max(0, size - NEAR) if at_end else 0
    file.seek(begin)
    near = file.read(NEAR)
    found = near.rfind(MARK) if at_end else near.find(MARK)
    place = begin + found + len(MARK)
    return None if found < 0 or place + len(BLANK) > size else place


def _digest(file: IO[bytes], place: int) -> bytes:
    digest, left = hashlib.sha256(), place
    file.seek(0)
    while left and (block := file.read(min(1 << 20, left))):
        digest.update(block)
        left -= len(block)
    digest.update(BLANK)
    file.seek(place + len(BLANK))
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest().encode()
