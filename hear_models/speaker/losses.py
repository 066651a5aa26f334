"""Losses that learn speakers as classes: plain softmax, and cosines with a margin (AM, AAM)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, normalize, one_hot

from hear_models.errors import UsageError

KINDS = ("softmax", "am", "aam")
SMALLEST_SQUARE = 1e-12  # of a sine: the gradient of its root is infinite at 0


def class_logits(
    embeddings: Tensor, weight: Tensor, labels: Tensor, kind: str = "am", scale: float = 30.0, margin: float = 0.35
) -> Tensor:
    """What the cross-entropy of `class_loss` sees, [clips, classes]; the margin is in each clip's own class."""
    if kind not in KINDS:
        raise UsageError(f"the loss {kind!r} is unknown. Use one of {', '.join(KINDS)}.")
    if kind == "softmax":
        return linear(embeddings, weight)
    cosine = linear(normalize(embeddings), normalize(weight))
    own = one_hot(labels, len(weight)).bool()
    if kind == "am":
        return scale * (cosine - margin * own)
    sine = (1 - cosine.square()).clamp(SMALLEST_SQUARE, 1).sqrt()
    turned = cosine * math.cos(margin) - sine * math.sin(margin)  # cos(angle + margin)
    # past pi - margin the cosine would rise again: there it goes on falling along a line
    target = torch.where(cosine > math.cos(math.pi - margin), turned, cosine - margin * math.sin(math.pi - margin))
    return scale * torch.where(own, target, cosine)


def class_loss(
    embeddings: Tensor, weight: Tensor, labels: Tensor, kind: str = "am", scale: float = 30.0, margin: float = 0.35
) -> Tensor:
    """Mean cross-entropy of the speakers' classes; keeps gradients.

    Args:
        embeddings: [clips, dim], of any length.
        weight: [classes, dim], one direction a speaker; no bias.
        labels: int64 [clips].
        kind: "softmax", plain products; "am", s (cos - m) for the own class (Wang et al. 2018); "aam", s cos(angle + m)
            for it (Deng et al. 2019).
        scale: s, of "am" and "aam".
        margin: m, of "am" in cosines, of "aam" in radians.
    """
    return cross_entropy(class_logits(embeddings, weight, labels, kind, scale, margin), labels)
