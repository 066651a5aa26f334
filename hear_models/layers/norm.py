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
        if self.training and self.biased:
            return self._train_biased(x)
        if x.dtype is torch.float64 and not self.training:  # whoever made the model double
            mean, var, weight, bias = (
                p.double() for p in (self.running_mean, self.running_var, self.weight, self.bias)
            )
            return batch_norm(x, mean, var, weight, bias, False, self.momentum, self.eps)
        return batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight.to(self.running_mean.dtype),
            self.bias.to(self.running_mean.dtype),
            self.training,
            self.momentum,
            self.eps,
        )

    def _train_biased(self, x: Tensor) -> Tensor:
        """torch updates by the variance over n - 1: with momentum 1 it gives that variance, which is then scaled."""
        mean, var = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        y = batch_norm(x, mean, var, self.weight.to(mean.dtype), self.bias.to(mean.dtype), True, 1.0, self.eps)
        n = x.numel() // x.shape[1]
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * ((n - 1) / n), self.momentum)
        return y


def reset_norm(norm: BatchNorm) -> None:
    """Weight 1, bias 0, running mean 0, running variance 1; running statistics on the meta device come into memory."""
    nn.init.ones_(norm.weight)
    nn.init.zeros_(norm.bias)
    device = norm.weight.device
    norm.running_mean = torch.zeros(norm.running_mean.shape, device=device)
    norm.running_var = torch.ones(norm.running_var.shape, device=device)
