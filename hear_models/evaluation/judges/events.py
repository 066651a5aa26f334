"""From frame-wise outputs to events as hear-eval-kit makes them: smoothing, threshold, runs, shortest length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hear_models.evaluation.judges.protocols import EVENT_POSTPROCESSING_GRID, enumerate_grid

THRESHOLD = 0.5


@dataclass(frozen=True)
class FileFrames:
    """The frames of one file: which rows of the split they are, in the order of time, and when (ms, float64)."""

    file: str
    rows: np.ndarray
    times_ms: np.ndarray


def frames_by_file(files: Sequence[str], timestamps_ms: np.ndarray) -> list[FileFrames]:
    """Rows of each file, files in the order in which they first appear; of two rows at one time the later counts."""
    at: dict[str, dict[float, int]] = {}
    for row, (file, time) in enumerate(zip(files, timestamps_ms.tolist(), strict=True)):
        at.setdefault(file, {})[time] = row
    found = []
    for file, rows in at.items():
        times = sorted(rows)
        found.append(FileFrames(file, np.array([rows[time] for time in times]), np.array(times)))
    return found


def postprocessing_grid(metadata: Mapping[str, Any]) -> list[dict[str, float]]:
    """The ways of making events that are tried: the task's own (`evaluation_params`), else the kit's two."""
    own = (metadata.get("evaluation_params") or {}).get("event_postprocessing_grid")
    grid = {key: tuple(values) for key, values in (own or EVENT_POSTPROCESSING_GRID).items()}
    return enumerate_grid(grid)


def make_events(
    prediction: np.ndarray, frames: Sequence[FileFrames], labels: Sequence[str], ways: Sequence[Mapping[str, float]]
) -> list[dict[str, list[dict[str, Any]]]]:
    """Events of each file for every way of postprocessing, from outputs float32 [rows, classes].

    Each event is `{"label", "start", "end"}`, in ms, sorted by start. A run of frames above 0.5 is an event from its
    first to its last frame's time; it stays if that is at least `min_duration` ms long. Ways that differ in
    `min_duration` only share the median filter.
    """
    found: list[dict[str, list[dict[str, Any]]]] = [{} for _ in ways]
    for file in frames:
        runs: dict[float, list[tuple[int, float, float]]] = {}
        for way, events in zip(ways, found, strict=True):
            width_ms = float(way["median_filter_ms"])
            if width_ms not in runs:
                runs[width_ms] = _runs(_smooth(prediction[file.rows], file.times_ms, width_ms), file.times_ms)
            shortest_ms = way["min_duration"]
            kept = [run for run in runs[width_ms] if run[2] - run[1] >= shortest_ms]
            kept.sort(key=lambda run: run[1])
            events[file.file] = [{"label": labels[label], "start": start, "end": end} for label, start, end in kept]
    return found


def _smooth(outputs: np.ndarray, times_ms: np.ndarray, width_ms: float) -> np.ndarray:
    """Median filter along time over round(width / mean hop) frames, edges reflected; the outputs as bool above 0.5."""
    if not width_ms or len(times_ms) < 2:
        return outputs > THRESHOLD
    frames = round(width_ms / float(np.mean(np.diff(times_ms))))
    # The filter picks one of its frames by rank, and a threshold keeps ranks: thresholding first gives the same picture
    return median_of_bits(outputs > THRESHOLD, frames) if frames else outputs > THRESHOLD


def median_of_bits(bits: np.ndarray, frames: int) -> np.ndarray:
    """`scipy.ndimage.median_filter(bits, size=(frames, 1), mode="reflect")` of bool [time, classes].

    The window of frame t is t - frames // 2 … t - frames // 2 + frames - 1; of an even number of frames the upper
    of the two middle values is taken, that is, the one of rank frames // 2. (For windows of more than four times the
    file's length scipy 1.17 reads past the array; here the reflection just goes on.)
    """
    length = len(bits)
    window = np.arange(-(frames // 2), length - frames // 2 + frames - 1)
    folded = window % (2 * length)  # reflect: d c b a | a b c d | d c b a
    padded = bits[np.where(folded < length, folded, 2 * length - 1 - folded)]
    sums = np.cumsum(np.concatenate([np.zeros_like(padded[:1]), padded]), axis=0, dtype=np.int64)
    ones = sums[frames:] - sums[:-frames]
    return ones >= frames - frames // 2


def _runs(active: np.ndarray, times_ms: np.ndarray) -> list[tuple[int, float, float]]:
    """(class, time of the first frame, time of the last) of every run of active frames, class by class."""
    edges = np.diff(np.pad(active.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    starts, ends = np.argwhere(edges.T == 1), np.argwhere(edges.T == -1)
    return [
        (int(label), float(times_ms[first]), float(times_ms[stop - 1]))
        for (label, first), (_, stop) in zip(starts, ends, strict=True)
    ]
