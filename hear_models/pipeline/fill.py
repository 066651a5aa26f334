"""What stands where a unit reaches past the ends of a clip: the clip's own positions, reflected or repeated."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Continuation = Literal["reflect", "wrap"]


def continued(n_positions: int, start: int, stop: int, how: Continuation) -> Tensor:
    """Indices [stop - start] into 0 ... n_positions - 1 of the positions start ... stop - 1 of an endless clip.

    "reflect" goes back and forth, edges not repeated (`continued(3, -2, 5, "reflect")` is 2 1 0 1 2 1 0); "wrap" begins
    again (1 2 0 1 2 0 1). A single position is repeated.
    """
    index = torch.arange(start, stop)
    if how == "wrap":
        return index % n_positions
    period = max(1, 2 * (n_positions - 1))
    index = index % period
    return torch.where(index < n_positions, index, period - index)
