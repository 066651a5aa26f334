"""Losses of supervised training and mixup, as GISE-51's authors train."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from hear_models.errors import UsageError

OFFICIAL_SEED = 1233  # quirk "mixup-shares": the authors' mixup starts this generator again at every call


def multilabel_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of logits and (soft) targets [clips, classes] in [0, 1], mean over all entries."""
    return binary_cross_entropy_with_logits(logits, targets)


def focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss (Lin et al. 2017, equation 5) of logits and (soft) targets [clips, classes], mean.

    Args:
        alpha: weight of the targets; the rest of 1 is the weight of their complement.
        gamma: how strongly an entry that is right already counts less.
    """
    probability = torch.sigmoid(logits)
    right = probability * targets + (1 - probability) * (1 - targets)
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    entropy = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (weight * (1 - right) ** gamma * entropy).mean()


LOSSES = {"bce": multilabel_loss, "focal": focal_loss}


def mixup_shares(size: int, rng: np.random.Generator | np.random.RandomState) -> np.ndarray:
    """How much of each clip stays, float32 [size], uniform in [0, 1] (Beta(1, 1); Zhang et al. 2018)."""
    return rng.beta(1, 1, size).astype(np.float32)


def official_mixup_shares(size: int) -> np.ndarray:
    """The shares of the authors' code: the same ones for every batch of a size (quirk "mixup-shares")."""
    return mixup_shares(size, np.random.RandomState(OFFICIAL_SEED))


def mix(batch: Tensor, shares: Tensor, partners: Tensor) -> Tensor:
    """Each row and its partner: share * row + (1 - share) * partner.

    Args:
        batch: [clips, ...], features or multi-hot targets.
        shares: [clips] in [0, 1].
        partners: int64 [clips], a permutation.
    """
    if not len(batch) == len(shares) == len(partners):
        raise UsageError(
            f"{len(batch)} clips, {len(shares)} shares and {len(partners)} partners do not fit. Give as many of each."
        )
    shares = shares.reshape(-1, *[1] * (batch.ndim - 1)).to(batch.dtype)
    return shares * batch + (1 - shares) * batch[partners]


def mixed_class_loss(logits: Tensor, labels: Tensor, shares: Tensor, partners: Tensor) -> Tensor:
    """Cross-entropy of mixed clips that have one class each: both classes, weighted by the shares, mean over clips.

    Args:
        logits: [clips, classes] of clips that `mix` has mixed. The authors' code passes those of the clips as they were
            (quirk "multiclass-mixup"), which makes the second label noise.
        labels: int64 [clips].
    """
    own = cross_entropy(logits, labels, reduction="none")
    other = cross_entropy(logits, labels[partners], reduction="none")
    return (shares * own + (1 - shares) * other).mean()
