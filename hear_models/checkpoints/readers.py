"""From a file in an official format to `Source`: arrays by key, and what the file says beside them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.checkpoints.flax_msgpack import find_checkpoint, read_flax
from hear_models.checkpoints.mapping import Official, Source, SourceArray
from hear_models.checkpoints.safetensors_foreign import is_foreign, read_foreign
from hear_models.checkpoints.state_keys import below, parts_of, unwrapped
from hear_models.checkpoints.torch_file import find_state_dict, networks_in, read_torch_file, state_dict_key
from hear_models.checkpoints.torch_legacy import HEAD_BYTES, is_legacy_head
from hear_models.checkpoints.torch_opening import holds_torch_file
from hear_models.errors import CheckpointError, FileError
from hear_models.foreign import open_plain, reading

SAFETENSORS = "safetensors"
Reader = Callable[["str | os.PathLike[str]", Official, "str | None"], Source]


def format_of(path: str | os.PathLike[str]) -> str:
    """Which reader a file is for, by its first bytes; a folder by what it holds: "torch" or "flax"."""
    place = Path(path)
    if place.is_dir():
        return "torch" if holds_torch_file(place) else "flax"
    try:
        with open_plain(place) as file:
            head = file.read(HEAD_BYTES)
    except FileError as error:
        raise CheckpointError(str(error)) from error
    return "torch" if head.startswith((b"PK\x03\x04", b"\xfd7zXZ\0")) or is_legacy_head(head) else "flax"


def reader_for(path: str | os.PathLike[str], official: Official) -> Reader:
    """That of the family's official format, or of safetensors with the same tensors in them."""
    place = Path(path)
    try:
        if place.is_dir() and official.format == "torch" and holds_torch_file(place):
            return READERS["torch"]
        if is_foreign(place, any_name=official.format == "torch"):
            return READERS[SAFETENSORS]
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}. Check the path.") from error
    return READERS[official.format]


def read_flax_parameters(path: str | os.PathLike[str], official: Official, key: str | None = None) -> Source:
    """The tensors of a Flax checkpoint file, or of the newest in a training folder, by the entries of its top level
    that the family asks for (`params`, often `batch_stats`); everything else is passed over. `key` names an entry that
    takes the place of the first of them, such as an average of the weights."""
    with reading(path, CheckpointError, "Fetch it again."):
        file, config_file = find_checkpoint(path)
        first = official.collections[0]
        wanted = tuple(official.collections) if key is None else (key, *official.collections[1:])
        flax = read_flax(file, only=(*wanted, "step"))
        arrays: dict[str, SourceArray] = {}
        for name, entry in flax.entries.items():
            if name.split("/")[0] in wanted:
                if isinstance(entry.value, dict):  # an empty one: nothing is frozen
                    continue
                if not isinstance(entry.value, np.ndarray):
                    raise CheckpointError(
                        f"{file}: {name} is {entry.dtype}, not an array. The file is not an official checkpoint."
                    )
                official_name = name if key is None or name.split("/")[0] != key else f"{first}{name[len(key) :]}"
                arrays[official_name] = SourceArray(entry.value, entry.dtype)
        if not arrays:
            raise CheckpointError(
                f"{file} holds no parameters under {' or '.join(map(repr, wanted))}; "
                f"its top level is: {', '.join(flax.top_level) or 'empty'}. "
                "Name a checkpoint_<step> of the official training."
            )
        description: dict[str, Any] = {
            "file": file.name,
            "format": "Flax MessagePack",
            "sha256": flax.sha256,
            "bytes": flax.n_bytes,
        }
        step = flax.entries.get("step")
        if step is not None and np.ndim(step.value) == 0 and isinstance(step.value, (int, np.ndarray, np.generic)):
            description["step"] = int(step.value)
        ignored = tuple(key for key in flax.top_level if key not in (*wanted, "step"))
        return Source(arrays, config_file, description, ignored)


def read_torch_parameters(path: str | os.PathLike[str], official: Official, key: str | None = None) -> Source:
    """The network's tensors of a file of torch.save (`find_state_dict`, by `key`); what else it says goes into `said`.

    The optimiser's tensors are not read. Of an archive or a folder the only torch file in it is taken.
    """
    with reading(path, CheckpointError, "Fetch it again."):
        file = read_torch_file(path)
        try:
            entry = state_dict_key(file.content) if key is None else key
            state = find_state_dict(file.content, key)
            arrays = {name: SourceArray(tensor.array(), tensor.dtype) for name, tensor in state.items()}
            said = file.values if isinstance(file.values, dict) else {}
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
        description: dict[str, Any] = {
            "file": file.names[-1],
            "format": file.format,
            "sha256": file.sha256,
            "bytes": file.n_bytes,
        }
        if file.archive is not None:
            description |= {"archive_sha256": file.archive_sha256, "archive_bytes": file.archive.length}
        if type(said.get("epoch")) is int:
            description["epoch"] = said["epoch"]
        if key is not None:
            description["key"] = key
        ignored = () if entry is None else tuple(str(name) for name in said if name != entry)
        others = tuple(name for name in networks_in(file.content) if name != entry)
        return Source(arrays, None, description, ignored, said, file.names, file.notes, others)


def read_safetensors_parameters(path: str | os.PathLike[str], official: Official, key: str | None = None) -> Source:
    """The tensors of safetensors files that another program wrote, by the keys of the family's official format."""
    found = read_foreign(path)
    arrays = unwrapped(found.arrays)
    if key is not None:
        arrays = unwrapped(below(arrays, key))
        if not arrays:
            raise CheckpointError(
                f"{path}: no keys begin with {key!r}; they begin with {', '.join(parts_of(found.arrays)[:12])}."
            )
    if official.format == "flax":  # there keys are parted by slashes, below their collection
        arrays = {name.replace(".", "/"): array for name, array in arrays.items()}
        if not any(name.split("/")[0] in official.collections for name in arrays):
            arrays = {f"{official.collections[0]}/{name}": array for name, array in arrays.items()}
    first = found.files[0]
    description: dict[str, Any] = {
        "file": first.name if len(found.files) == 1 else f"{first.name} and {len(found.files) - 1} more",
        "format": "safetensors",
        "sha256": found.sha256,
        "bytes": found.n_bytes,
        **({"key": key} if key is not None else {}),
    }
    config = first.parent / "config.json"
    ours = config if official.format == "flax" and config.is_file() else None
    return Source(arrays, ours, description, (), {}, (first.absolute().parent.name, first.name))


READERS: dict[str, Reader] = {
    SAFETENSORS: read_safetensors_parameters,
    "flax": read_flax_parameters,
    "torch": read_torch_parameters,
}
