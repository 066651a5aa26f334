"""What stands where a unit reaches past the ends of a clip: the clip itself, reflected or begun again, or zeros."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

Fill = Literal["reflect", "wrap", "zeros"]


def cut(features: Tensor, start: int, stop: int, fill: Fill) -> Tensor:
    """Positions start ... stop - 1 of features [positions, bands] → [stop - start, bands].

    They may lie before 0 and past the end. Zeros come after normalisation and so are the mean level.
    """
    n = features.shape[0]
    if start >= 0 and stop <= n:
        return features[start:stop]
    if fill == "zeros":
        return pad(features[max(0, start) : max(0, stop)], (0, 0, max(0, -start), max(0, stop - n)))
    return features[continued(n, start, stop, fill, features.device)]


def continued(n_positions: int, start: int, stop: int, how: Fill, device: torch.device | str = "cpu") -> Tensor:
    """Indices [stop - start] into 0 ... n_positions - 1 of the positions start ... stop - 1 of an endless clip.

    "reflect" goes back and forth, edges not repeated (`continued(3, -2, 5, "reflect")` is 2 1 0 1 2 1 0); "wrap" begins
    again (1 2 0 1 2 0 1). A single position is repeated.
    """
    index = torch.arange(start, stop, device=device)
    if how == "wrap":
        return index % n_positions
    period = max(1, 2 * (n_positions - 1))
    index = index % period
    return torch.where(index < n_positions, index, period - index)
