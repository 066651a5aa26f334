"""An official checkpoint → our file: read, recognise, rename, infer the configuration, check every shape, write."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hear_models.checkpoints.licences import acceptance, licence_note, read_licence
from hear_models.checkpoints.manifest import read_manifests
from hear_models.checkpoints.mapping import Official, Row, Shapes, Source, SourceArray, apply_rules, check_shapes
from hear_models.checkpoints.readers import format_of, reader_for
from hear_models.checkpoints.safetensors_file import part_of, write_checkpoint
from hear_models.checkpoints.safetensors_foreign import is_foreign
from hear_models.checkpoints.torch_opening import holds_torch_file
from hear_models.errors import CheckpointError, UsageError
from hear_models.fields import check_fields
from hear_models.foreign import LARGEST_JSON, parse_json, read_bytes
from hear_models.zoo.families import FamilyModule, families, family_module, new_model, officials

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


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
    licence: str | None = None  # as the file's header says it; None: as the manifests say
    notes: tuple[str, ...] = ()  # what was met in the official file and not understood
    others: tuple[str, ...] = ()  # entries of it with other networks, which a key would choose


def convert(
    family: str,
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    force: bool = False,
    dtype: str = "float32",
    accept_licence: bool = False,
    notes: Mapping[str, Any] | None = None,
    key: str | None = None,
) -> Conversion:
    """Convert an official checkpoint and write it as a `.safetensors` file that `load_model(path)` takes.

    Args:
        family: a module of hear_models that declares `OFFICIAL`, for instance "mwmae".
        source: the official file or the folder around it. Flax: of `checkpoint_<step>` files the newest is taken.
            torch: a .pth, .pt or .ckpt file, packed by xz or not, or a folder or zip archive that holds exactly one.
            The same tensors may come in a .safetensors file, in shards beside their index, or in a folder of those.
        output: the file to write, ending in `.safetensors`.
        config: the trainer's configuration (JSON); default: of Flax checkpoints `config.json` beside the file, if it
            is there; of torch files what the trainer saved in the file, of which `config` replaces entries.
        overrides: fields of the family's Config that the file cannot say, for instance {"encoder_heads": 12}.
        force: overwrite `output`.
        dtype: storage, "float32" or "float16".
        accept_licence: you read the licence of the weights and keep to it; needed where `acceptance` has lines. The
            converted file carries the licence, and `publish` refuses it if that forbids copies.
        notes: what else the header is to say.
        key: which network of the file, where it holds several: an entry ("model_ema", "teacher"), one in an entry
            ("ema/module"), or what the keys of its tensors begin with.

    Raises:
        UsageError: unknown family or field, `output` exists or has another ending, a licence that was not accepted.
        CheckpointError: anything wrong with the file or the configuration; nothing is written then.
    """
    official = _choose(family, source)
    module = family_module(family)
    if official.licence is not None and not accept_licence and (lines := acceptance(official.licence)):
        raise UsageError(
            f"the weights of {family} are under the {official.licence}.\n"
            + "\n".join(lines)
            + "\nIf you accept it, add --accept-license (in Python: accept_licence=True)."
        )
    output = Path(output)
    if output.suffix != ".safetensors":
        raise UsageError(f"the output {output} does not end in .safetensors. Give it that ending.")
    if output.exists() and not force:
        raise UsageError(f"{output} exists. Choose another name, or overwrite it with --force.")
    if not output.parent.is_dir():
        raise UsageError(f"the folder {output.parent} does not exist. Make it first.")
    given = check_fields(module.Config, overrides or {})

    read = reader_for(source, official)(source, official, key)
    right = official.recognise(read.arrays)
    if right is not None and right != family:
        raise CheckpointError(
            f"{source} is a checkpoint of {right}, not of {family}. Use `hear-models convert {right}`."
        )
    config_file = Path(config) if config is not None else read.config_file
    try:
        trainer = {**read.said, **({"names": read.names} if read.names else {})}
        if config_file is not None:
            trainer |= _read_trainer_config(config_file, official.settings_keys)
        if official.observe is not None:
            trainer |= _asked(official.observe, read)
        unused = read.ignored + tuple(key for key in read.arrays if _dropped(key, official))
        prepared = dict(_prepared(official, read))
        read = replace(read, arrays={}, said={})  # gigabytes that go one by one now
        tensors, rows = apply_rules(prepared, official.rules)
        values = _infer(official, Shapes({row.name: row.shape for row in rows}, official.rules), trainer, given)
        values = check_fields(module.Config, values)
        parts = tuple(sorted({part_of(name) for name in tensors}, key=("encoder", "decoder").index))
        check_shapes(rows, expected_shapes(module, values, parts), official.rules)
    except CheckpointError as error:
        raise CheckpointError(f"{read.description['file']}: {error}") from error

    parameters = sum(value.size for value in tensors.values())
    sha256 = write_checkpoint(
        output,
        family=family,
        config=values,
        tensors=_as_torch(tensors),
        source=read.description,
        notes={**(notes or {}), **({} if official.licence is None else licence_note(official.licence))},
        dtype=dtype,
    )
    return Conversion(
        family,
        values,
        rows,
        unused,
        read.description,
        None if config_file is None else str(config_file),
        str(output),
        parts,
        parameters,
        sha256,
        None if official.licence is None else _licence_line(official.licence),
        read.notes,
        read.others,
    )


def convertible() -> list[str]:
    """The families whose official checkpoints a manifest describes, in the order of their names."""
    return sorted({manifest.family for manifest in read_manifests().values() if manifest.original is not None})


def _choose(family: str, source: str | os.PathLike[str]) -> Official:
    """How the family's checkpoints of the source's format are read; UsageError if none of the family's are known."""
    known = officials(family) if family in families() else ()
    if not known:
        raise UsageError(f"there is no converter for the family {family!r}. Use one of {', '.join(convertible())}.")
    if len(known) == 1:
        return known[0]
    if Path(source).exists() and is_foreign(Path(source), any_name=not holds_torch_file(Path(source))):
        return next((official for official in known if official.format == "torch"), known[0])
    found = format_of(source)
    fitting = [official for official in known if official.format == found]
    if not fitting:
        formats = " and ".join(official.format for official in known)
        raise CheckpointError(f"{source} is a file of {found}; official checkpoints of {family} are of {formats}.")
    return fitting[0]


