"""Our checkpoint file: safetensors whose header says what the network is, and whose digest is verified at every load.

The header's metadata has one entry, "hear_models": canonical JSON with the fields of `Header`. Its `digest` is a sha256
over the rest of that JSON and over name, dtype, shape and bytes of every tensor in the order of their names. The format
itself checks sizes but loads a flipped bit silently; the digest does not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from hear_models.checkpoints.safetensors_raw import MAX_HEADER_BYTES, RawFile, read_head, read_tensors
from hear_models.errors import CheckpointError, FileError
from hear_models.files import unwritable, whole_file
from hear_models.foreign import LFS_ADVICE, LFS_POINTER, file_sha256, is_lfs_pointer, parse_json
from hear_models.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
KEY = "hear_models"
PARTS = ("encoder", "decoder")
STORED = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
HOW_TO_GET = "Official checkpoints are converted by `hear-models convert FAMILY INPUT OUTPUT.safetensors`."


@dataclass(frozen=True)
class Header:
    """What a checkpoint says about itself."""

    family: str  # the module's name in hear_models
    config: dict[str, Any]  # fields of the family's Config
    parts: tuple[str, ...]  # "encoder", "decoder": tensors named "decoder.*" are the decoder
    trained: bool  # False: random weights, not to be published as results
    source: dict[str, Any] | None = None  # of a conversion: file name, sha256, format
    notes: dict[str, Any] = field(default_factory=dict)  # free: recipe, steps, licence of the weights
    converter: str = f"hear-models {__version__}"
    format: int = FORMAT


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: header, tensors (float32, by the family's state_dict names), and the file's sha256."""

    header: Header
    tensors: dict[str, Tensor]
    path: str
    sha256: str
    n_bytes: int

    @property
    def family(self) -> str:
        return self.header.family

    @property
    def config(self) -> dict[str, Any]:
        return self.header.config

    @property
    def parts(self) -> tuple[str, ...]:
        return self.header.parts

    @property
    def source(self) -> dict[str, Any] | None:
        return self.header.source

    @property
    def trained(self) -> bool:
        return self.header.trained


def part_of(name: str) -> str:
    """The part a tensor belongs to: "decoder" for "decoder.*", else "encoder"."""
    return "decoder" if name.startswith("decoder.") else "encoder"


def write_checkpoint(
    path: str | os.PathLike[str],
    *,
    family: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    parts: Collection[str] | None = None,
    trained: bool = True,
    source: Mapping[str, Any] | None = None,
    notes: Mapping[str, Any] | None = None,
    dtype: str = "float32",
) -> str:
    """Write a checkpoint, whole or not at all, and return the sha256 of the file. Equal arguments give equal bytes.

    Args:
        path: the `.safetensors` file; overwritten if it exists.
        family: name of the family's module.
        config: fields of the family's Config; tuples are stored as lists.
        tensors: by the names of the family's state_dict; stored as `dtype`.
        parts: keep only these parts ("encoder", "decoder"); None keeps what `tensors` holds.
        trained: False for random weights.
        source: of converted weights: file name, sha256, format.
        notes: anything worth keeping that JSON can hold.
        dtype: "float32", "float16" (half the size; read back as float32) or "bfloat16".

    Raises:
        CheckpointError: a tensor holds NaN or infinity (also: a value too large for float16), a part has no tensor, or
            the file cannot be written.
    """
    import safetensors.torch
    import torch

    if dtype not in STORED:
        raise CheckpointError(f"dtype {dtype!r} cannot be stored. Use one of {', '.join(STORED)}.")
    present = {part_of(name) for name in tensors}
    kept = tuple(sorted(present if parts is None else set(parts), key=PARTS.index))
    if missing := set(kept) - present:
        raise CheckpointError(
            f"there is no tensor of the part {sorted(missing)[0]!r} to write. Give its tensors or leave it out."
        )
    stored: dict[str, Tensor] = {}
    places: set[int] = set()
    for name in sorted(tensors):
        if part_of(name) not in kept:
            continue
        value = tensors[name].detach().cpu().to(getattr(torch, dtype)).contiguous()
        if value.untyped_storage().nbytes() != value.nbytes or value.data_ptr() in places:
            value = value.clone()  # the library writes no tensor that shares its memory
        places.add(value.data_ptr())
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{name} holds NaN, infinity or a value beyond {dtype}. Nothing was written; check the training."
            )
        stored[name] = value
    header = Header(family, dict(config), kept, trained, None if source is None else dict(source), dict(notes or {}))
    pieces = ((name, STORED[dtype], list(value.shape), _bytes_of(value)) for name, value in stored.items())
    metadata = {**asdict(header), "digest": _digest(asdict(header), pieces)}
    target = Path(path)
    if target.is_dir():
        raise CheckpointError(f"{target} is a folder. Name a file to write.")
    try:
        with whole_file(target) as part:
            safetensors.torch.save_file(stored, part, metadata={KEY: _canonical(metadata)})
            return file_sha256(part)
    except OSError as error:
        raise CheckpointError(unwritable(target, error)) from error
    except safetensors.SafetensorError as error:  # of the library's own writing: a full disk
        raise CheckpointError(f"{target} cannot be written: {error}. Check the folder and the free space.") from error


