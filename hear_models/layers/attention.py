"""Self-attention: plain, and with a window of its own for every head (section 3.2 of the MW-MAE paper)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from hear_models.layers.dense import dense, dense_add


class Attention(nn.Module):
    """Multi-head self-attention; q, k and v come from one projection whose columns are [q | k | v], each head-major."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def split_heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[units, tokens, width] → q, k, v, each [units, heads, tokens, head_width]."""
        q, k, v = dense(x, self.qkv).unflatten(2, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        return q, k, v

    def merge_heads(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """[units, heads, tokens, head_width] → their projection [units, tokens, width], plus the residual if given."""
        x = x.transpose(1, 2).flatten(2)
        return dense(x, self.proj) if residual is None else dense_add(x, self.proj, residual)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """[units, tokens, width] → attention(x), plus `residual` if given; all of the same shape."""
        return self.merge_heads(scaled_dot_product_attention(*self.split_heads(x)), residual)


class MultiWindowAttention(Attention):
    """Attention in which head h sees only its own non-overlapping window of the flattened token sequence.

    Args:
        width: token width.
        windows: tokens in the window of each head, 0 for a global head (no bias table); divisors of the sequence.
        shift: roll the sequence by half a window and forbid attention across the seam, as in Swin's odd blocks.

    A windowed head has a table of relative-position biases [2 * window - 1, 1]; query a and key b of one window use row
    a - b + window - 1.
    """

    def __init__(self, width: int, windows: Sequence[int], shift: bool = False) -> None:
        super().__init__(width, len(windows))
        self.windows = tuple(windows)
        self.shift = shift
        self.bias_tables = nn.ParameterDict(
            {str(h): nn.Parameter(torch.zeros(2 * w - 1, 1)) for h, w in enumerate(windows) if w > 0}
        )

    def bias(self, head: int) -> Tensor:
        """Relative-position bias of one windowed head, [window, window]."""
        window = self.windows[head]
        position = torch.arange(window, device=self.qkv.weight.device)
        return self.bias_tables[str(head)][:, 0][position[:, None] - position[None, :] + window - 1]

    def seam(self, n_tokens: int, window: int, like: Tensor) -> Tensor:
        """-100 between tokens of a rolled window that the sequence's seam parts, [windows, window, window]."""
        position = torch.arange(n_tokens, device=like.device)
        region = (position >= n_tokens - window).int() + (position >= n_tokens - window // 2).int()
        region = region.view(-1, window)
        return torch.where(region[:, :, None] == region[:, None, :], 0.0, -100.0).to(like.dtype)

    def attend(self, heads: list[int], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of heads that share one window; q, k, v and the result [units, heads, tokens, head_width]."""
        window, n_tokens = self.windows[heads[0]], q.shape[2]
        if window == 0:
            return scaled_dot_product_attention(q, k, v)
        roll = window // 2 if self.shift else 0
        if roll:
            q, k, v = (x.roll(-roll, dims=2) for x in (q, k, v))
        q, k, v = (x.unflatten(2, (-1, window)) for x in (q, k, v))  # [units, heads, windows, window, head_width]
        bias = torch.stack([self.bias(h) for h in heads])[:, None].to(q.dtype)  # [heads, 1, window, window]
        if roll:
            bias = bias + self.seam(n_tokens, window, q)
        logits = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + bias
        out = (logits.softmax(dim=-1) @ v).flatten(2, 3)
        return out.roll(roll, dims=2) if roll else out

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """[units, tokens, width] → the same shape; `tokens` must be a multiple of every window."""
        groups = [list(heads) for _, heads in groupby(range(self.heads), key=lambda h: self.windows[h])]
        sizes = [len(heads) for heads in groups]
        q, k, v = (part.split(sizes, dim=1) for part in self.split_heads(x))
        outputs = [self.attend(*group) for group in zip(groups, q, k, v, strict=True)]
        return self.merge_heads(torch.cat(outputs, dim=1), residual)
