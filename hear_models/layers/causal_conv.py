"""A causal convolution over tokens with a filter of its own for every channel, as Mamba and xLSTM blocks have."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad


class CausalConv(nn.Module):
    """Token t becomes bias + sum over j of weight[j] * token t - kernel + 1 + j; zeros stand before the first token."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor, past: Tensor | None = None) -> Tensor:
        """[units, tokens, channels] → the same shape.

        `past` [units, kernel - 1, channels] are the tokens before x, if x goes on from earlier ones.
        """
        x = self._behind(x, past)
        # as an image [units, channels, 1, tokens] whose channels lie side by side, which a CPU does quicker than conv1d
        image = x.transpose(1, 2)[:, :, None]
        y = conv2d(image, self.weight[:, :, None], self.bias, groups=len(self.weight))
        return y[:, :, 0].transpose(1, 2)

    def past(self, x: Tensor, past: Tensor | None = None) -> Tensor:
        """What the call after that with x and `past` takes as its `past`."""
        whole = self._behind(x, past)
        return whole[:, whole.shape[1] - (self.weight.shape[2] - 1) :]

    def _behind(self, x: Tensor, past: Tensor | None) -> Tensor:
        return pad(x, (0, 0, self.weight.shape[2] - 1, 0)) if past is None else torch.cat([past, x], dim=1)
