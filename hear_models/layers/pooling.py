"""From the steps of an utterance to one vector: average, statistics, self-attention, GhostVLAD."""

from __future__ import annotations

import torch
from torch import Tensor

from hear_models.errors import UsageError

SMALLEST_SQUARE = 1e-12  # under the roots: their gradient at 0 is infinite


def average(local: Tensor) -> Tensor:
    """Mean over time: [units, width, steps] → [units, width]."""
    return local.mean(-1)


def statistics(local: Tensor) -> Tensor:
    """Mean, then standard deviation over n: [units, width, steps] → [units, 2 * width] (Snyder et al. 2017)."""
    mean = local.mean(-1)
    variance = (local - mean[..., None]).square().mean(-1)
    return torch.cat([mean, variance.clamp_min(SMALLEST_SQUARE).sqrt()], dim=-1)


def self_attentive(local: Tensor, scores: Tensor) -> Tensor:
    """Mean weighted by a softmax of the steps' scores: [units, width, steps], [units, steps] → [units, width]."""
    return (local * torch.softmax(scores, dim=-1)[:, None]).sum(-1)


def ghost_vlad(local: Tensor, scores: Tensor, centers: Tensor, clusters: int) -> Tensor:
    """What is left of the steps beside the clusters that they belong to (Zhong et al. 2018).

    Each step is shared out over all clusters by a softmax of its scores. Of the first `clusters` the sums of what steps
    differ from the centre are kept, each divided by its length; the others, the ghosts, take their share away.

    Args:
        local: [units, width, steps].
        scores: [units, clusters + ghosts, steps].
        centers: [clusters + ghosts, width].
        clusters: how many are kept.

    Returns:
        [units, clusters * width], cluster after cluster.
    """
    if not 1 <= clusters <= len(centers) == scores.shape[1]:
        raise UsageError(
            f"{clusters} clusters of {len(centers)} centres and {scores.shape[1]} scores do not fit. "
            "Give a score for each centre, and at most as many clusters."
        )
    shares = torch.softmax(scores, dim=1)[:, :clusters]  # [units, clusters, steps]
    # step by step, so that steps on their centre leave exactly nothing: the division would blow up what rounding leaves
    sums = [(shares[:, k, None] * (local - centre[:, None])).sum(-1) for k, centre in enumerate(centers[:clusters])]
    residuals = torch.stack(sums, dim=1)  # [units, clusters, width]
    lengths = residuals.square().sum(-1, keepdim=True).clamp_min(SMALLEST_SQUARE).sqrt()
    return (residuals / lengths).flatten(1)
