"""The block of AudioMAE++: half a feed-forward layer, attention, and SwiGLU with a norm inside (arXiv 2507.10464)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from hear_models.layers.attention import Attention
from hear_models.layers.dense import dense
from hear_models.layers.transformer import LAYER_NORM_EPS, Block

BLOCKS = ("swiglu", "macaron", "plain")


class SiluMlp(nn.Module):
    """Two linear layers with SiLU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layer1 = nn.Linear(width, hidden)
        self.layer2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] → the same shape."""
        return dense(silu(dense(x, self.layer1)), self.layer2)


class SwiGLU(nn.Module):
    """project(norm(silu(linear2(x)) * linear1(x))); the norm is not in the usual form of the layer.

    Args:
        width: of a token.
        hidden: of the gate and what it gates.
        additive: the two are added instead of multiplied (in no published model).
    """

    def __init__(self, width: int, hidden: int, additive: bool = False) -> None:
        super().__init__()
        self.additive = additive
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(width, hidden)
        self.ln = nn.LayerNorm(hidden, eps=LAYER_NORM_EPS)
        self.project = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] → the same shape."""
        value, gate = dense(x, self.linear1), silu(dense(x, self.linear2))
        return dense(self.ln(value + gate if self.additive else value * gate), self.project)


class MacaronBlock(nn.Module):
    """x += ffn1(norm1(x)) / 2; x += attention(norm2(x)); x += ffn2(norm2(x)).

    One norm serves twice, and only the first layer is halved, as in the official code (quirks `shared-norm` and
    `one-half`).

    Args:
        attention: of the block.
        width: of a token.
        hidden: of the first feed-forward layer.
        last: the second one.
    """

    def __init__(self, attention: Attention, width: int, hidden: int, last: nn.Module) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.ffn1 = SiluMlp(width, hidden)
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attn = attention
        self.ffn2 = last

    def forward(self, x: Tensor) -> Tensor:
        """[units, tokens, width] → the same shape."""
        x = torch.add(x, self.ffn1(self.norm1(x)), alpha=0.5)
        x = self.attn(self.norm2(x), residual=x)
        fed: Tensor = x + self.ffn2(self.norm2(x))
        return fed


class RotaryAttention(Attention):
    """Attention whose q and k are turned by an angle for each place in the sequence (Su et al. 2021, RoFormer).

    Places count from 0, class token included, in the sequence as it comes: in pretraining that of the shuffled visible
    tokens (quirk `shuffled-rotation`). Pair k of a head, values 2 k and 2 k + 1, turns by place * 10000^(-2 k / d).
    """

    def split_heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As the base; q and k turned."""
        q, k, v = super().split_heads(x)
        turned = torch.arange(0, q.shape[3], 2, dtype=torch.float32, device=x.device) / q.shape[3]
        angle = torch.arange(q.shape[2], device=x.device)[:, None] * 10_000.0**-turned
        cos, sin = angle.cos().to(q.dtype), angle.sin().to(q.dtype)
        return turn_pairs(q, cos, sin), turn_pairs(k, cos, sin), v


def turn_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs that lie side by side in x [..., tokens, d], each turned by its angle [tokens, d / 2]."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)


def new_block(
    kind: str,
    width: int,
    heads: int,
    rope: bool,
    mlp_ratio: float,
    limited: bool = False,
    additive: bool = False,
) -> nn.Module:
    """A block of a kind of `BLOCKS`.

    Args:
        kind: "swiglu", the published one; "macaron", whose last layer is like its first; "plain", a ViT's.
        width, heads: of its tokens and of its attention.
        rope: rotary positions.
        mlp_ratio: hidden width of a feed-forward layer / width; SwiGLU has two thirds of it, so that it costs as much.
        limited: SwiGLU has half of it.
        additive: as for `SwiGLU`.
    """
    attention = (RotaryAttention if rope else Attention)(width, heads)
    hidden = int(width * mlp_ratio)
    if kind == "plain":
        return Block(attention, width, mlp_ratio, gelu="none")
    if kind == "macaron":
        return MacaronBlock(attention, width, hidden, SiluMlp(width, hidden))
    gated = int(width * mlp_ratio / 2) if limited else int(width * mlp_ratio * (2 / 3))
    return MacaronBlock(attention, width, hidden, SwiGLU(width, gated, additive))
