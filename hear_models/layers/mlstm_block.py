"""The mLSTM block (Beck et al. 2024, arXiv 2405.04517, section 2.4), reading its tokens forwards or backwards."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, silu

from hear_models.layers.causal_conv import CausalConv
from hear_models.layers.dense import dense, dense_add, dense_of_parts
from hear_models.layers.mlstm import mlstm

NORM_EPS = 1e-5
GROUP = 4  # channels that a map to queries, keys or values mixes
HEADS = 4  # memories; the official code takes the size of those groups for their number too
KERNEL = 4  # tokens that the convolution sees
# Groups that one small product takes, with zeros between them: a quarter of the time of a product for each (CPU).
TOGETHER = 4


class ScaleNorm(nn.Module):
    """Layer normalisation without bias over the last axis; the weight is what its scale differs from 1 by."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] → the same shape."""
        return layer_norm(x, self.weight.shape, 1 + self.weight, eps=NORM_EPS)


class HeadNorm(ScaleNorm):
    """The same over the channels of each head alone, and the heads put side by side."""

    def forward(self, x: Tensor) -> Tensor:
        """[units, heads, tokens, channels of a head] → [units, tokens, channels]."""
        normed = layer_norm(x, x.shape[-1:], eps=NORM_EPS)
        return normed.transpose(1, 2).flatten(2) * (1 + self.weight)


class GroupedLinear(nn.Module):
    """A linear map, without bias, of each group of neighbouring channels to itself: a block-diagonal matrix."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels // GROUP, GROUP, GROUP))  # [groups, out, in]

    def forward(self, x: Tensor) -> Tensor:
        """[units, tokens, channels] → the same shape."""
        together = math.gcd(TOGETHER, len(self.weight))
        grouped = self.weight.unflatten(0, (-1, together)).permute(0, 2, 3, 1)  # [products, out, in, group]
        wide = (
            torch.diag_embed(grouped, dim1=1, dim2=3).flatten(3).flatten(1, 2)
        )  # [products, (group, out), (group, in)]
        rows = x.reshape(-1, len(wide), together * GROUP).transpose(0, 1)
        return torch.bmm(rows, wide.transpose(1, 2)).transpose(0, 1).reshape(x.shape)


class MLSTMLayer(nn.Module):
    """A gated memory over tokens, read first to last.

    Args:
        width: of a token.
        inner: channels of the memories, all heads together.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.learnable_skip = nn.Parameter(torch.empty(inner))
        self.proj_up = nn.Linear(width, 2 * inner, bias=False)
        self.q_proj, self.k_proj, self.v_proj = (GroupedLinear(inner) for _ in range(3))
        self.conv1d = CausalConv(inner, KERNEL)
        self.igate, self.fgate = nn.Linear(3 * inner, HEADS), nn.Linear(3 * inner, HEADS)
        self.outnorm = HeadNorm(inner)
        self.proj_down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """[units, tokens, width] → residual + layer(x), the same shape."""
        memory, z = dense(x, self.proj_up).chunk(2, dim=2)  # [units, tokens, inner] each
        a = silu(self.conv1d(memory))
        q, k, v = self.q_proj(a), self.k_proj(a), self.v_proj(memory)
        gates = dense_of_parts([q, k, v], [self.igate, self.fgate])
        igate, fgate = (gate.transpose(1, 2) for gate in gates)  # [units, heads, tokens]
        q, k, v = (y.unflatten(2, (HEADS, -1)).transpose(1, 2) for y in (q, k, v))
        h = mlstm(q, k, v, igate, fgate)
        y = self.outnorm(h) + self.learnable_skip * a
        return dense_add(y * silu(z), self.proj_down, residual)


class MLSTMBlock(nn.Module):
    """x += layer(norm(x)): no other part.

    Args:
        width: of a token.
        inner: channels of the memories.
        reverse: read from the last token to the first.
    """

    def __init__(self, width: int, inner: int, reverse: bool) -> None:
        super().__init__()
        self.reverse = reverse
        self.norm = ScaleNorm(width)
        self.layer = MLSTMLayer(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        """[units, tokens, width] → the same shape."""
        x = x.flip(1) if self.reverse else x
        x = self.layer(self.norm(x), residual=x)
        return x.flip(1) if self.reverse else x
