"""How a file is to be read: as it is, or in parts, each behind a header that tells its length."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from hear_models.errors import AudioFileError
from hear_models.files import shown

UNKNOWN_NOTE = (
    "does not say how long it is (a recording that was cut off, or a pipe): it is read to the end of the file"
)
HEAD_BYTES = 4096  # where most headers end
READ_AT_ONCE = 1 << 22  # bytes; copying fewer is quicker than mapping them
WRONG_NOTE = "holds more audio than its header says: it is read to the end of the file"


@dataclass(frozen=True)
class Part:
    """Bytes [start, stop) of a file that are a recording of their own once `prefix` stands before them."""

    prefix: bytes
    start: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """What a look at the headers found.

    parts: what libsndfile is to be given, one after the other; empty: the file as it is.
    notes: sentences on what was odd and how it is read.
    frames: what all parts hold, if it was counted; else None.
    """

    parts: tuple[Part, ...] = ()
    notes: tuple[str, ...] = ()
    frames: int | None = None


AS_IT_IS = Layout()


class NeedsFfmpeg(Exception):
    """libsndfile would read this file in part, or not at all; the message says why."""


class Source:
    """An open file whose headers are looked at: `read(offset, n)` gives what is there."""

    def __init__(self, file: BinaryIO, path: str | os.PathLike[str]) -> None:
        self.file, self.path = file, path
        self.size = os.fstat(file.fileno()).st_size
        self.head = file.read(HEAD_BYTES)

    def read(self, offset: int, n: int) -> bytes:
        """Up to n bytes from `offset`."""
        if offset + n <= len(self.head):
            return self.head[offset : offset + n]
        self.file.seek(offset)
        return self.file.read(n)

    @contextlib.contextmanager
    def content(self) -> Iterator[bytes | mmap.mmap]:
        """All bytes: those of a large file stay on the disk until they are looked at."""
        if self.size <= READ_AT_ONCE:
            yield self.read(0, self.size)
            return
        with mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped

    def cut_off(self, what: str) -> AudioFileError:
        """The error for a file that lacks its end."""
        return AudioFileError(f"{shown(self.path)} is cut off or damaged: {what}. Copy it again.")

    def check_end(self, stop: int, frame_bytes: int = 1) -> None:
        """Raise AudioFileError if the audio that is promised up to byte `stop` lacks a frame or more."""
        missing = stop - self.size
        if missing >= max(1, frame_bytes):
            raise self.cut_off(f"its header promises audio up to byte {stop:,}, the file ends at byte {self.size:,}")


Look = Callable[[Source], Layout]


class PartReader(io.RawIOBase):
    """A part of a file, with its prefix, as a file that libsndfile reads through callbacks."""

    def __init__(self, path: str | os.PathLike[str], part: Part) -> None:
        self._part, self._at = part, 0
        self._size = len(part.prefix) + part.stop - part.start
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with this object

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence] + offset)
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        prefix = self._part.prefix
        if self._at < len(prefix):
            data = prefix[self._at : self._at + len(buffer)]
        else:
            self._file.seek(self._part.start + self._at - len(prefix))
            data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
