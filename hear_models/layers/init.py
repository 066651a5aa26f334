"""Random weights drawn from a generator of their own, so that building a model leaves the global random state alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def materialise(model: nn.Module) -> None:
    """Replace the parameters that were built on the meta device by zeros on the CPU."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_meta:
                module.register_parameter(name, nn.Parameter(torch.zeros(parameter.shape), parameter.requires_grad))


def lecun_normal_(weight: Tensor, fan_in: float, rng: torch.Generator) -> None:
    """Normal with variance 1 / fan_in, cut at two standard deviations, widened so that the variance stays."""
    std = math.sqrt(1 / fan_in) / 0.87962566
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=rng)
