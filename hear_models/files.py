"""Files on disk: written whole or not at all, flushed, and named by their sha256."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from hear_models.errors import FileError

LFS_POINTER = "this is a pointer of Git LFS, not the file itself"
LFS_ADVICE = "Fetch that with `git lfs pull`."


def is_lfs_pointer(head: bytes) -> bool:
    """Whether a file that begins so only says where Git LFS keeps the real one."""
    return head.startswith(b"version https://git-lfs")


def shown(path: str | os.PathLike[str]) -> str:
    """A path as errors show it: quoted, control characters escaped, one line."""
    return repr(os.fspath(path))


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], *, temporary: Path | None = None, flush: bool = True) -> Iterator[Path]:
    """A name beside `path` to write to; at the end what is there becomes `path`, after an error nothing is left.

    Args:
        path: in a folder that exists. A reader sees the old file or the whole new one.
        temporary: a name of the caller's, where only one writes at a time: what a killed run left is written over.
        flush: to the disk before it gets its name, so that it is whole after the power went out, too.

    Raises OSError.
    """
    target = Path(path)
    part = temporary or target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        yield part
        move_into_place(part, target, flush=flush)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def move_into_place(part: Path, target: Path, *, flush: bool = True) -> None:
    """Give a finished file its name. Raises OSError."""
    if flush:
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
    os.replace(part, target)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> str:
    """Write `data` to `path` so that a reader sees the old file or the whole new one; return the data's sha256.

    Raises FileError if the folder does not exist or cannot be written; no part of a file is left behind.
    """
    target = Path(path)
    if target.is_dir():
        raise FileError(f"{target} is a folder. Name a file to write.")
    try:
        with whole_file(target) as part:
            part.write_bytes(data)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError(f"{target} cannot be written: {reason}. Check the folder and the free space.") from error
    return hashlib.sha256(data).hexdigest()


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and flush it to the disk, in a folder that gets its name later. Raises OSError."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The whole file; FileError instead of OSError."""
    try:
        return Path(path).read_bytes()
    except IsADirectoryError as error:
        raise FileError(f"{path} is a folder. Name a file.") from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}. Check the path.") from error
