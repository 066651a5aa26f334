"""From a name to a model in four steps: resolve → read → build → fill."""

from __future__ import annotations

import difflib
import inspect
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from hear_models.checkpoints.fields import check_fields
from hear_models.checkpoints.safetensors_file import Checkpoint, read_checkpoint, read_header
from hear_models.errors import CheckpointError, UsageError
from hear_models.pipeline.model import CheckpointInfo, HearModel
from hear_models.zoo.registry import ModelEntry, default_entry, list_models, near_names

SEED_OF_UNTRAINED = 0
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
NOT_OPTIONS = ("self", "config", "seed")  # parameters of a family's Model that are not the user's to set
_warned: set[str] = set()


@dataclass(frozen=True)
class Resolved:
    """What a name means: a family, the manifest if it has one, and the file of weights if there is one."""

    name: str
    family: str
    entry: ModelEntry | None
    path: Path | None
    sha256: str | None  # that the file must have


def load(name_or_path: str | os.PathLike[str], family: str | None, options: Mapping[str, Any]) -> HearModel:
    """See `hear_models.zoo.load_model`."""
    resolved = resolve(name_or_path, family)
    module = import_module(f"hear_models.{resolved.family}")
    model_options, dtype, device = check_options(module, options)
    parts = ("encoder", "decoder") if model_options.get("decoder") else ("encoder",)
    checkpoint = read(resolved, parts)
    promised = resolved.entry.manifest.configuration if resolved.entry else {}
    model = build(module, checkpoint.config if checkpoint else promised, model_options, resolved.name, not checkpoint)
    if checkpoint:
        if resolved.entry:
            compare(model, module.Config(**check_fields(module.Config, promised)), resolved)
        fill(model, checkpoint)
    else:
        warn_if_untrained(resolved)
    model.checkpoint = CheckpointInfo(
        resolved.name,
        checkpoint.path if checkpoint else None,
        checkpoint.sha256 if checkpoint else None,
        checkpoint.trained if checkpoint else bool(resolved.entry and resolved.entry.trained),
    )
    if dtype is not torch.float32:
        model.use_dtype(dtype)
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError) as error:  # torch without CUDA raises AssertionError
        raise UsageError(
            f"the device {str(device)!r} cannot be used ({error}). Take another, for instance 'cpu'."
        ) from error


# ---------------------------------------------------------------------------------------------------- 1. resolve
def resolve(name_or_path: str | os.PathLike[str], family: str | None) -> Resolved:
    """What the user named: the default, a registry name, or a `.safetensors` file."""
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise UsageError(f"load_model takes a name or a path, not {type(name_or_path).__name__}. {near_names('')}")
    text = os.fspath(name_or_path)
    entries = {entry.name: entry for entry in list_models()}
    if text == "":
        resolved = _resolve_entry(default_entry(family))
    elif text in entries:
        resolved = _resolve_entry(entries[text])
    elif text.startswith("hf://"):
        raise UsageError(
            f"{text}: loading from the Hugging Face Hub arrives with the next release. "
            "Download the .safetensors file and give its path."
        )
    elif Path(text).exists():
        resolved = _resolve_path(Path(text))
    else:
        known = f" There is the family {text!r}: `hear_models.{text}.load_model()`." if text in _families() else ""
        raise UsageError(
            f"{text!r} is neither a model's name ({len(entries)} are known) nor a file that exists, "
            f"nor does it begin with hf://.{known} {near_names(text)}"
        )
    if family is not None and resolved.family != family:
        raise UsageError(
            f"{text!r} is of the family {resolved.family}, not of {family}. "
            f"Use hear_models.{resolved.family}.load_model or hear_models.load_model."
        )
    return resolved


def _families() -> set[str]:
    return {entry.family for entry in list_models()}


def _resolve_entry(entry: ModelEntry) -> Resolved:
    manifest = entry.manifest
    if entry.status == "unpublished":
        original = manifest.original
        where = f" from {original.address}" if original else ""
        raise CheckpointError(
            f"no converted weights of {entry.name} are published yet; the licence of the official ones is: "
            f"{manifest.licence}. Fetch the original{where}, run `hear-models convert {entry.family} INPUT "
            f"{entry.name}.safetensors` and load that file; `hear-models info {entry.name}` tells more."
        )
    sha256 = manifest.file.sha256 if manifest.file and manifest.path else None
    if manifest.path and sha256 is None:
        raise CheckpointError(f"the manifest of {entry.name} gives no sha256 for {manifest.path}. Write it there.")
    return Resolved(entry.name, entry.family, entry, manifest.path, sha256)


def _resolve_path(path: Path) -> Resolved:
    if path.is_dir() or path.suffix != ".safetensors":
        raise CheckpointError(
            f"{path} is {'a folder' if path.is_dir() else 'no .safetensors file'}; "
            "official checkpoints are not loaded directly. Convert it first: "
            "`hear-models convert FAMILY INPUT OUTPUT.safetensors`."
        )
    family = read_header(path).family
    if family not in _families():
        raise CheckpointError(
            f"{path} is of the family {family!r}, which this version of hear-models does not know. "
            f"Known: {', '.join(sorted(_families()))}."
        )
    return Resolved(path.name, family, None, path, None)