def read_checkpoint(
    path: str | os.PathLike[str], parts: Collection[str] = ("encoder",), sha256: str | None = None
) -> Checkpoint:
    """Read and verify a checkpoint: every byte of the file is covered by its digest.

    Args:
        path: the `.safetensors` file.
        parts: the parts whose tensors are returned (as float32); a part that the file lacks is an error.
        sha256: of the whole file, from a manifest; None: not known.

    Raises:
        CheckpointError: not a safetensors file, without our header, altered or incomplete, another sha256, or a part is
            not there.
    """
    import torch

    header, raw = _verified(path, sha256)
    if missing := [part for part in parts if part not in header.parts]:
        raise CheckpointError(
            f"{path} holds no {missing[0]}, only: {', '.join(header.parts)}. Take the file with that part."
        )
    dtypes = {code: getattr(torch, name) for name, code in STORED.items()}
    tensors: dict[str, Tensor] = {}
    for name in list(raw.tensors):
        entry = raw.tensors.pop(name)
        if entry.dtype not in dtypes:
            raise CheckpointError(
                f"{path}: {name} is stored as {entry.dtype}, which no model here uses. Convert it again."
            )
        if part_of(name) in parts:
            flat = torch.frombuffer(entry.data, dtype=dtypes[entry.dtype]) if entry.data else torch.empty(0)
            tensors[name] = flat.reshape(entry.shape).float()
    return Checkpoint(header, tensors, str(path), raw.sha256, raw.n_bytes)


def verify(
    path: str | os.PathLike[str], sha256: str | None = None
) -> tuple[Header, dict[str, tuple[str, tuple[int, ...]]], str]:
    """Check every byte of a checkpoint, without torch: (header, {name: (dtype, shape)}, sha256 of the file)."""
    header, raw = _verified(path, sha256)
    return header, {name: (entry.dtype, entry.shape) for name, entry in raw.tensors.items()}, raw.sha256


def read_header(path: str | os.PathLike[str]) -> Header:
    """What a checkpoint says about itself, without torch and without reading the tensors."""
    return _parse_header(path, *_head(path))[0]


def _head(path: str | os.PathLike[str]) -> tuple[bytes, int]:
    try:
        return read_head(path)
    except FileError as error:
        raise CheckpointError(str(error)) from error


def _verified(path: str | os.PathLike[str], sha256: str | None) -> tuple[Header, RawFile]:
    head, n_bytes = _head(path)
    try:
        header, digest = _parse_header(path, head, n_bytes)
        raw = read_tensors(path, head)
    except CheckpointError:
        if sha256 is not None and (found := file_sha256(path)) != sha256:
            raise CheckpointError(_another(path, found, sha256)) from None
        raise
    except (FileError, ValueError, RecursionError) as error:
        if sha256 is not None and (found := file_sha256(path)) != sha256:
            raise CheckpointError(_another(path, found, sha256)) from error
        raise CheckpointError(f"{path} is damaged ({error}). Replace it by an intact copy.") from error
    if sha256 is not None and raw.sha256 != sha256:
        raise CheckpointError(_another(path, raw.sha256, sha256))
    pieces = ((name, entry.dtype, list(entry.shape), entry.data) for name, entry in sorted(raw.tensors.items()))
    if _digest(asdict(header), pieces) != digest:
        raise CheckpointError(
            f"{path} was altered or damaged: its content does not match its digest. Replace it by an intact copy."
        )
    return header, raw


def _another(path: str | os.PathLike[str], found: str, expected: str) -> str:
    return (
        f"{path} is not the file that its manifest describes: sha256 {found[:16]}..., expected {expected[:16]}... "
        "Replace it by an intact copy."
    )


def _parse_header(path: str | os.PathLike[str], data: bytes, n_bytes: int) -> tuple[Header, str]:
    size = int.from_bytes(data[:8], "little")
    if is_lfs_pointer(data):
        raise CheckpointError(f"{path}: {LFS_POINTER}. {LFS_ADVICE}")
    if len(data) < 10 or data[8:9] != b"{" or not 2 <= size <= min(n_bytes - 8, MAX_HEADER_BYTES):
        raise CheckpointError(f"{path} is not a whole safetensors file. {HOW_TO_GET}")
    try:
        outer = parse_json(data[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has a damaged safetensors header. Replace it by an intact copy.") from error
    metadata = outer.get("__metadata__") if isinstance(outer, dict) else None
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise CheckpointError(
            f"{path} carries no configuration of hear-models in its header: another program wrote it. If its tensors "
            f"are those of a family here, `hear-models convert FAMILY {path} OUTPUT.safetensors` makes one that does."
        )
    try:
        content = parse_json(text)
        if _canonical(content) != text:
            raise ValueError("not canonical")
        digest = content.pop("digest")
        if content["format"] != FORMAT:
            raise CheckpointError(
                f"{path} has format version {content['format']!r}; this version of hear-models reads {FORMAT}. "
                "Update hear-models."
            )
        if set(content) != {f.name for f in fields(Header)}:
            raise ValueError("fields")
        if not (
            isinstance(content["family"], str)
            and isinstance(content["config"], dict)
            and isinstance(content["parts"], list)
            and all(part in PARTS for part in content["parts"])
            and isinstance(content["trained"], bool)
            and isinstance(content["source"], (dict, NoneType))
            and isinstance(content["notes"], dict)
            and isinstance(content["converter"], str)
            and isinstance(digest, str)
        ):
            raise ValueError("types")
        return Header(**{**content, "parts": tuple(content["parts"])}), digest
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} has a damaged description in its header. Replace it by an intact copy."
        ) from error


def _canonical(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _digest(header: Mapping[str, Any], pieces: Iterable[tuple[str, str, list[int], Any]]) -> str:
    """sha256 over the header and every tensor's name, dtype, shape and bytes, each length-delimited."""
    digest = hashlib.sha256(_canonical(header).encode())
    for name, dtype, shape, data in pieces:
        digest.update(b"\n" + _canonical([name, dtype, shape, len(data)]).encode() + b"\n")
        digest.update(data)
    return digest.hexdigest()


def _bytes_of(value: Tensor) -> Any:
    import torch

    return value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b""
