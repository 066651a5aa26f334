"""Audio files that are not files: bytes, file objects and standard input, written to a temporary file to be read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hear_models.errors import AudioFileError, InputError
from hear_models.files import scratch_folder

STDIN = "-"
LARGEST_BYTES = 16 << 30  # an endless pipe is not written to the disk until it is full


@contextmanager
def spooled(data: bytes | bytearray | memoryview | IO[bytes], name: str = "audio") -> Iterator[Path]:
    """A temporary file, called `name`, with the content of `data`; a file object is read from where it stands.

    Raises:
        AudioFileError: more than `LARGEST_BYTES`.
        InputError: a file object that gives text.
    """
    with scratch_folder() as folder:
        path = folder / name
        with open(path, "xb") as file:
            if isinstance(data, (bytes, bytearray, memoryview)):
                file.write(data)
            else:
                _copy(data, file)
        yield path


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while block := source.read(1 << 20):
        if not isinstance(block, bytes):
            raise InputError("The file object gives text, not bytes. Open it in binary mode: open(path, 'rb').")
        target.write(block)
        if target.tell() > LARGEST_BYTES:
            raise AudioFileError(f"More than {LARGEST_BYTES >> 30} GiB came in. Write it to a file and give its path.")


@contextmanager
def standard_input() -> Iterator[Path]:
    """What comes through standard input, as a file called stdin."""
    with spooled(sys.stdin.buffer, "stdin") as path:
        yield path