# ------------------------------------------------------------------------------------------------------- 2. read
def read(resolved: Resolved, parts: tuple[str, ...]) -> Checkpoint | None:
    """The verified file, or None if the name stands for a network without weights."""
    if resolved.path is None:
        return None
    checkpoint = read_checkpoint(resolved.path, parts, resolved.sha256)
    if checkpoint.family != resolved.family:
        raise CheckpointError(
            f"{resolved.path} is of the family {checkpoint.family}, not of {resolved.family}. Replace it."
        )
    return checkpoint


# ------------------------------------------------------------------------------------------------------ 3. build
def check_options(module: ModuleType, options: Mapping[str, Any]) -> tuple[dict[str, Any], torch.dtype, torch.device]:
    """(options of the family's Model, dtype, device); UsageError lists what is valid."""
    own = [name for name in inspect.signature(module.Model.__init__).parameters if name not in NOT_OPTIONS]
    valid = [*own, "dtype", "device"]
    for name in options:
        if name not in valid:
            near = difflib.get_close_matches(name, valid, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"{name!r} is no option of {module.__name__.split('.')[-1]}.{hint} Valid options: {', '.join(valid)}."
            )
    dtype = options.get("dtype", "float32")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise UsageError(f"dtype={dtype!r} is unknown. Use one of {', '.join(DTYPES)}.")
    try:
        device = torch.device(options.get("device", "cpu"))
    except (RuntimeError, TypeError) as error:
        raise UsageError(
            f"device={options['device']!r} is unknown ({error}). Use for instance 'cpu' or 'cuda'."
        ) from error
    return {name: value for name, value in options.items() if name in own}, DTYPES[dtype], device


def build(
    module: ModuleType, values: Mapping[str, Any], options: Mapping[str, Any], name: str, random: bool
) -> HearModel:
    """The network of a configuration: with seeded random weights, or (random=False) without memory, for `fill`."""
    seeded = "seed" in inspect.signature(module.Model.__init__).parameters
    seed = {"seed": SEED_OF_UNTRAINED if random else None} if seeded else {}
    try:
        config = module.Config(**check_fields(module.Config, values))
        with torch.random.fork_rng(devices=[]):  # a family may draw from the global generator; the caller's state stays
            model: HearModel = module.Model(config, **seed, **options)
    except UsageError as error:
        if any(str(option) in str(error) for option in options):
            raise
        raise CheckpointError(f"the configuration of {name} is wrong: {error}") from error
    except (RuntimeError, ValueError, TypeError, ZeroDivisionError, AssertionError, MemoryError) as error:
        raise CheckpointError(f"the configuration of {name} gives no network: {error}. Replace the file.") from error
    return model


# ------------------------------------------------------------------------------------------------------- 4. fill
def fill(model: HearModel, checkpoint: Checkpoint) -> None:
    """Put the checkpoint's tensors into the network: every one, no more, each of the right shape."""
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found: Mapping[str, Tensor] = checkpoint.tensors
    advice = "The file does not fit its configuration; convert or train it again."
    if missing := sorted(expected.keys() - found.keys()):
        raise CheckpointError(
            f"{checkpoint.path}: the tensor {missing[0]} is missing ({len(missing)} in all). {advice}"
        )
    if extra := sorted(found.keys() - expected.keys()):
        raise CheckpointError(
            f"{checkpoint.path}: the network has no tensor {extra[0]} ({len(extra)} in all). {advice}"
        )
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise CheckpointError(
                f"{checkpoint.path}: {name} is {list(found[name].shape)}, expected {list(shape)}. {advice}"
            )
    model.load_state_dict(dict(found), strict=True, assign=True)


def compare(model: HearModel, promised: Any, resolved: Resolved) -> None:
    """A bundled file must have the configuration that its manifest lists."""
    for field in fields(promised):
        in_file, in_manifest = getattr(model.config, field.name), getattr(promised, field.name)
        if in_file != in_manifest:
            raise CheckpointError(
                f"{resolved.path}: {field.name} is {in_file}, but {in_manifest} by the manifest of {resolved.name}. "
                "Correct the manifest."
            )


def warn_if_untrained(resolved: Resolved) -> None:
    """Once per name and process."""
    if resolved.entry is not None and not resolved.entry.trained and resolved.name not in _warned:
        _warned.add(resolved.name)
        warnings.warn(
            f"{resolved.name} has no trained weights: this is a random network (seed {SEED_OF_UNTRAINED}). "
            "Its embeddings are good for tests and as a floor only.",
            UserWarning,
            stacklevel=_level_of_caller(),
        )


def _level_of_caller() -> int:
    """The stacklevel, seen from the function that calls this one, of the first frame outside of the package."""
    package, level, frame = str(Path(__file__).parents[1]), 0, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    return level + 1
