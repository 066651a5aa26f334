"""The pre-norm transformer block of the ViT encoders and decoders."""

from __future__ import annotations

from torch import Tensor, nn

from hear_models.layers.attention import Attention
from hear_models.layers.dense import dense_add, dense_gelu

LAYER_NORM_EPS = 1e-6


class Mlp(nn.Module):
    """Two linear layers with GELU between them: its approximation "tanh" (Flax's default) or "none", the exact one."""

    def __init__(self, width: int, hidden: int, gelu: str = "tanh") -> None:
        super().__init__()
        self.gelu = gelu
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """[..., width] → residual + mlp(x), the same shape."""
        return dense_add(dense_gelu(x, self.fc1, self.gelu), self.fc2, residual)


class Block(nn.Module):
    """x += attention(norm1(x)); x += mlp(norm2(x)). No dropout, no drop-path, no layer scale."""

    def __init__(self, attention: Attention, width: int, mlp_ratio: float = 4.0, gelu: str = "tanh") -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(width, int(width * mlp_ratio), gelu)

    def forward(self, x: Tensor) -> Tensor:
        """[units, tokens, width] → the same shape."""
        x = self.attn(self.norm1(x), residual=x)
        return self.mlp(self.norm2(x), residual=x)
