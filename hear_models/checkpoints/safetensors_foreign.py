"""safetensors files that other programs wrote, in one piece or in shards, as arrays: the input of a conversion."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hear_models.checkpoints.mapping import SourceArray
from hear_models.checkpoints.safetensors_file import KEY
from hear_models.checkpoints.safetensors_raw import RawFile, RawTensor, read_head, read_tensors
from hear_models.errors import CheckpointError
from hear_models.foreign import LFS_ADVICE, LFS_POINTER, is_lfs_pointer, read_bytes

ENDING, INDEX = ".safetensors", ".safetensors.index.json"
USUAL = ("model.safetensors", "pytorch_model.safetensors")
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
DTYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": "u2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1"}
DTYPES |= {"U8": "u1", "U16": "u2", "U32": "u4", "U64": "u8", "BOOL": "u1"}
NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class ForeignFile:
    """Tensors by their keys, and the files that they came from: first the one that was named, or its index."""

    arrays: dict[str, SourceArray]
    files: tuple[Path, ...]
    sha256: str  # of the file; of shards over the sha256 of each
    n_bytes: int


def is_foreign(path: Path, *, any_name: bool) -> bool:
    """Whether safetensors of another program are meant: a file, an index, or a folder that holds some.

    `any_name`: in a folder any such file counts, else those that are named as on the Hub.
    """
    if path.is_dir():
        entries = [entry for entry in path.iterdir() if not entry.name.startswith("._")]
        names = [entry.name for entry in entries if entry.suffix != ENDING or not _is_ours(_header(entry))]
        usual = [name for name in names if name in USUAL or name.endswith(INDEX) or SHARD.fullmatch(name)]
        return bool(usual) or (any_name and any(name.endswith(ENDING) for name in names))
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(24)
    return path.name.endswith(INDEX) or _begins_so(head) or (path.suffix == ENDING and is_lfs_pointer(head))


def _begins_so(head: bytes) -> bool:
    """As safetensors files do: the length of a header, and JSON."""
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < 1 << 32


def read_foreign(path: str | os.PathLike[str]) -> ForeignFile:
    """Read a file, all shards of an index or of a shard, or what a folder holds.

    Raises CheckpointError: missing, cut or doubled parts, several checkpoints in a folder, one of ours.
    """
    files = _files(Path(path))
    arrays: dict[str, SourceArray] = {}
    digests: list[str] = []
    n_bytes = 0
    for file in files:
        raw = _raw(file)
        digests.append(raw.sha256)
        n_bytes += raw.n_bytes
        for key in list(raw.tensors):
            if key in arrays:
                raise CheckpointError(f"{file}: {key} stands in another shard too. Fetch the checkpoint again.")
            arrays[key] = _array(file, key, raw.tensors.pop(key))
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return ForeignFile(arrays, files, whole, n_bytes)


def _files(path: Path) -> tuple[Path, ...]:
    if path.is_dir():
        indices = sorted(entry for entry in path.iterdir() if entry.name.endswith(INDEX))
        if len(indices) == 1:
            return _of_index(indices[0])
        found = _in_folder(path)
        shards = {(match["stem"], match["count"]) for entry in found if (match := SHARD.fullmatch(entry.name))}
        if len(shards) == 1 and all(SHARD.fullmatch(entry.name) for entry in found):
            return _siblings(found[0])
        if len(found) != 1:
            listed = ", ".join(entry.name for entry in found[:6]) + (", ..." if len(found) > 6 else "")
            raise CheckpointError(f"{path} holds {len(found)} safetensors files: {listed}. Name one of them.")
        return (found[0],)
    if path.name.endswith(INDEX):
        return _of_index(path)
    return _siblings(path) if SHARD.fullmatch(path.name) else (path,)


def _in_folder(folder: Path) -> list[Path]:
    """Files of safetensors in a folder but those that `convert` wrote."""
    found = sorted(entry for entry in folder.iterdir() if entry.suffix == ENDING and not entry.name.startswith("._"))
    return [entry for entry in found if not _is_ours(_header(entry))]


def _of_index(path: Path) -> tuple[Path, ...]:
    data = read_bytes(path)
    try:
        table = json.loads(data)["weight_map"]
        names = sorted({str(name) for name in table.values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = LFS_POINTER if is_lfs_pointer(data) else "it is no index of shards"
        raise CheckpointError(f"{path}: {why}. Fetch it again.") from error
    for name in names:
        if not name or Path(name).name != name or name in (".", ".."):
            raise CheckpointError(f"{path} names the shard {name!r}, which is no plain file name. Do not use it.")
    return _all_there([path.parent / name for name in names])


def _siblings(path: Path) -> tuple[Path, ...]:
    match = SHARD.fullmatch(path.name)
    assert match is not None  # every caller has looked
    count = int(match["count"])
    names = [f"{match['stem']}-{number:05}-of-{count:05}{ENDING}" for number in range(1, count + 1)]
    return _all_there([path.parent / name for name in names])


def _all_there(files: list[Path]) -> tuple[Path, ...]:
    if missing := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(
            f"of {len(files)} shards {len(missing)} are not in {files[0].parent}: {', '.join(missing[:6])}. "
            "Fetch them too."
        )
    if not files:
        raise CheckpointError("the index names no shard. Fetch it again.")
    return tuple(files)


def _raw(path: Path) -> RawFile:
    head, _ = read_head(path)
    if is_lfs_pointer(head):
        raise CheckpointError(f"{path}: {LFS_POINTER}. {LFS_ADVICE}")
    _refuse_ours(path, head)
    try:
        return read_tensors(path, head)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no whole safetensors file ({error}). Fetch it again.") from error


def _array(path: Path, key: str, entry: RawTensor) -> SourceArray:
    code = entry.dtype
    if code not in DTYPES:
        raise CheckpointError(f"{path}: {key} is stored as {code}, which cannot be read. Save it as F32, F16 or BF16.")
    values = np.frombuffer(entry.data, np.dtype(DTYPES[code]).newbyteorder("<"))
    if code == "BF16":  # the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    elif code == "BOOL":
        values = values != 0
    return SourceArray(values.reshape(entry.shape), NAMES.get(code, code.lower()))


def _header(path: Path) -> bytes:
    """A file up to the end of its header."""
    return read_head(path)[0] if path.is_file() else b""


def _is_ours(data: bytes) -> bool:
    """Whether a file that begins so has our header."""
    size = int.from_bytes(data[:8], "little")
    try:
        metadata = json.loads(data[8 : 8 + min(size, len(data))]).get("__metadata__")
    except (ValueError, AttributeError, RecursionError):
        return False  # the library will say what is wrong
    return isinstance(metadata, dict) and KEY in metadata


def _refuse_ours(path: Path, data: bytes) -> None:
    if _is_ours(data):
        raise CheckpointError(
            f"{path} is converted already: every command takes it as it is, for instance `hear-models info {path}`."
        )
