"""From a file in an official format to `Source`: arrays by key, and what the file says beside them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.checkpoints.flax_msgpack import find_checkpoint, read_flax
from hear_models.checkpoints.mapping import Official, Source, SourceArray
from hear_models.checkpoints.torch_file import find_state_dict, read_torch_file, state_dict_key
from hear_models.checkpoints.torch_legacy import HEAD_BYTES, is_legacy_head
from hear_models.checkpoints.torch_opening import holds_torch_file
from hear_models.errors import CheckpointError, FileError
from hear_models.foreign import open_plain, reading


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


def read_flax_parameters(path: str | os.PathLike[str], official: Official) -> Source:
    """The tensors of a Flax checkpoint file, or of the newest in a training folder, by the entries of its top level
    that the family asks for (`params`, often `batch_stats`); everything else is passed over."""
    with reading(path, CheckpointError, "Fetch it again."):
        file, config_file = find_checkpoint(path)
        wanted = tuple(official.collections)
        flax = read_flax(file, only=(*wanted, "step"))
        arrays: dict[str, SourceArray] = {}
        for key, entry in flax.entries.items():
            if key.split("/")[0] in wanted:
                if isinstance(entry.value, dict):  # an empty one: nothing is frozen
                    continue
                if not isinstance(entry.value, np.ndarray):
                    raise CheckpointError(
                        f"{file}: {key} is {entry.dtype}, not an array. The file is not an official checkpoint."
                    )
                arrays[key] = SourceArray(entry.value, entry.dtype)
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


def read_torch_parameters(path: str | os.PathLike[str], official: Official) -> Source:
    """The network's tensors of a file of torch.save (see `find_state_dict`); what else it says goes into `said`.

    The optimiser's tensors are not read. Of an archive or a folder the only torch file in it is taken.
    """
    with reading(path, CheckpointError, "Fetch it again."):
        file = read_torch_file(path)
        try:
            entry = state_dict_key(file.content)
            state = find_state_dict(file.content, entry)
            arrays = {key: SourceArray(tensor.array(), tensor.dtype) for key, tensor in state.items()}
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
        ignored = () if entry is None else tuple(str(key) for key in said if key != entry)
        return Source(arrays, None, description, ignored, said, file.names, file.notes)


READERS: dict[str, Callable[[str | os.PathLike[str], Official], Source]] = {
    "flax": read_flax_parameters,
    "torch": read_torch_parameters,
}
