"""From a name to a model in four steps: resolve (see `resolve.py`) → read → build → fill."""

from __future__ import annotations

import difflib
import inspect
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hear_models.checkpoints.safetensors_file import Checkpoint, read_checkpoint
from hear_models.errors import CheckpointError, UsageError
from hear_models.fields import check_fields
from hear_models.pipeline.model import CheckpointInfo, HearModel
from hear_models.zoo.families import FamilyModule, as_torch_begins, family_module, new_model
from hear_models.zoo.resolve import Resolved, resolve
from hear_models.zoo.sizes import at_most_parameters, check_sizes

SEED_OF_UNTRAINED = 0
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OPTIONS_OF_ALL = ("decoder", "dtype", "device", "compile")  # "decoder" asks for every trained tensor: some have no more
NOT_OPTIONS = ("self", "config", "seed")  # parameters of a family's Model that are not the user's to set
_warned: set[str] = set()


def load(name_or_path: str | os.PathLike[str], family: str | None, options: Mapping[str, Any]) -> HearModel:
    """See `hear_models.zoo.load_model`."""
    with as_torch_begins():
        return load_resolved(resolve(name_or_path, family), options)


def load_resolved(resolved: Resolved, options: Mapping[str, Any]) -> HearModel:
    """The last three steps."""
    module = family_module(resolved.family)
    model_options, dtype, device = check_options(module, options)
    parts = ("encoder", "decoder") if model_options.get("decoder") else ("encoder",)
    checkpoint = read(resolved, parts)
    promised = resolved.entry.manifest.configuration if resolved.entry else {}
    if checkpoint:
        check_sizes(checkpoint.config, len(checkpoint.tensors), resolved.name)
        with at_most_parameters(len(checkpoint.tensors), resolved.name):
            model = build(module, checkpoint.config, model_options, resolved.name, False)
    else:
        model = build(module, promised, model_options, resolved.name, True)
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
    if options.get("compile", False):
        compile_network(model, device)
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError) as error:  # torch without CUDA raises AssertionError
        raise UsageError(
            f"the device {str(device)!r} cannot be used ({error}). Take another, for instance 'cpu'."
        ) from error


# ------------------------------------------------------------------------------------------------------- 2. read
def read(resolved: Resolved, parts: tuple[str, ...]) -> Checkpoint | None:
    """The verified file, or None if the name stands for a network without weights."""
    if resolved.path is None:
        return None
    with resolved.explained():
        checkpoint = read_checkpoint(resolved.path, parts, resolved.expected)
    if checkpoint.family != resolved.family:
        raise CheckpointError(
            f"{resolved.path} is of the family {checkpoint.family}, not of {resolved.family}. Replace it."
        )
    return checkpoint


# ------------------------------------------------------------------------------------------------------ 3. build
def check_options(module: FamilyModule, options: Mapping[str, Any]) -> tuple[dict[str, Any], torch.dtype, torch.device]:
    """(options of the family's Model, dtype, device); UsageError lists what is valid."""
    own = [name for name in inspect.signature(module.Model.__init__).parameters if name not in NOT_OPTIONS]
    valid = list(dict.fromkeys([*own, *OPTIONS_OF_ALL]))
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
    if not isinstance(options.get("compile", False), bool):
        raise UsageError(f"compile={options['compile']!r} is neither True nor False. Use one of them.")
    try:
        device = torch.device(options.get("device", "cpu"))
    except (RuntimeError, TypeError) as error:
        raise UsageError(
            f"device={options['device']!r} is unknown ({error}). Use for instance 'cpu' or 'cuda'."
        ) from error
    if dtype == "float16" and device.type == "cpu":
        raise UsageError("dtype='float16' is for GPUs. Use 'bfloat16' on a CPU, or give device='cuda'.")
    return {name: value for name, value in options.items() if name in own}, DTYPES[dtype], device


def build(
    module: FamilyModule, values: Mapping[str, Any], options: Mapping[str, Any], name: str, random: bool
) -> HearModel:
    """The network of a configuration: with seeded random weights, or (random=False) without memory, for `fill`."""
    try:
        config = module.Config(**check_fields(module.Config, values))
        # families draw from generators of their own: putting the global one back would repeat another thread's numbers
        model = new_model(module, config, seed=SEED_OF_UNTRAINED if random else None, **options)
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
    for name, constant in model.named_buffers():
        if constant.is_meta:
            raise RuntimeError(f"the constant {name} of {model.family} was built on the meta device and has no values")


def compare(model: HearModel, promised: Any, resolved: Resolved) -> None:
    """A model of the registry must have the configuration that its manifest lists."""
    fetched = resolved.fetched
    advice = f"Load it by its own address, {fetched.address}." if fetched else "Correct the manifest."
    for field in fields(promised):
        in_file, in_manifest = getattr(model.config, field.name), getattr(promised, field.name)
        if in_file != in_manifest:
            raise CheckpointError(
                f"{resolved.path}: {field.name} is {in_file}, but {in_manifest} by the manifest of {resolved.name}. "
                f"{advice}"
            )


def compile_network(model: HearModel, device: torch.device) -> None:
    """torch.compile at the first call; a warning where it was measured to lose."""
    if device.type == "cpu":
        warnings.warn(
            "compile=True starts 7 to 30 s later and was measured to be slower on a CPU (docs/speed.md). "
            "Leave it out unless you measured otherwise.",
            UserWarning,
            stacklevel=_level_of_caller(),
        )
    model.use_compile()


def warn_if_untrained(resolved: Resolved) -> None:
    """Once per name and process."""
    if (resolved.entry is None or not resolved.entry.trained) and resolved.name not in _warned:
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
