"""Batch normalisation of images whose every tensor belongs to the network: without the counter that torch keeps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm


class BatchNorm(nn.Module):
    """Batch normalisation over units, frequency and time (Ioffe and Szegedy 2015), as torch's `BatchNorm2d`.

    In training it uses the batch's own mean and variance (divided by n) and moves the running ones (variance divided by
    n - 1) by `momentum`; in evaluation it uses the running ones, so units do not depend on each other. Running
    statistics stay float32 whatever the weights are.

    Args:
        width: channels.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics.
        biased: running variances are divided by n too, as Flax keeps them (quirk `biased-variance`).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, eps: float = 1e-5, momentum: float = 0.1, biased: bool = False) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.biased = biased
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[units, width, ...] → the same."""
        exact = (
            torch.float64 if x.dtype is torch.float64 else self.running_mean.dtype
        )  # of a model that was made double
        mean, var = self.running_mean.to(exact), self.running_var.to(exact)  # themselves, but for float64
        weight, bias = self.weight.to(exact), self.bias.to(exact)
        if not self.training:
            return batch_norm(x, mean, var, weight, bias, False, self.momentum, self.eps)
        y = (self._biased if self.biased else self._unbiased)(x, mean, var, weight, bias)
        if mean is not self.running_mean:
            self.running_mean.copy_(mean)
            self.running_var.copy_(var)
        return y

    def _unbiased(self, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return batch_norm(x, mean, var, weight, bias, True, self.momentum, self.eps)

    def _biased(self, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """torch updates by the variance over n - 1: with momentum 1 it gives that variance, which is then scaled."""
        own_mean, own_var = torch.zeros_like(mean), torch.zeros_like(var)
        y = batch_norm(x, own_mean, own_var, weight, bias, True, 1.0, self.eps)
        n = x.numel() // x.shape[1]
        mean.lerp_(own_mean, self.momentum)
        var.lerp_(own_var * ((n - 1) / n), self.momentum)
        return y


def reset_norm(norm: BatchNorm) -> None:
    """Weight 1, bias 0, running mean 0, running variance 1; running statistics on the meta device come into memory."""
    nn.init.ones_(norm.weight)
    nn.init.zeros_(norm.bias)
    device = norm.weight.device
    norm.running_mean = torch.zeros(norm.running_mean.shape, device=device)
    norm.running_var = torch.ones(norm.running_var.shape, device=device)
