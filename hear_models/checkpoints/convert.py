"""An official checkpoint → our file: read, recognise, rename, infer the configuration, check every shape, write."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.checkpoints.fields import check_fields
from hear_models.checkpoints.files import read_bytes
from hear_models.checkpoints.flax_msgpack import find_checkpoint, read_flax
from hear_models.checkpoints.licences import licence_note
from hear_models.checkpoints.mapping import Official, Row, Shapes, SourceArray, apply_rules, check_shapes
from hear_models.checkpoints.safetensors_file import part_of, write_checkpoint
from hear_models.errors import CheckpointError, UsageError

FAMILIES = ("mwmae", "mae")


@dataclass(frozen=True)
class Source:
    """What a reader returns: arrays by key, the trainer's configuration file if one lies there, and a description."""

    arrays: dict[str, SourceArray]
    config_file: Path | None
    description: dict[str, Any]  # file, format, sha256, bytes, and what else the file says (step)
    ignored: tuple[str, ...]  # parts of the file that no network needs


@dataclass(frozen=True)
class Conversion:
    """What was written, and from what."""

    family: str
    config: dict[str, Any]
    rows: list[Row]
    ignored: tuple[str, ...]
    source: dict[str, Any]
    config_file: str | None
    output: str
    parts: tuple[str, ...]
    parameters: int
    sha256: str


def read_flax_parameters(path: str | os.PathLike[str]) -> Source:
    """The `params` of a Flax checkpoint file, or of the newest in a training folder; everything else is passed over."""
    file, config_file = find_checkpoint(path)
    flax = read_flax(file, only=("params", "step"))
    arrays: dict[str, SourceArray] = {}
    for key, entry in flax.entries.items():
        if key.startswith("params/"):
            if not isinstance(entry.value, np.ndarray):
                raise CheckpointError(
                    f"{file}: {key} is {entry.dtype}, not an array. The file is not an official checkpoint."
                )
            arrays[key] = SourceArray(entry.value, entry.dtype)
    if not arrays:
        raise CheckpointError(
            f"{file} holds no parameters under 'params'; its top level is: {', '.join(flax.top_level) or 'empty'}. "
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
    ignored = tuple(key for key in flax.top_level if key not in ("params", "step"))
    return Source(arrays, config_file, description, ignored)


READERS: dict[str, Callable[[str | os.PathLike[str]], Source]] = {"flax": read_flax_parameters}


def convert(
    family: str,
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    force: bool = False,
    dtype: str = "float32",
) -> Conversion:
    """Convert an official checkpoint and write it as a `.safetensors` file that `load_model(path)` takes.

    Args:
        family: "mwmae" or "mae".
        source: the official file, or the training folder that holds `checkpoint_<step>` files (the newest is taken).
        output: the file to write, ending in `.safetensors`.
        config: the trainer's configuration (JSON); default: `config.json` beside the checkpoint, if it is there.
        overrides: fields of the family's Config that the file cannot say, for instance {"encoder_heads": 12}.
        force: overwrite `output`.
        dtype: storage, "float32" or "float16".

    Raises:
        UsageError: unknown family or field, `output` exists or has another ending.
        CheckpointError: anything wrong with the file or the configuration; nothing is written then.
    """
    if family not in FAMILIES:
        raise UsageError(f"there is no converter for the family {family!r}. Use one of {', '.join(FAMILIES)}.")
    output = Path(output)
    if output.suffix != ".safetensors":
        raise UsageError(f"the output {output} does not end in .safetensors. Give it that ending.")
    if output.exists() and not force:
        raise UsageError(f"{output} exists. Choose another name, or overwrite it with --force.")
    if not output.parent.is_dir():
        raise UsageError(f"the folder {output.parent} does not exist. Make it first.")
    module = import_module(f"hear_models.{family}")
    official: Official = module.OFFICIAL
    given = check_fields(module.Config, overrides or {})

    read = READERS[official.format](source)
    right = official.recognise(read.arrays)
    if right is not None and right != family:
        raise CheckpointError(
            f"{source} is a checkpoint of {right}, not of {family}. Use `hear-models convert {right}`."
        )
    config_file = Path(config) if config is not None else read.config_file
    trainer = _read_trainer_config(config_file) if config_file is not None else {}
    try:
        tensors, rows = apply_rules(read.arrays, official.rules)
        values = _infer(official, Shapes({row.name: row.shape for row in rows}, official.rules), trainer, given)
        values = check_fields(module.Config, values)
        parts = tuple(sorted({part_of(name) for name in tensors}, key=("encoder", "decoder").index))
        check_shapes(rows, expected_shapes(module, values, parts), official.rules)
    except CheckpointError as error:
        raise CheckpointError(f"{read.description['file']}: {error}") from error

    import torch

    sha256 = write_checkpoint(
        output,
        family=family,
        config=values,
        tensors={name: torch.from_numpy(np.array(value)) for name, value in tensors.items()},
        source=read.description,
        notes=None if official.licence is None else licence_note(official.licence),
        dtype=dtype,
    )
    return Conversion(
        family,
        values,
        rows,
        read.ignored,
        read.description,
        None if config_file is None else str(config_file),
        str(output),
        parts,
        sum(value.size for value in tensors.values()),
        sha256,
    )


def _infer(official: Official, shapes: Shapes, trainer: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return official.infer(shapes, trainer, given)
    except (TypeError, ValueError, AttributeError, LookupError, ZeroDivisionError, OverflowError) as error:
        raise CheckpointError(
            f"the trainer's configuration holds values of the wrong kind ({error}). Check --config."
        ) from error


def expected_shapes(module: Any, values: Mapping[str, Any], parts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the network's tensors, from a network without memory (torch's meta device)."""
    try:
        config = module.Config(**values)
        network = module.Model(config, seed=None, **({"decoder": True} if "decoder" in parts else {}))
    except (ValueError, RuntimeError, TypeError, AssertionError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"the configuration {dict(values)} gives no network ({error}). Check --config and --set."
        ) from error
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _read_trainer_config(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}). Give the trainer's config.json.") from error
    if not (isinstance(content, dict) and isinstance(content.get("model"), dict)):
        raise CheckpointError(
            f"{path} is not a trainer's configuration: it has no 'model'. Give the config.json of the checkpoint."
        )
    return content


def as_plain_data(conversion: Conversion) -> dict[str, Any]:
    """The conversion as what JSON can hold."""
    return asdict(conversion)
