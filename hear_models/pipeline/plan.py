"""What will happen to a clip of a given length: where its units start, which steps are kept, when each step is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hear_models.pipeline.fill import Fill

Purpose = Literal["scene", "timestamps"]
Domain = Literal["frames", "samples"]


@dataclass(frozen=True)
class Unit:
    """One piece of a clip that goes through the encoder: `length` positions from `start`, giving `steps` embeddings.

    Attributes:
        start, length: positions (see `Plan.domain`); they may lie before 0 and past the end.
        steps: how many embeddings are kept of those that the encoder gives.
        skip: how many are dropped in front of them.
        samples: first and last sample + 1 of the stretch of the clip that has its own features, normalised by itself;
            None: the features are those of the whole clip.
    """

    start: int
    length: int
    steps: int
    skip: int = 0
    samples: tuple[int, int] | None = None


@dataclass(frozen=True)
class Plan:
    """How a clip of `n_samples` becomes steps.

    Attributes:
        n_samples: length of the clip as it was given, in samples.
        units: in time order, not necessarily of one length.
        n_steps: steps that belong to the clip; those of the padding behind them are dropped.
        times_ms: float64 [n_returned], the centres that `get_timestamp_embeddings` returns. n_returned <= n_steps: a
            step whose centre lies past the end of the clip stays in the scene mean and is not returned.
        weights: float64 [n_steps] for the scene mean, None = all equal.
        fill: what stands at positions before the clip's start and past its end: see `pipeline/fill.py`.
        domain: what the positions of units are: "frames" of the front end's features, which are cut, or "samples":
            windows of the clip's own samples are cut, and each goes through `prepare_window` and the front end.
        steps_ms: float64 [n_steps], when the steps are; `get_timestamp_embeddings` then interpolates linearly between
            them. None: the first n_returned steps are at `times_ms`.
    """

    n_samples: int
    units: tuple[Unit, ...]
    n_steps: int
    times_ms: np.ndarray
    weights: np.ndarray | None = None
    fill: Fill = "reflect"
    domain: Domain = "frames"
    steps_ms: np.ndarray | None = None


def frame_plan(
    n_samples: int, purpose: Purpose, n_frames: int, frames_per_step: int, hop_samples: int, sample_rate: int
) -> Plan:
    """A plan over frames of features: one unit of all for a scene, consecutive short ones for timestamps."""
    length = n_frames if purpose == "scene" else frames_per_step
    steps = -(-n_frames // length)
    times = centre_times(hop_samples * length, hop_samples * (length - 1) / 2, steps, n_samples, sample_rate)
    return Plan(n_samples, tuple(Unit(step * length, length, 1) for step in range(steps)), steps, times)


def centre_times(
    step_samples: float, first_centre: float, n_steps: int, n_samples: int, sample_rate: int
) -> np.ndarray:
    """Centres inside the clip, in ms, float64; the only step of a tiny clip is put at its end at most."""
    centres = first_centre + step_samples * np.arange(n_steps)
    inside = centres[centres <= n_samples]
    if not inside.size:
        inside = np.array([min(first_centre, n_samples)])
    return inside * (1000.0 / sample_rate)
