"""Normalisation of features as data: over what, with which divisor, and what a constant input gives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CONSTANT_BELOW = 1e-6  # standard deviation under which features count as constant and become zeros


@dataclass(frozen=True)
class Standardise:
    """(x - mean) / (std + eps) over the whole clip, statistics in float64; a constant clip becomes zeros.

    Attributes:
        ddof: 1 divides the variance by n - 1 (torch's default), 0 by n.
        eps: added to the standard deviation.
    """

    ddof: int
    eps: float

    def __call__(self, features: Tensor) -> Tensor:
        """One clip's features, any shape → the same shape and dtype."""
        exact = features.double()
        centred = exact - exact.mean()
        std = (centred.square().sum() / (centred.numel() - self.ddof)).sqrt()
        scale = torch.where(std < CONSTANT_BELOW, 0.0, 1.0 / (std + self.eps))
        return (centred * scale).to(features.dtype)
