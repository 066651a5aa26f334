"""Random weights drawn from a generator of their own, so that building a model leaves the global random state alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def materialise(model: nn.Module) -> None:
    """Replace the parameters and buffers that were built on the meta device by zeros on the CPU.

    Raises:
        RuntimeError: a buffer that no checkpoint holds (persistent=False) was built there, so that its values are lost.
    """
    for path, module in model.named_modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_meta:
                module.register_parameter(name, nn.Parameter(torch.zeros(parameter.shape), parameter.requires_grad))
        kept = module.state_dict(keep_vars=True)
        for name, buffer in list(module.named_buffers(recurse=False)):
            if not buffer.is_meta:
                continue
            if name not in kept:
                raise RuntimeError(f"the constant {path}.{name} was built on the meta device; build it outside of it.")
            module.register_buffer(name, torch.zeros(buffer.shape, dtype=buffer.dtype))


def lecun_normal_(weight: Tensor, fan_in: float, rng: torch.Generator) -> None:
    """Normal with variance 1 / fan_in, cut at two standard deviations, widened so that the variance stays."""
    std = math.sqrt(1 / fan_in) / 0.87962566
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=rng)


def torch_default_(weight: Tensor, bias: Tensor | None, rng: torch.Generator) -> None:
    """What torch draws for a Linear or a convolution: both uniform within 1 / sqrt(fan_in)."""
    limit = 1 / math.sqrt(weight[0].numel())
    nn.init.uniform_(weight, -limit, limit, generator=rng)
    if bias is not None:
        nn.init.uniform_(bias, -limit, limit, generator=rng)


def xavier_(network: nn.Module, rng: torch.Generator) -> None:
    """Xavier's uniform weights for linear layers, ones for layer norms; their biases are left as they are."""
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=rng)
