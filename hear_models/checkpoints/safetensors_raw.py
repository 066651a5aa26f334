"""Safetensors files, tensor by tensor: a file is in memory once, not three times, and is hashed as it is read."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from hear_models.errors import FileError
from hear_models.foreign import open_plain, parse_json

MAX_HEADER_BYTES = 100_000_000  # the library's own limit
LENGTH_BYTES = 8  # of the header's length
OF_OTHERS = 64  # more bytes of what is no such file, to tell what it is
METADATA = "__metadata__"
BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
BYTES |= {"I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}


@dataclass(frozen=True)
class RawTensor:
    """A tensor as it is stored."""

    dtype: str  # of the format: "F32"
    shape: tuple[int, ...]
    data: bytearray


@dataclass(frozen=True)
class RawFile:
    """All of a file."""

    tensors: dict[str, RawTensor]
    sha256: str
    n_bytes: int


def read_head(path: str | os.PathLike[str]) -> tuple[bytes, int]:
    """(a file up to the end of its header, or as far as it goes; the file's size). Raises FileError."""
    with open_plain(path) as file:
        return _head(file, path), os.fstat(file.fileno()).st_size


def read_tensors(path: str | os.PathLike[str], head: bytes) -> RawFile:
    """Every tensor of the file that begins with `head`.

    Raises:
        ValueError: its table is not that of a whole file.
        FileError: it cannot be read, or is another one meanwhile.
    """
    with open_plain(path) as file:
        n_bytes = os.fstat(file.fileno()).st_size
        if _head(file, path) != head:
            raise FileError(f"{path} changes while it is read. Try again when nobody writes to it.")
        places = _places(parse_json(head[LENGTH_BYTES:]), n_bytes - len(head))
        digest, tensors = hashlib.sha256(head), dict[str, RawTensor]()
        for name, dtype, shape, length in places:
            data = bytearray(length)
            if file.readinto(data) != length:  # type: ignore[attr-defined]
                raise FileError(f"{path} changes while it is read. Try again when nobody writes to it.")
            digest.update(data)
            tensors[name] = RawTensor(dtype, shape, data)
        return RawFile(tensors, digest.hexdigest(), n_bytes)


def _head(file: IO[bytes], path: str | os.PathLike[str]) -> bytes:
    try:
        begin = file.read(LENGTH_BYTES + 1)
        if not begin.endswith(b"{"):  # another format, whose first bytes are no length
            return begin + file.read(OF_OTHERS)
        return begin + file.read(min(int.from_bytes(begin[:LENGTH_BYTES], "little"), MAX_HEADER_BYTES) - 1)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}. Check the path.") from error


def _places(table: Any, n_bytes: int) -> list[tuple[str, str, tuple[int, ...], int]]:
    """(name, dtype, shape, bytes) in the order of the file: one behind the other, without a gap, to its end."""
    if not isinstance(table, Mapping):
        raise ValueError("its header is no table")
    found = []
    for name, entry in table.items():
        if name == METADATA:
            continue
        try:
            dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            if not all(type(size) is int and size >= 0 for size in (*shape, begin, end)):
                raise ValueError
            length = math.prod(shape) * BYTES[dtype]
        except (TypeError, KeyError, ValueError):
            raise ValueError(f"{name[:60]!r} is described as {str(entry)[:80]}") from None
        if end - begin != length:
            raise ValueError(f"{name[:60]!r} has {end - begin} bytes, which {dtype} {shape} does not fill")
        found.append((begin, end, name, dtype, tuple(shape)))
    at = 0
    for begin, end, name, _, _ in sorted(found):
        if begin != at:
            raise ValueError(f"{name[:60]!r} begins at byte {begin}, {at} was expected")
        at = end
    if at != n_bytes:
        raise ValueError(f"its tensors have {at} bytes, the file has {n_bytes}")
    return [(name, dtype, shape, end - begin) for begin, end, name, dtype, shape in sorted(found)]
