"""What will happen to a clip of a given length: where its units start, which steps are kept, when each step is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Purpose = Literal["scene", "timestamps"]
Fill = Literal["reflect", "zeros"]


@dataclass(frozen=True)
class Unit:
    """One piece of a clip that goes through the encoder: `length` positions from `start`, giving `steps` embeddings."""

    start: int
    length: int
    steps: int


@dataclass(frozen=True)
class Plan:
    """How a clip of `n_samples` becomes steps.

    Attributes:
        n_samples: length of the clip as it was given, in samples.
        units: in time order, not necessarily of one length; positions are frames, or samples for models that cut
            before the front end.
        n_steps: steps that belong to the clip; those of the padding behind them are dropped.
        times_ms: float64 [n_returned], the centres that `get_timestamp_embeddings` returns. n_returned <= n_steps: a
            step whose centre lies past the end of the clip stays in the scene mean and is not returned.
        weights: float64 [n_steps] for the scene mean, None = all equal.
        fill: what stands at positions past the clip's end: the clip reflected, or zeros, which are put there after
            normalisation and so are its mean level.
    """

    n_samples: int
    units: tuple[Unit, ...]
    n_steps: int
    times_ms: np.ndarray
    weights: np.ndarray | None = None
    fill: Fill = "reflect"


def reflect_positions(n_positions: int, length: int) -> Tensor:
    """Indices [length] that continue 0 ... n_positions - 1 by reflection back and forth, edges not repeated.

    `reflect_positions(3, 8)` is 0 1 2 1 0 1 2 1; a single position is repeated.
    """
    period = max(1, 2 * (n_positions - 1))
    index = torch.arange(length) % period
    return torch.where(index < n_positions, index, period - index)


def centre_times(
    step_samples: float, first_centre: float, n_steps: int, n_samples: int, sample_rate: int
) -> np.ndarray:
    """Centres inside the clip, in ms, float64; the only step of a tiny clip is put at its end at most."""
    centres = first_centre + step_samples * np.arange(n_steps)
    inside = centres[centres <= n_samples]
    if not inside.size:
        inside = np.array([min(first_centre, n_samples)])
    return inside * (1000.0 / sample_rate)
