"""The block of Mamba (Gu & Dao 2023, arXiv 2312.00752, section 3.4): a gated selective scan over the tokens so far."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from hear_models.layers.causal_conv import CausalConv
from hear_models.layers.dense import dense, dense_add
from hear_models.layers.selective_scan import selective_scan
from hear_models.layers.transformer import LAYER_NORM_EPS


@dataclass
class Memory:
    """What a mixer knows of the tokens before: nothing at the beginning of a sequence."""

    past: Tensor | None = None  # what entered the convolution last, [units, kernel - 1, inner]
    state: Tensor | None = None  # of the scan, [units, inner, state]


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

    def forward(self, x: Tensor, residual: Tensor, memory: Memory | None = None) -> Tensor:
        """[units, tokens, width] → residual + mixer(x), the same shape; x goes on from `memory`, and is in it then."""
        u, z = dense(x, self.in_proj).chunk(2, dim=2)  # [units, tokens, inner] each
        past, state = (None, None) if memory is None else (memory.past, memory.state)
        if memory is not None:
            memory.past = self.conv1d.past(u, past)
        u = silu(self.conv1d(u, past))
        step, b, c = dense(u, self.x_proj).split([self.rank, self.state, self.state], dim=2)
        y, state = selective_scan(
            u.transpose(1, 2),
            linear(step, self.dt_proj.weight).transpose(1, 2),
            -torch.exp(self.A_log.float()),
            b.transpose(1, 2),
            c.transpose(1, 2),
            self.D,
            z.transpose(1, 2),
            self.dt_proj.bias,
            backend=self.backend,
            state=state,
            return_state=True,
        )
        if memory is not None:
            memory.state = state
        return dense_add(y.transpose(1, 2), self.out_proj, residual)


class MambaBlock(nn.Module):
    """x += mixer(norm(x)): no other part, and nothing looks ahead."""

    def __init__(self, width: int, mixer: Mixer) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mixer = mixer

    def memory(self) -> Memory:
        """What is known before the first token; given to `forward` each time, it lets a sequence come in pieces."""
        return Memory()

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """[units, tokens, width] → the same shape."""
        mixed: Tensor = self.mixer(self.norm(x), residual=x, memory=memory)
        return mixed
