"""Whether a converted checkpoint computes: finite, the same twice, the same beside others; and figures to compare."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import hear_models
from hear_models.errors import CheckpointError
from hear_models.pipeline.audio import read_audio

if TYPE_CHECKING:
    from hear_models.pipeline.model import HearModel

SECONDS = 2.0  # of the recordings with neighbours
TOLERANCE = 1e-4  # of the largest value: batches of another size are added up in another order
DIGITS = 5


@dataclass(frozen=True)
class Statistics:
    """Of the scene embedding of one recording."""

    recording: str
    mean: float
    deviation: float
    smallest: float
    largest: float


@dataclass(frozen=True)
class SelfCheck:
    """What was found; a model that fails raises instead."""

    neighbours: str  # "do not matter (2.1e-07)", or that they do by design
    statistics: tuple[Statistics, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def recordings() -> list[Path]:
    """Those of `hear-models demo`."""
    return sorted((Path(hear_models.__file__).parent / "_demo").glob("*.flac"))


def self_check(model: HearModel, name: str) -> SelfCheck:
    """Embed the demo's recordings. CheckpointError says what is wrong with the model."""
    clips = {path.stem: torch.from_numpy(read_audio(path, model.sample_rate)) for path in recordings()}
    scenes = {stem: model.embed_clips([clip], "scene")[0] for stem, clip in clips.items()}
    for stem, scene in scenes.items():
        if not bool(torch.isfinite(scene).all()):
            raise CheckpointError(f"{name} gives NaN or infinity for the recording {stem}. {_advice(name)}")
    short = [clip[: round(SECONDS * model.sample_rate)] for clip in list(clips.values())[:3]]
    first = model.embed_clips(short[:1], "timestamps")[0][0]
    if not bool(torch.isfinite(first).all()):
        raise CheckpointError(f"{name} gives NaN or infinity in its timestamp embeddings. {_advice(name)}")
    if not torch.equal(first, model.embed_clips(short[:1], "timestamps")[0][0]):
        raise CheckpointError(f"{name} gives another embedding for the same recording the second time. {_advice(name)}")
    rows = torch.stack(list(scenes.values()))
    if float(rows.std(0).max()) <= TOLERANCE * float(rows.abs().max()):
        raise CheckpointError(f"{name} gives the same embedding for every recording. {_advice(name)}")
    return SelfCheck(_neighbours(model, name, short), tuple(_statistics(stem, s) for stem, s in scenes.items()))


def _neighbours(model: HearModel, name: str, clips: list[Tensor]) -> str:
    if model.batch_dependent:
        return "matter, as in the official code (statistics over the whole call)"
    alone = [model.embed_clips([clip], "scene")[0] for clip in clips]
    together = model.embed_clips(clips, "scene")
    change = max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(alone, together, strict=True))
    if not change <= TOLERANCE:
        raise CheckpointError(
            f"{name} embeds a recording otherwise when others are in the batch (by {change:.1e}). {_advice(name)}"
        )
    return f"do not matter ({change:.0e})"


def _statistics(recording: str, scene: Tensor) -> Statistics:
    values = scene.double()
    figures = (values.mean(), values.std(correction=0), values.min(), values.max())
    return Statistics(recording, *(float(f"{float(figure):.{DIGITS}g}") for figure in figures))


def _advice(name: str) -> str:
    return f"Nothing was kept; `hear-models fetch {name} --report` writes what to tell the project."
