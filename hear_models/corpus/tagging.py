"""What is heard in a recording, and when: the classes of a tagger for the whole and second by second."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hear_models.checkpoints.safetensors_file import read_header
from hear_models.corpus.discover import find_audio_files
from hear_models.errors import UsageError
from hear_models.pipeline.audio import read_audio
from hear_models.pipeline.capabilities import Tagger, chances
from hear_models.pipeline.model import HearModel
from hear_models.subjects.weights import is_trained

LONGEST_HOP_S, SHORTEST_HOP_S = 0.5, 0.05  # windows are 1 s long: at half a second nothing falls between them


@dataclass(frozen=True)
class Tags:
    """What a tagger hears in one recording."""

    file: str
    duration_s: float
    classes: tuple[str, ...]
    probability: np.ndarray  # float32 [classes], of the whole recording
    windows: np.ndarray  # float32 [windows, classes]
    times_s: np.ndarray  # float64 [windows], centres

    def best(self, top: int, threshold: float) -> list[int]:
        """The classes of largest probability for the whole recording, at most `top`, at least `threshold`."""
        order = np.argsort(-self.probability, kind="stable")[:top]
        return [int(index) for index in order if self.probability[index] >= threshold]

    def cells(self, index: int, number: int) -> np.ndarray:
        """The largest probability of a class in each of `number` equal parts of the recording."""
        edges = np.linspace(0, self.duration_s, number + 1)
        part = np.clip(np.searchsorted(edges, self.times_s, side="right") - 1, 0, number - 1)
        cells = np.full(number, np.nan, np.float32)
        np.fmax.at(cells, part, self.windows[:, index])
        known = np.flatnonzero(~np.isnan(cells))
        nearest = np.abs(np.arange(number)[:, None] - known).argmin(
            axis=1
        )  # a part without a window has its neighbour's
        filled: np.ndarray = cells[known[nearest]]
        return filled


def tagger_of(model: HearModel) -> Tagger:
    """The same model as a tagger; UsageError for one that knows no classes."""
    if not isinstance(model, Tagger):
        raise UsageError(
            f"{model.checkpoint.name if model.checkpoint else model.family} gives embeddings and knows no classes. "
            "Use a model of gise51 (`hear-models list`)."
        )
    return model


def tag_file(path: str | os.PathLike[str], model: Tagger, parts: int) -> Tags:
    """Tag one recording.

    Args:
        path: what `read_audio` reads, of any length and rate.
        model: a tagger.
        parts: how finely the recording is to be shown; windows of 1 s are laid that far apart, 0.05 to 0.5 s.

    Raises:
        AudioFileError: the file cannot be read.
    """
    samples = read_audio(path, model.sample_rate)
    weight = model.head.weight
    clip = torch.from_numpy(samples).to(weight.device)
    duration_s = len(samples) / model.sample_rate
    hop_s = min(LONGEST_HOP_S, max(SHORTEST_HOP_S, duration_s / parts))
    with torch.inference_mode():
        logits, times_ms = model.logits(clip, max(1, int(hop_s * 1000 / model.hop_ms)))
        whole = model.head(model.get_scene_embeddings(clip[None]).to(weight.dtype)).float()[0]
    return Tags(
        str(path),
        duration_s,
        model.classes,
        chances(model, whole).cpu().numpy(),
        chances(model, logits).cpu().numpy(),
        times_ms.cpu().numpy().astype(np.float64) / 1000,
    )


def origin(model: HearModel) -> str:
    """What a model's classes were learned from, as far as its file says: "nothing", "procedural sounds", "data"."""
    if not is_trained(model):
        return "nothing"
    path = model.checkpoint.path if model.checkpoint else None
    recipe = (read_header(path).notes.get("recipe") if path else None) or {}
    made = isinstance(recipe, dict) and (recipe.get("data") or {}).get("procedural_hours", 0) > 0
    return "procedural sounds" if made else "data"


def find_recordings(paths: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The recordings behind files and folders, each once, in order; and what could not be found.

    Raises:
        UsageError: there is no recording at all.
    """
    found: dict[str, Path] = {}
    failed = []
    for path in paths:
        try:
            sources, failures = find_audio_files([path])
        except UsageError as error:
            failed.append(str(error))
            continue
        failed += [failure.error for failure in failures]
        found |= {os.path.abspath(source.path): source.path for source in sources}
    if not found:
        raise UsageError(failed[0])
    return list(found.values()), failed
