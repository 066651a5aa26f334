"""The block of Mamba (Gu & Dao 2023, arXiv 2312.00752, section 3.4): a gated selective scan over the tokens so far."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from hear_models.layers.causal_conv import CausalConv
from hear_models.layers.dense import dense, dense_add
from hear_models.layers.selective_scan import selective_scan
from hear_models.layers.transformer import LAYER_NORM_EPS


class Mixer(nn.Module):
    """The names of its tensors are those of `mamba_ssm`; `A_log`, `D` and the bias of `dt_proj` stay float32.

    Args:
        width: of a token.
        inner: channels of the scan.
        state: numbers that every channel remembers.
        kernel: tokens that the convolution before the scan sees.
        backend: of `selective_scan`.
    """

    def __init__(self, width: int, inner: int, state: int, kernel: int, backend: str = "auto") -> None:
        super().__init__()
        self.state, self.backend = state, backend
        self.rank = math.ceil(width / 16)  # of the step sizes
        self.A_log = nn.Parameter(torch.empty(inner, state))
        self.D = nn.Parameter(torch.empty(inner))
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = CausalConv(inner, kernel)
        self.x_proj = nn.Linear(inner, self.rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """[units, tokens, width] → residual + mixer(x), the same shape."""
        u, z = dense(x, self.in_proj).chunk(2, dim=2)  # [units, tokens, inner] each
        u = silu(self.conv1d(u))
        step, b, c = dense(u, self.x_proj).split([self.rank, self.state, self.state], dim=2)
        y = selective_scan(
            u.transpose(1, 2),
            linear(step, self.dt_proj.weight).transpose(1, 2),
            -torch.exp(self.A_log.float()),
            b.transpose(1, 2),
            c.transpose(1, 2),
            self.D,
            z.transpose(1, 2),
            self.dt_proj.bias,
            backend=self.backend,
        )
        return dense_add(y.transpose(1, 2), self.out_proj, residual)


class MambaBlock(nn.Module):
    """x += mixer(norm(x)): no other part, and nothing looks ahead."""

    def __init__(self, width: int, mixer: Mixer) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mixer = mixer

    def forward(self, x: Tensor) -> Tensor:
        """[units, tokens, width] → the same shape."""
        mixed: Tensor = self.mixer(self.norm(x), residual=x)
        return mixed
