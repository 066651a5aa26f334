"""Per-channel energy normalisation (Wang et al. 2017, arXiv 1607.05666), every coefficient learned per channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hear_models.errors import UsageError

TINY = 1e-6  # keeps the division finite where a channel was silent so far


class PCEN(nn.Module):
    """Divides each energy by a running mean of its channel, then compresses it by a root.

    With M the running mean, M[t] = smooth * E[t] + (1 - smooth) * M[t - 1] and M[0] = E[0]:
    `(E / (floor + M) ** alpha + delta) ** (1 / root) - delta ** (1 / root)`, all powers per channel. Coefficients are
    held in their range whenever they are used, alpha up to 1, root from 1, smooth in [0, 1]; beyond it their gradient
    is zero. Nothing holds `delta`: below 0 the output is not a number, at 0 the gradient is not.

    Args:
        n_filters: channels.
        alpha: strength of the normalisation.
        delta: bias before the root.
        root: 1 / exponent.
        smooth: weight of the newest frame in the running mean.
        floor: added to the running mean; a constant, 1e-12 within LEAF.
    """

    def __init__(
        self,
        n_filters: int,
        alpha: float = 0.96,
        delta: float = 2.0,
        root: float = 2.0,
        smooth: float = 0.04,
        floor: float = TINY,
    ) -> None:
        super().__init__()
        if n_filters < 1:
            raise UsageError(f"n_filters is {n_filters}. Give at least 1.")
        if floor <= 0:
            raise UsageError(f"floor is {floor}. Give a small positive number, as 1e-6.")
        self.floor = floor
        self.alpha = nn.Parameter(torch.full((n_filters,), float(alpha)))
        self.delta = nn.Parameter(torch.full((n_filters,), float(delta)))
        self.root = nn.Parameter(torch.full((n_filters,), float(root)))
        self.smooth = nn.Parameter(torch.full((n_filters,), float(smooth)))

    def forward(self, energies: Tensor) -> Tensor:
        """Energies [clips, frames, n_filters], not negative → the same shape; float32, or float64 for such input."""
        if energies.ndim != 3 or energies.shape[1] == 0 or energies.shape[2] != len(self.alpha):
            found = list(energies.shape)
            raise UsageError(f"energies are {found}. Give [clips, frames, {len(self.alpha)}], at least one frame.")
        with torch.autocast(energies.device.type, enabled=False):
            dtype = torch.promote_types(energies.dtype, torch.float32)
            energies = energies.to(dtype)
            alpha = self.alpha.to(dtype).clamp(max=1)
            delta = self.delta.to(dtype)
            exponent = 1 / self.root.to(dtype).clamp(min=1)
            mean = running_mean(energies, self.smooth.to(dtype).clamp(0, 1))
            return (energies / (self.floor + mean) ** alpha + delta) ** exponent - delta**exponent


def running_mean(energies: Tensor, smooth: Tensor) -> Tensor:
    """Energies [clips, frames, n_filters], weight of the newest frame [n_filters] → exponential mean, as energies.

    The mean before the first frame is the first frame.
    """
    mean = energies[:, 0]
    means = []
    for frame in energies.unbind(1):
        mean = torch.lerp(mean, frame, smooth)
        means.append(mean)
    return torch.stack(means, dim=1)
