"""Flax checkpoints (one MessagePack map) read as data: no JAX, no Flax, nothing executed, every size bounded.

The format is that of flax.serialization 0.7: maps with str keys, arrays as extension type 1 whose payload is another
MessagePack object (shape, dtype name, bytes), arrays above 1 GiB cut into numbered chunks. A file that is broken or
hostile ends in one CheckpointError.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgpack
import numpy as np

from hear_models.errors import CheckpointError, FileError
from hear_models.foreign import open_plain

MAX_DEPTH = 32  # a ViT's parameters lie at most 6 deep
MAX_ENTRIES = 200_000  # in all maps that are kept; the largest published model has fewer than 700
MAX_ENTRIES_OF_A_MAP = 4096
MAX_TEXT_BYTES = 4096  # keys, and strings as values
MAX_RANK = 16
READ_BYTES = 1 << 20  # per read: memory stays near the size of what is kept, not of the file

ARRAY, COMPLEX_PAIR, NUMPY_SCALAR = 1, 2, 3  # extension codes
CHUNKED = "__msgpack_chunked_array__"
BFLOAT16 = "bfloat16"
DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
}


@dataclass(frozen=True)
class Entry:
    """One leaf: `value` is an array, a NumPy or Python scalar, str, None or {}; `dtype` is the name in the file."""

    value: Any
    dtype: str


@dataclass(frozen=True)
class FlaxFile:
    """The leaves that were asked for, by path ("params/encoder_norm/scale"), and what identifies the file."""

    entries: dict[str, Entry]
    top_level: tuple[str, ...]
    sha256: str
    n_bytes: int


def read_flax(path: str | os.PathLike[str], only: Collection[str] | None = None) -> FlaxFile:
    """Read a Flax checkpoint file; top-level keys outside `only` are passed over unbuilt (the optimiser's moments).

    Arrays are views of the bytes read; bfloat16 becomes float32, exactly. Raises CheckpointError for everything that
    is not a whole, consistent Flax checkpoint.
    """
    path = Path(path)
    try:
        with open_plain(path) as file:
            _refuse_other_formats(path, file.read(16))
            file.seek(0)
            source = _HashingReader(file)
            tree, top_level = _read_top_level(source, os.fstat(file.fileno()).st_size, only)
            return FlaxFile(dict(_leaves(tree)), top_level, source.digest.hexdigest(), source.n_bytes)
    except FileError as error:
        if os.path.isdir(path):
            raise CheckpointError(f"{path} is a folder, not a Flax checkpoint file. Name the file in it.") from error
        raise CheckpointError(str(error)) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}. Check the path.") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not a usable Flax checkpoint: {error}") from error.__cause__


def find_checkpoint(path: str | os.PathLike[str]) -> tuple[Path, Path | None]:
    """(file, trainer's config.json or None) for a checkpoint or a training folder.

    Of a folder the newest `checkpoint_<n>`, or, if there is none, the newest `best_ckpt_<n>`.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(
            f"{path} does not exist. Name a checkpoint file or the folder that holds checkpoint_<step>."
        )
    if path.is_dir():
        _refuse_orbax(path)
        numbered = [
            (match[1] == "checkpoint", int(match[2]), entry)
            for entry in path.iterdir()
            if (match := re.fullmatch(r"(checkpoint|best_ckpt)_(\d+)", entry.name))
        ]
        if not numbered:
            raise CheckpointError(f"{path} holds no file named checkpoint_<step>. Name the checkpoint file itself.")
        path = max(numbered)[2]
        if path.is_dir():
            _refuse_orbax(path)
    config = path.parent / "config.json"
    return path, config if config.is_file() else None


def _refuse_orbax(folder: Path) -> None:
    marks = ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt", "commit_success.txt", "checkpoint")
    if re.fullmatch(r"checkpoint_\d+", folder.name) or any((folder / mark).exists() for mark in marks):
        raise CheckpointError(
            f"{folder} is a folder, written by Orbax; only single-file checkpoints (MessagePack) can be read. "
            "Save it again with flax.training.checkpoints and orbax switched off."
        )


def _refuse_other_formats(path: Path, head: bytes) -> None:
    """Name the format of files that users hand in by mistake, instead of a parser's error."""
    found = None
    if not head:
        found = "the file is empty; fetch it again"
    elif head.startswith(b"PK\x03\x04"):
        found = "this is a zip archive (a PyTorch .pth is one); if it holds the checkpoint, unpack it first"
    elif head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        found = "this is a Python pickle, which is never opened"
    elif head.startswith(b"\x89HDF"):
        found = "this is an HDF5 file"
    elif head.startswith(b"\x1f\x8b"):
        found = "this is a gzip archive; unpack it first"
    elif head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        found = "this is a safetensors file; a converted checkpoint needs no further conversion"
    elif not (0x80 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)):
        text = head.lstrip()[:1] in (b"{", b"[", b"<") or all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
        found = "this is a text file" if text else "it does not begin with a MessagePack map"
        found += "; name the file checkpoint_<step> of the official release"
    if found:
        raise CheckpointError(f"{found}.")


class _HashingReader:
    """Hands bytes to the parser and hashes the same bytes, so that the hash is that of what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.n_bytes = 0

    def read(self, n_bytes: int) -> bytes:
        data = self.file.read(n_bytes)
        self.digest.update(data)
        self.n_bytes += len(data)
        return data


def _read_top_level(
    source: _HashingReader, file_bytes: int, only: Collection[str] | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    count = 0

    def checked_map(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
        nonlocal count
        count += len(pairs)
        if count > MAX_ENTRIES:
            raise CheckpointError(f"it has more than {MAX_ENTRIES} entries.")
        result = dict(pairs)
        if len(result) != len(pairs):
            raise CheckpointError("a map holds the same key twice.")
        if not all(isinstance(key, str) for key in result):
            raise CheckpointError("a map has a key that is not text.")
        return result

    unpacker = msgpack.Unpacker(
        source,
        read_size=READ_BYTES,
        max_buffer_size=0,  # = 2 GiB: above Flax's own limit of 1 GiB for one array
        raw=False,
        object_pairs_hook=checked_map,
        max_str_len=MAX_TEXT_BYTES,
        max_bin_len=0,  # bytes stand inside of extensions only, lists are written as maps
        max_array_len=0,
        max_map_len=MAX_ENTRIES_OF_A_MAP,
        max_ext_len=file_bytes,
    )
    tree: dict[str, Any] = {}
    seen: set[str] = set()
    try:
        for _ in range(unpacker.read_map_header()):
            key = unpacker.unpack()
            if not isinstance(key, str) or key in seen:
                raise CheckpointError(f"top-level key {key!r:.80} is not text or stands there twice.")
            seen.add(key)
            if only is None or key in only:
                tree[key] = unpacker.unpack()
            else:
                unpacker.skip()
    except msgpack.OutOfData as error:
        raise CheckpointError("it ends too early; the download or the copy is incomplete. Fetch it again.") from error
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError, msgpack.UnpackException) as error:
        raise CheckpointError(
            f"its MessagePack is damaged or not Flax's ({str(error) or type(error).__name__}). Fetch it again."
        ) from error
    if unpacker.tell() != source.n_bytes or source.read(1):
        raise CheckpointError(f"bytes follow after its end at byte {unpacker.tell()}. Fetch it again.")
    return tree, tuple(sorted(seen))


def _leaves(tree: dict[str, Any], prefix: str = "", depth: int = 1) -> Iterator[tuple[str, Entry]]:
    if depth > MAX_DEPTH:
        raise CheckpointError(f"{prefix[:80]}...: maps lie more than {MAX_DEPTH} deep.")
    for key in list(tree):
        value = tree.pop(key)  # so that bytes and arrays are not both in memory
        path = f"{prefix}{key}"
        if isinstance(value, dict) and CHUNKED in value:
            yield path, _chunked_array(path, value)
        elif isinstance(value, dict) and value:
            yield from _leaves(value, f"{path}/", depth + 1)
        else:
            entry = _leaf(path, value)
            del value
            yield path, entry


def _leaf(path: str, value: Any) -> Entry:
    if isinstance(value, msgpack.ExtType):
        return _extension(path, value.code, value.data)
    if value is None or isinstance(value, (bool, int, float, str, dict)):
        return Entry(value, type(value).__name__)
    raise CheckpointError(f"{path} is a {type(value).__name__}, which Flax does not write.")


def _extension(path: str, code: int, payload: bytes) -> Entry:
    if code not in (ARRAY, COMPLEX_PAIR, NUMPY_SCALAR):
        raise CheckpointError(f"{path} has the unknown extension code {code}; known are 1 (array), 2 and 3 (scalars).")
    try:
        fields = msgpack.unpackb(
            payload, raw=False, max_array_len=MAX_RANK, max_map_len=0, max_str_len=32, max_ext_len=0
        )
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError, msgpack.UnpackException) as error:
        raise CheckpointError(
            f"{path}: the array's bytes are damaged ({str(error) or type(error).__name__})."
        ) from error
    if code == COMPLEX_PAIR:
        if not (
            isinstance(fields, list) and len(fields) == 2 and all(isinstance(part, (int, float)) for part in fields)
        ):
            raise CheckpointError(f"{path} is marked as a complex number but is no pair of numbers.")
        return Entry(complex(*map(float, fields)), "complex")
    if not (isinstance(fields, list) and len(fields) == 3):
        raise CheckpointError(f"{path} is marked as an array but does not hold shape, dtype and bytes.")
    array, dtype = _array(path, *fields)
    if code == NUMPY_SCALAR:
        if array.shape != ():
            raise CheckpointError(f"{path} is marked as a scalar but has the shape {array.shape}.")
        return Entry(array[()], dtype)
    return Entry(array, dtype)


def _array(path: str, shape: Any, dtype: Any, data: Any) -> tuple[np.ndarray, str]:
    if not isinstance(data, bytes):
        raise CheckpointError(f"{path}: the array's content is {type(data).__name__}, not bytes.")
    if not (isinstance(dtype, str) and (dtype in DTYPES or dtype == BFLOAT16)):
        raise CheckpointError(f"{path} has the unknown dtype {dtype!r:.60}.")
    dimensions = _dimensions(path, shape)
    stored = np.dtype("<u2") if dtype == BFLOAT16 else DTYPES[dtype]
    expected = math.prod(dimensions) * stored.itemsize
    if expected != len(data):
        raise CheckpointError(f"{path}: shape {list(dimensions)} of {dtype} needs {expected} bytes, found {len(data)}.")
    # of a bool any byte but 0 counts as true: a bool view of other bytes would be undefined
    flat = np.frombuffer(data, "u1") != 0 if dtype == "bool" else np.frombuffer(data, stored)
    if dtype == BFLOAT16:  # the upper half of a float32
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return _reshape(path, flat, dimensions), dtype


def _dimensions(path: str, shape: Any) -> tuple[int, ...]:
    right = isinstance(shape, list) and all(
        isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 40 for size in shape
    )
    if not right or len(shape) > MAX_RANK:
        raise CheckpointError(f"{path} has the impossible shape {shape!r:.80}.")
    return tuple(shape)


def _reshape(path: str, flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return flat.reshape(shape)
    except (ValueError, OverflowError) as error:  # an empty array may still claim sizes beyond what NumPy can address
        raise CheckpointError(f"{path} has the impossible shape {list(shape)}.") from error


def _chunked_array(path: str, value: dict[str, Any]) -> Entry:
    """Arrays above 1 GiB: 1-D pieces, keys "0", "1", ... "10" in numeric, not alphabetical, order."""
    if set(value) != {CHUNKED, "shape", "chunks"} or value[CHUNKED] is not True:
        raise CheckpointError(f"{path} is marked as a chunked array but does not hold shape and chunks.")
    shape = _dimensions(path, _numbered(path, "shape", value["shape"]))
    chunks = [_leaf(f"{path}/chunks/{i}", chunk) for i, chunk in enumerate(_numbered(path, "chunks", value["chunks"]))]
    if not chunks or not all(isinstance(chunk.value, np.ndarray) and chunk.value.ndim == 1 for chunk in chunks):
        raise CheckpointError(f"{path}: the chunks are not one-dimensional arrays.")
    if len({chunk.dtype for chunk in chunks}) != 1:
        raise CheckpointError(f"{path}: the chunks have different dtypes.")
    n_values = sum(len(chunk.value) for chunk in chunks)
    if n_values != math.prod(shape):
        raise CheckpointError(
            f"{path}: shape {list(shape)} needs {math.prod(shape)} values, the chunks hold {n_values}."
        )
    return Entry(_reshape(path, np.concatenate([chunk.value for chunk in chunks]), shape), chunks[0].dtype)


def _numbered(path: str, what: str, items: Any) -> list[Any]:
    if not isinstance(items, dict) or set(items) != {str(i) for i in range(len(items))}:
        raise CheckpointError(f"{path}: the {what} are not numbered 0, 1, 2, ... without a gap.")
    return [items[str(i)] for i in range(len(items))]
