"""Files of strangers, read as data: plain files only, never more than a bound, JSON and arrays without their traps.

A pipe would wait for ever, a device has no end, a link back makes a folder endless, and a few kilobytes unfold to
gigabytes. Whatever a reader stumbles over is one error of this package, with the file's name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hear_models.errors import FileError, HearModelsError
from hear_models.files import shown

if TYPE_CHECKING:
    import numpy as np

LARGEST_JSON = 32 << 20  # bytes; ours have kilobytes
MOST_FOLDED = 200  # bytes that a byte of an archive may unfold to: embeddings and logits do not fold at all
SMALL_ARRAYS = 64 << 20  # bytes that any archive may unfold to
LARGEST_ARRAYS = 8 << 30


LFS_POINTER = "this is a pointer of Git LFS, not the file itself"
LFS_ADVICE = "Fetch that with `git lfs pull`."


def is_lfs_pointer(head: bytes) -> bool:
    """Whether a file that begins so only says where Git LFS keeps the real one."""
    return head.startswith(b"version https://git-lfs")


# ------------------------------------------------------------------------------------------------------------- errors
@contextlib.contextmanager
def reading(
    path: str | os.PathLike[str], kind: type[HearModelsError], advice: str, *, what: str = ""
) -> Iterator[None]:
    """Around the code that takes a stranger's file apart: whatever it stumbles over becomes a `kind`.

    Args:
        advice: a sentence on what to do.
        what: what the file should be: "a table of embeddings".
    """
    wrong = f"is no {what.removeprefix('a ').removeprefix('an ')}" if what else "is damaged"
    try:
        yield
    except kind:
        raise
    except HearModelsError as error:
        raise kind(str(error)) from error
    except OSError as error:
        raise kind(f"{shown(path)} cannot be read: {error.strerror or reason(error)}. {advice}") from error
    except Exception as error:  # libraries of formats raise whatever they stumble over
        raise kind(f"{shown(path)} {wrong}: {reason(error)}. {advice}") from error


def reason(error: BaseException) -> str:
    """What an exception says, in one short line; its kind where it says nothing to people."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    text = "".join(letter if letter.isprintable() else " " for letter in " ".join(str(error).split())).strip()
    text = text[:160] + ("…" if len(text) > 160 else "")
    return (
        text.rstrip(".")
        if isinstance(error, (ValueError, OSError)) and text
        else f"{type(error).__name__} {text}".strip()
    )


# -------------------------------------------------------------------------------------------------------------- bytes
def open_plain(path: str | os.PathLike[str]) -> IO[bytes]:
    """A plain file, open for reading. FileError for anything else, at once: a pipe or a device is not waited for."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except IsADirectoryError as error:
        raise FileError(f"{path} is a folder. Name a file.") from error
    except (OSError, ValueError) as error:
        raise FileError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}. Check the path."
        ) from error
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        kind = "a folder" if stat.S_ISDIR(mode) else "no plain file but a pipe, a socket or a device"
        raise FileError(f"{path} is {kind}. Name a file.")
    return os.fdopen(handle, "rb")


def is_plain(path: str | os.PathLike[str]) -> bool:
    """Whether it is a plain file, or a link to one."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def read_bytes(path: str | os.PathLike[str], at_most: int | None = None) -> bytes:
    """The whole file. FileError: not there, no plain file, or more than `at_most` bytes."""
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if at_most is not None and size > at_most:
            raise FileError(f"{path} has {size:,} bytes; at most {at_most:,} are read. It is not what it should be.")
        try:
            data = file.read(size + 1)
        except OSError as error:
            raise FileError(f"{path} cannot be read: {error.strerror or error}. Check the path.") from error
    if len(data) > size:
        raise FileError(f"{path} changes while it is read. Try again when nobody writes to it.")
    return data


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The sha256 of a plain file, read piece by piece. FileError, OSError."""
    digest = hashlib.sha256()
    with open_plain(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_text(path: str | os.PathLike[str], at_most: int = LARGEST_JSON) -> str:
    """A text in UTF-8, with or without a byte order mark. FileError: see `read_bytes`, a pointer, another encoding."""
    data = read_bytes(path, at_most)
    if is_lfs_pointer(data):
        raise FileError(f"{path}: {LFS_POINTER}. {LFS_ADVICE}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not UTF-8 text. Replace it.") from error


# --------------------------------------------------------------------------------------------------------------- JSON
def read_json(path: str | os.PathLike[str], at_most: int = LARGEST_JSON) -> Any:
    """A JSON file. FileError: see `read_text`, no JSON, a name twice in an object."""
    text = read_text(path, at_most)
    try:
        return parse_json(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is not JSON: {reason(error)}. Replace it.") from error


def parse_json(text: str | bytes, *, constants: bool = True) -> Any:
    """JSON whose objects have every name once. ValueError, RecursionError.

    Args:
        constants: the bare words NaN and Infinity may stand for numbers, as Python writes them.
    """
    return json.loads(text, object_pairs_hook=_each_once, parse_constant=None if constants else _refuse_constant)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"{name[:60]!r} occurs twice in one object")
            seen.add(name)
    return found


def _refuse_constant(token: str) -> Any:
    raise ValueError(f"it holds the token {token}")


# ------------------------------------------------------------------------------------------------------------- arrays
def read_arrays(path: str | os.PathLike[str], names: Collection[str] | None = None) -> Mapping[str, np.ndarray]:
    """The arrays of an `.npz`, without pickles and checked by its checksums; all, or those that are named.

    Raises FileError; ValueError and what zipfile raises for a damaged one: to be called within `reading`.
    """
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        with zipfile.ZipFile(file) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            if len(members) < len(archive.infolist()):
                raise ValueError("it holds an array twice")
            wanted = members if names is None else {name: members[name] for name in names if name in members}
            unfolded = sum(member.file_size for member in wanted.values())
            if unfolded > min(LARGEST_ARRAYS, max(SMALL_ARRAYS, MOST_FOLDED * size)):
                raise ValueError(f"{size:,} bytes would unfold to {unfolded:,}")
            return {name: _array(archive, member) for name, member in wanted.items()}


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    import numpy as np
    from numpy.lib import format as npy

    with archive.open(member) as entry:
        version = npy.read_magic(entry)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{member.filename} has version {version} of NumPy's format")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(entry)
        n_values = 1
        for length in shape:
            n_values *= length
        n_bytes = n_values * dtype.itemsize
        if dtype.hasobject or min(shape, default=0) < 0 or not 0 <= n_bytes <= member.file_size:
            raise ValueError(f"{member.filename} is described as {dtype} {list(shape)}, which it cannot hold")
        data = entry.read(n_bytes + 1)  # to the end, where the checksum is compared
        if len(data) != n_bytes:
            raise ValueError(f"{member.filename} has {len(data)} bytes of values instead of {n_bytes}")
        flat = np.frombuffer(bytearray(data), dtype)
        array: np.ndarray = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
        return array


# ------------------------------------------------------------------------------------------------------------ folders
def walk(folder: str | os.PathLike[str], deepest: int | None = None) -> Iterator[tuple[Path, list[str], list[str]]]:
    """`os.walk` in order, through links too, but into each real folder once: links to a folder above end there.

    Args:
        deepest: how many folders below `folder` it goes down.
    """
    root, seen = Path(folder), set()
    for where, folders, files in os.walk(root, followlinks=True):
        try:
            about = os.stat(where)
        except OSError:
            folders.clear()
            continue
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders.sort()
        yield Path(where), folders, sorted(files)
        if deepest is not None and len(Path(where).parts) - len(root.parts) >= deepest:
            folders.clear()
