"""A model's weights as a file of ours: what was loaded and not changed, or what became of it since."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hear_models.checkpoints.safetensors_file import read_checkpoint, write_checkpoint
from hear_models.errors import UsageError
from hear_models.pipeline.model import HearModel
from hear_models.zoo.licensing import inherited

SUFFIX = ".safetensors"


def unchanged_file(model: HearModel) -> Path | None:
    """The file that a model was loaded from, if every weight in memory is still the one there."""
    known, state = model.checkpoint, _state(model)
    if known is None or known.path is None:
        return None
    base = read_checkpoint(known.path, _parts(state), known.sha256)
    same = all(torch.equal(value, base.tensors[name].to(value.dtype)) for name, value in state.items())
    return Path(known.path) if same else None


def write_model(model: HearModel, path: Path, training: str | None, trained: bool) -> str:
    """Write weights and configuration, with what they began from; returns the file's sha256. UsageError if none."""
    state = _state(model)
    if not state:
        raise UsageError(f"{model.family} has no weights. Name a model that was trained.")
    known = model.checkpoint
    notes: dict[str, Any] = {} if training is None else {"training": training}
    if known is not None and known.path is not None:
        base = read_checkpoint(known.path, _parts(state), known.sha256)
        notes |= inherited(base.header, known.name, base.sha256)
    return write_checkpoint(
        path,
        family=model.family,
        config=asdict(model.config),
        tensors=state,
        trained=trained,
        notes=notes,
        dtype=str(model.compute_dtype).removeprefix("torch."),
    )


def save(model: HearModel, path: str | os.PathLike[str], training: str | None = None) -> str:
    """See `HearModel.save`."""
    to = Path(path)
    if to.suffix != SUFFIX:
        raise UsageError(f"{to} does not end in {SUFFIX}, the one format that load_model takes. Name it so.")
    if not to.parent.is_dir():
        raise UsageError(f"there is no folder {to.parent}. Make it first.")
    began_trained = model.checkpoint is not None and model.checkpoint.trained
    return write_model(model, to, training, trained=training is not None or began_trained)


def _state(model: HearModel) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu() for name, value in model.state_dict().items()}


def _parts(state: dict[str, torch.Tensor]) -> tuple[str, ...]:
    return ("encoder", "decoder") if any(name.startswith("decoder.") for name in state) else ("encoder",)
