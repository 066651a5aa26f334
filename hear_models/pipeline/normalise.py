"""Normalisation of features as data: over what, with which divisor, and what a constant input gives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hear_models.errors import UsageError

CONSTANT_BELOW = 1e-6  # standard deviation under which features count as constant and become zeros


@dataclass(frozen=True)
class Statistics:
    """Mean and spread of features, exact enough to be joined: float64, deviations kept as the sum of their squares."""

    n: int
    mean: Tensor
    squares: Tensor  # sum of squared deviations from the mean

    @classmethod
    def of(cls, features: Tensor) -> Statistics:
        """Over all elements, any shape."""
        exact = features.double()
        mean = exact.mean()
        return cls(exact.numel(), mean, (exact - mean).square().sum())

    def __add__(self, other: Statistics) -> Statistics:
        """Over the elements of both (Chan's formula)."""
        n, apart = self.n + other.n, other.mean - self.mean
        mean = self.mean + apart * (other.n / n)
        return Statistics(n, mean, self.squares + other.squares + apart.square() * (self.n * other.n / n))

    def variance(self, ddof: int) -> Tensor:
        """Mean squared deviation; 0 for a single element."""
        return self.squares / max(1, self.n - ddof)

    def std(self, ddof: int) -> Tensor:
        """Standard deviation; 0 for a single element."""
        return self.variance(ddof).sqrt()


@dataclass(frozen=True)
class Standardise:
    """(x - mean) / (std + eps), in float64; constant input becomes zeros, except with given statistics.

    Attributes:
        ddof: 1 divides the variance by n - 1 (torch's default), 0 by n.
        eps: added to the standard deviation.
        scope: whose mean and standard deviation: "clip", the clip's own; "call", those of all clips of the call
            together, which makes an embedding depend on its neighbours; "fixed", the given ones.
        scale: False takes only the mean away.
        constant_below: a standard deviation under it counts as constant.
        mean, std: of scope "fixed".
        along: of scope "clip", the axes whose elements have a mean and a deviation together: -2 standardises each band
            over the frames, -1 each frame over its bands, both of them each window of a batch. None: all together.
        double: False: with `along` only sums are float64, elements stay as they are; half the time for many windows.
    """

    ddof: int = 1
    eps: float = 0.0
    scope: str = "clip"
    scale: bool = True
    constant_below: float = CONSTANT_BELOW
    mean: float = 0.0
    std: float = 1.0
    along: int | tuple[int, ...] | None = None
    double: bool = True

    @classmethod
    def fixed(cls, statistics: Any) -> Standardise:
        """By a given (mean, deviation) of all features. UsageError if it is no such pair."""
        pair = isinstance(statistics, (tuple, list)) and len(statistics) == 2
        numbers = pair and all(isinstance(x, (int, float)) and math.isfinite(x) for x in statistics)
        if not numbers or statistics[1] <= 0:
            raise UsageError(f"statistics={statistics!r} are not (mean, deviation) of a log-mel, such as (-7.1, 4.2).")
        return cls(scope="fixed", mean=float(statistics[0]), std=float(statistics[1]))

    def __call__(self, features: Tensor, statistics: Statistics | None = None) -> Tensor:
        """One clip's features, any shape → the same shape and dtype; `statistics` are the call's, for that scope."""
        exact = features.double() if self.double else features
        if self.scope == "fixed":
            return ((exact - self.mean) / (self.std + self.eps)).to(features.dtype)
        if self.along is not None:
            mean = exact.mean(self.along, keepdim=True, dtype=torch.float64)
            apart, together = exact - mean.to(exact.dtype), exact.numel() // mean.numel()
            squares = apart.square().sum(self.along, keepdim=True, dtype=torch.float64)
            scale = self._scale_of(squares / max(1, together - self.ddof))
            return (apart * scale.to(exact.dtype)).to(features.dtype)
        if statistics is None:
            statistics = Statistics.of(exact)
        if not self.scale:
            return (exact - statistics.mean).to(features.dtype)
        return ((exact - statistics.mean) * self._scale_of(statistics.variance(self.ddof))).to(features.dtype)

    def _scale_of(self, variance: Tensor) -> Tensor:
        constant = (variance.detach().sqrt() < self.constant_below) | (variance == 0)
        std = torch.where(constant, 1.0, variance).sqrt()  # of a constant clip nothing, so that no gradient is infinite
        return torch.where(constant, 0.0, 1.0 / (std + self.eps))
