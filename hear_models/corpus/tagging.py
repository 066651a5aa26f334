"""What is heard in a recording, and when: the classes of a tagger for the whole and second by second."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hear_models.checkpoints.safetensors_file import read_header
from hear_models.corpus.discover import Failure, find_audio_files
from hear_models.corpus.options import AUTO, windows
from hear_models.errors import UsageError
from hear_models.pipeline.audio import warn_of, windows_of
from hear_models.pipeline.capabilities import Tagger, chances
from hear_models.pipeline.decoding import open_recording
from hear_models.pipeline.model import HearModel
from hear_models.subjects.weights import is_trained

LONGEST_HOP_S, SHORTEST_HOP_S = 0.5, 0.05  # windows are 1 s long: at half a second nothing falls between them
NEAR_S = 0.01  # lengths before and after resampling differ by less


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


def tag_file(
    path: str | os.PathLike[str],
    model: Tagger,
    parts: int,
    *,
    piece_s: float | str | None = AUTO,
    progress: Callable[[float, float | None], None] | None = None,
) -> Tags:
    """Tag one recording.

    Args:
        path: what `read_audio` reads, of any length and rate.
        model: a tagger.
        parts: how finely the recording is to be shown; windows of 1 s are laid that far apart, 0.05 to 0.5 s.
        piece_s: seconds that are read at a time, each a recording by itself to the model, so that memory does not grow;
            the probability of the whole is that of the mean of their embeddings. "auto": 60 s of recordings beyond 5
            minutes; None: the whole.
        progress: called with the seconds that are tagged, and those of the recording where they are known.

    Raises:
        AudioFileError: the file cannot be read.
    """
    seconds, from_s = windows(piece_s, "timestamps")
    rate, weight = model.sample_rate, model.head.weight
    heard: list[np.ndarray] = []
    times: list[np.ndarray] = []
    scenes: list[tuple[int, torch.Tensor]] = []
    n_samples = hop_frames = 0
    with closing(open_recording(path)) as recording, torch.inference_mode():
        size = None if seconds is None else round(seconds * rate)
        for samples in windows_of(recording, rate, size, longer_than_s=from_s):
            clip = torch.from_numpy(samples).to(weight.device)
            if not hop_frames:
                expected_s = recording.expected_s or 0.0
                whole_s = len(samples) / rate if expected_s - len(samples) / rate < NEAR_S else expected_s
                hop_s = min(LONGEST_HOP_S, max(SHORTEST_HOP_S, whole_s / parts))
                hop_frames = max(1, int(hop_s * 1000 / model.hop_ms))
            logits, times_ms = model.logits(clip, hop_frames)
            heard.append(chances(model, logits).cpu().numpy())
            times.append(times_ms.cpu().numpy().astype(np.float64) / 1000 + n_samples / rate)
            scenes.append((len(samples), model.get_scene_embeddings(clip[None])))
            n_samples += len(samples)
            if progress:
                progress(n_samples / rate, recording.expected_s)
        warn_of(recording)
        scene = (
            scenes[0][1]
            if len(scenes) == 1
            else torch.stack([n / n_samples * one.double() for n, one in scenes]).sum(0)
        )
        whole = model.head(scene.to(weight.dtype)).float()[0]
    return Tags(
        str(path),
        n_samples / rate,
        model.classes,
        chances(model, whole).cpu().numpy(),
        np.concatenate(heard),
        np.concatenate(times),
    )


def origin(model: HearModel) -> str:
    """What a model's classes were learned from, as far as its file says: "nothing", "procedural sounds", "data"."""
    if not is_trained(model):
        return "nothing"
    path = model.checkpoint.path if model.checkpoint else None
    recipe = (read_header(path).notes.get("recipe") if path else None) or {}
    made = isinstance(recipe, dict) and (recipe.get("data") or {}).get("procedural_hours", 0) > 0
    return "procedural sounds" if made else "data"


def find_recordings(paths: Sequence[str]) -> tuple[list[Path], list[Failure]]:
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
            failed.append(Failure(path, str(error)))
            continue
        failed += failures
        found |= {os.path.abspath(source.path): source.path for source in sources}
    if not found:
        raise UsageError(failed[0].error)
    return list(found.values()), failed
