"""A part of an open file as if it were one: what lies in an archive is read where it lies."""

from __future__ import annotations

import io
import threading
import weakref
from collections.abc import Iterator
from typing import IO

from hear_models.errors import CheckpointError

CHUNK = 1 << 20  # bytes of a piece


class OpenFile:
    """An open file that several windows share; it is closed when the last of them is gone."""

    def __init__(self, handle: IO[bytes]) -> None:
        self.handle = handle
        self.lock = threading.Lock()
        weakref.finalize(self, handle.close)

    def read(self, offset: int, n_bytes: int) -> bytes:
        with self.lock:
            self.handle.seek(offset)
            return self.handle.read(n_bytes)


class Window:
    """`length` bytes of a file from `start` on; reads are bounded by it and safe from several threads."""

    def __init__(self, file: OpenFile, start: int, length: int) -> None:
        self.file = file
        self.start = start
        self.length = length

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Exactly these bytes; CheckpointError if they are not there."""
        if offset < 0 or n_bytes < 0 or offset + n_bytes > self.length:
            raise CheckpointError("it ends too early; the download or the copy is incomplete. Fetch it again.")
        data = self.file.read(self.start + offset, n_bytes)
        if len(data) != n_bytes:
            raise CheckpointError("it became shorter while it was read. Wait until nobody writes to it.")
        return data

    def part(self, offset: int, length: int) -> Window:
        """A window in this one."""
        if offset < 0 or length < 0 or offset + length > self.length:
            raise CheckpointError("an entry lies outside of the file. Fetch it again.")
        return Window(self.file, self.start + offset, length)

    def pieces(self) -> Iterator[bytes]:
        """All of it, a piece at a time."""
        for offset in range(0, self.length, CHUNK):
            yield self.read(offset, min(CHUNK, self.length - offset))

    def stream(self) -> WindowStream:
        """As a file of its own, for readers that want one."""
        return WindowStream(self)


class WindowStream(io.RawIOBase):
    """A window with a position."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.window.length}[whence]
        if base + offset < 0:
            raise ValueError("a position before the file's beginning")
        self.position = base + offset
        return self.position

    def tell(self) -> int:
        return self.position

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self.window.length - self.position)
        n_bytes = left if size is None or size < 0 else min(size, left)
        data = self.window.read(self.position, n_bytes) if n_bytes else b""
        self.position += n_bytes
        return data
