"""Where recordings change: their windows are embedded, and novelty along them has peaks."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.analysis.novelty import novelty, peaks, usual
from hear_models.corpus.clock import began_at, clock_times
from hear_models.corpus.discover import Failure, find_audio_files
from hear_models.corpus.kept import refuse_nothing, scenes_of
from hear_models.corpus.run import CorpusSummary
from hear_models.errors import UsageError
from hear_models.files import as_text
from hear_models.pictures import new_figure, save_figure
from hear_models.pipeline.model import HearModel

WINDOW_S = 2.0
SCALE_S = 60.0
THRESHOLD = 2.0  # times the usual novelty; noise that does not change stays below 1.9
SCALES = 4  # that fit into a recording: in shorter ones the scale is smaller
MOST_PANELS = 20
COLUMNS = ("path", "start_ms", "end_ms", "strength")


@dataclass(frozen=True)
class Changes:
    """One recording.

    Attributes:
        name: below what was given.
        windows_ms: float64 [windows], where they begin. novelty: float64 [windows], in multiples of the usual.
        starts_ms, ends_ms, strengths: of its stretches; the strength is that of the change at the beginning, None for
            the first.
        scale_s: how much was looked at before and after each moment.
    """

    name: str
    windows_ms: np.ndarray
    novelty: np.ndarray
    starts_ms: tuple[float, ...]
    ends_ms: tuple[float, ...]
    strengths: tuple[float | None, ...]
    scale_s: float

    def rows(self, clock: bool = False) -> list[dict[str, Any]]:
        """One a stretch, as `COLUMNS` say, with its time of day if that is wanted."""
        times = clock_times(began_at(self.name), self.starts_ms)
        return [
            {
                "path": as_text(self.name),
                "start_ms": start,
                "end_ms": end,
                "strength": None if strength is None else round(strength, 2),
                **({"clock": time} if clock else {}),
            }
            for start, end, strength, time in zip(self.starts_ms, self.ends_ms, self.strengths, times, strict=True)
        ]


def find_changes(
    paths: Sequence[str | os.PathLike[str]],
    model: HearModel,
    *,
    window_s: float = WINDOW_S,
    scale_s: float = SCALE_S,
    threshold: float = THRESHOLD,
    root: Path | None = None,
    progress: Callable[[CorpusSummary], None] | None = None,
) -> tuple[list[Changes], list[Failure]]:
    """The stretches of recordings, however long, at constant memory beside their embeddings.

    Args:
        paths: recordings, and folders that are searched for them.
        model: gives a scene embedding for each window.
        window_s: of the windows, in seconds: how exactly changes are placed.
        scale_s: how much before and after each moment is compared; changes are at least as far apart. In a recording
            of less than four of them it is a fourth of that.
        threshold: novelty of a change, in multiples of the usual one of its recording.
        root: where embeddings are kept; None: the cache folder.
        progress: called after each batch of windows.

    Raises:
        UsageError: options that do not go together. HearModelsError: nothing could be read.
    """
    check_scale(window_s, scale_s)
    sources, failures = find_audio_files(paths)
    found, failed, _ = scenes_of(
        [source.path for source in sources], model, window_s=window_s, root=root, progress=progress
    )
    failures = failures + failed
    refuse_nothing(found, failures)
    changes = []
    for source, scenes in zip(sources, found, strict=True):
        if scenes is not None:
            embeddings, starts, ends = scenes
            assert starts is not None
            changes.append(_changes(source.name, embeddings, starts, ends, window_s, scale_s, threshold))
    return changes, failures


def check_scale(window_s: float, scale_s: float) -> None:
    """UsageError unless there are windows on both sides of a moment."""
    if not scale_s >= 2 * window_s:
        raise UsageError(
            f"A scale of {scale_s:g} s holds less than two windows of {window_s:g} s. Give a larger --scale, or "
            "a smaller --window."
        )


def _changes(
    name: str,
    embeddings: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    window_s: float,
    scale_s: float,
    threshold: float,
) -> Changes:
    end_ms = float(ends[-1])
    if len(starts) > 1 and ends[-1] - starts[-1] < 500 * window_s:  # too little to compare with whole windows
        embeddings, starts = embeddings[:-1], starts[:-1]
    half_width = max(2, min(round(scale_s / window_s), len(starts) // SCALES))
    values = novelty(embeddings, half_width)
    # a mean of fewer windows than half of them, at the ends, is left to chance
    inner = values.copy()
    edge = math.ceil(half_width / 2)
    inner[:edge] = inner[max(1, len(values) - edge + 1) :] = 0.0
    chosen = peaks(inner, half_width, threshold) if len(values) >= SCALES * 2 else []
    begin = [0.0, *(float(starts[peak.index]) for peak in chosen)]
    strengths = (None, *(peak.strength for peak in chosen))
    return Changes(
        name, starts, values / usual(values), tuple(begin), (*begin[1:], end_ms), strengths, half_width * window_s
    )


def draw_changes(path: Path, found: Sequence[Changes], threshold: float = THRESHOLD) -> None:
    """A panel for each recording: novelty over time, and the changes. UsageError: too many of them, no matplotlib."""
    if not 1 <= len(found) <= MOST_PANELS:
        raise UsageError(f"A picture has 1 to {MOST_PANELS} recordings, these are {len(found)}. Give fewer.")
    figure = new_figure(10, 1.0 + 2.1 * len(found))
    for axes, changes in zip(figure.subplots(len(found), squeeze=False)[:, 0], found, strict=True):
        unit, unit_s = ("h", 3600.0) if changes.ends_ms[-1] > 2 * 3_600_000 else ("min", 60.0)
        times = changes.windows_ms / 1000 / unit_s
        axes.fill_between(times, changes.novelty, color="0.8", linewidth=0)
        axes.plot(times, changes.novelty, color="black", linewidth=0.8)
        axes.axhline(threshold, color="tab:blue", linewidth=0.8, linestyle=":")
        top = max(1.2 * threshold, 1.1 * float(changes.novelty.max()))
        for start, strength in zip(changes.starts_ms, changes.strengths, strict=True):
            if strength is not None:
                axes.axvline(start / 1000 / unit_s, color="tab:red", linewidth=1.0, linestyle="--")
                axes.plot(start / 1000 / unit_s, strength, "v", color="tab:red", markersize=6)
        axes.set_yscale("symlog", linthresh=threshold)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(0, 1.5 * top)
        axes.set_xlim(0, changes.ends_ms[-1] / 1000 / unit_s)
        number = sum(strength is not None for strength in changes.strengths)
        axes.set_title(f"{_plain(as_text(changes.name))}: {number} change{'' if number == 1 else 's'}", fontsize=10)
        axes.set_xlabel(f"time ({unit})")
        axes.set_ylabel("novelty / usual")
    save_figure(figure, path)


def _plain(text: str) -> str:
    """A name without what matplotlib would take for formulas or cannot draw."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    return printable.replace("$", r"\$")