def _as_torch(tensors: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Arrays as tensors, in the same memory where it may be written to; `tensors` is emptied on the way."""
    import torch

    taken = {}
    for name in list(tensors):
        value = tensors.pop(name)
        taken[name] = torch.from_numpy(value if value.flags.writeable else value.copy())
    return taken


def _licence_line(name: str) -> str:
    terms = read_licence(name).terms
    return f"{name} ({terms})" if terms else name


def _dropped(key: str, official: Official) -> bool:
    return any(re.fullmatch(pattern, key) for pattern in official.drop)


def _prepared(official: Official, read: Source) -> Mapping[str, SourceArray]:
    """The arrays that the rules are applied to: without those that no network needs, changed by the family."""
    kept = replace(read, arrays={key: array for key, array in read.arrays.items() if not _dropped(key, official)})
    return kept.arrays if official.prepare is None else _asked(official.prepare, kept)


def _asked(function: Callable[[Source], Mapping[str, T]], source: Source) -> Mapping[str, T]:
    """What a family's function says of a file; whatever it stumbles over is the file's fault."""
    try:
        return function(source)
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise CheckpointError(f"the file is not as the official code writes it ({error}). Fetch it again.") from error


def _infer(official: Official, shapes: Shapes, trainer: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return official.infer(shapes, trainer, given)
    except (TypeError, ValueError, AttributeError, LookupError, ZeroDivisionError, OverflowError) as error:
        raise CheckpointError(
            f"the trainer's configuration holds values of the wrong kind ({error}). Check --config."
        ) from error


def expected_shapes(
    module: FamilyModule, values: Mapping[str, Any], parts: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the network's tensors, from a network without memory (torch's meta device)."""
    try:
        config = module.Config(**values)
        network = new_model(module, config, seed=None, **({"decoder": True} if "decoder" in parts else {}))
    except (ValueError, RuntimeError, TypeError, AssertionError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"the configuration {dict(values)} gives no network ({error}). Check --config and --set."
        ) from error
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _read_trainer_config(path: Path, needed: Sequence[str]) -> dict[str, Any]:
    try:
        content = parse_json(read_bytes(path, LARGEST_JSON))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}). Give the trainer's config.json.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a trainer's configuration, but a {type(content).__name__}. Give another.")
    for key in needed:
        if not isinstance(content.get(key), dict):
            raise CheckpointError(
                f"{path} is not a trainer's configuration: it has no {key!r}. Give the config.json of the checkpoint."
            )
    return content


def as_plain_data(conversion: Conversion) -> dict[str, Any]:
    """The conversion as what JSON can hold."""
    return asdict(conversion)
