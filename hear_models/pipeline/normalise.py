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
        std, mean = torch.std_mean(exact, correction=self.ddof)
        normal = (exact - mean) / (std + self.eps)
        return torch.where(std < CONSTANT_BELOW, torch.zeros_like(normal), normal).to(features.dtype)
