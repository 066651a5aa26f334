"""The pre-norm transformer block of the ViT encoders and decoders."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import gelu

from hear_models.layers.attention import Attention

LAYER_NORM_EPS = 1e-6


class Mlp(nn.Module):
    """Two linear layers with the tanh approximation of GELU between them (Flax's default)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] → the same shape."""
        return self.fc2(gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    """x += attention(norm1(x)); x += mlp(norm2(x)). No dropout, no drop-path, no layer scale."""

    def __init__(self, attention: Attention, width: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """[units, tokens, width] → the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))
