"""The plain loop that speed is compared with: one clip, one unit, float32, torch's own layers. It is never tuned.

`through_plain_blocks` is the transformer of the papers as one would write it down; a family with other blocks is run
through its own code, unit by unit. Nothing here may call what the fast path of `hear_models` changes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention


def plain_scene(model: Any, audio: Tensor) -> Tensor:
    """Audio [clips, samples] → the mean of each clip's kept steps [clips, dim], one unit at a time."""
    clips = []
    with torch.inference_mode():
        for clip in audio:
            plan = model.plan(clip.shape[0], "scene")
            units = zip(plan.units, model.units(clip, plan), strict=True)
            steps = torch.cat([plain_encode(model, positions[None])[0, : unit.steps] for unit, positions in units])
            clips.append(steps[: plan.n_steps].mean(dim=0))
    return torch.stack(clips)


def plain_encode(model: Any, unit: Tensor) -> Tensor:
    """A unit [1, positions, bands] → steps [1, steps, dim]."""
    blocks = getattr(model, "blocks", None)
    if blocks is None or not (hasattr(blocks[0], "attn") and hasattr(blocks[0], "mlp")):
        return model.encode(unit)
    first = blocks[0]
    tokens = through_plain_blocks(
        model.state_dict(), model.embed(unit), first.attn.heads, first.norm1.eps, first.mlp.gelu
    )
    return model.fold_steps(tokens)


def through_plain_blocks(
    weights: dict[str, Tensor], tokens: Tensor, heads: int, eps: float, approximate: str = "tanh"
) -> Tensor:
    """Pre-norm transformer, GELU exact ("none") or "tanh": tokens [units, tokens, width] → the same, after the norm."""
    width = tokens.shape[2]

    def norm(x: Tensor, name: str) -> Tensor:
        return layer_norm(x, (width,), weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

    def dense(x: Tensor, name: str) -> Tensor:
        return linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    for block in (f"blocks.{i}" for i in range(depth)):
        q, k, v = dense(norm(tokens, f"{block}.norm1"), f"{block}.attn.qkv").unflatten(2, (3, heads, -1)).unbind(2)
        attended = scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        tokens = tokens + dense(attended.transpose(1, 2).flatten(2), f"{block}.attn.proj")
        hidden = gelu(dense(norm(tokens, f"{block}.norm2"), f"{block}.mlp.fc1"), approximate=approximate)
        tokens = tokens + dense(hidden, f"{block}.mlp.fc2")
    return norm(tokens, "norm")
