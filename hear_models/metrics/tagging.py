"""Scores of audio tagging as GISE-51 reports them: mAP, mean AUC and d' with undefined classes named, never NaN.

It differs from the scores of HEAR (`clips.py`) in two ways: d' is taken from the mean
AUC (there: the mean of each class's d'), and a class that has no score is left out and counted, not scored 0 or NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hear_models.errors import InputError
from hear_models.metrics.clips import area_under_roc, average_precision


@dataclass(frozen=True)
class TaggingScores:
    """Scores of one set of clips."""

    mean_average_precision: float  # over classes that occur
    mean_auc: float | None  # over classes that occur and are absent somewhere; None: there is no such class
    d_prime: float | None  # sqrt(2) times the normal quantile of mean_auc; may be infinite
    average_precision: np.ndarray  # float64 [classes], NaN where a class does not occur
    auc: np.ndarray  # float64 [classes], NaN where it is undefined
    without_positives: tuple[int, ...]  # classes left out of both means
    without_negatives: tuple[int, ...]  # classes left out of mean_auc

    def summary(self) -> str:
        """One line, with what was left out."""
        line = f"mAP {self.mean_average_precision:.4f}"
        if self.mean_auc is not None:
            line += f"  mAUC {self.mean_auc:.4f}  d' {self.d_prime:.4f}"
        n, left_out = len(self.auc), len(self.without_positives)
        return line + (f"  ({n - left_out} of {n} classes occur)" if left_out else "")


def tagging_scores(scores: np.ndarray, targets: np.ndarray, classes: Sequence[int] | None = None) -> TaggingScores:
    """mAP, mAUC and d' of clips.

    Args:
        scores: [clips, classes], any monotonous score: logits and probabilities give the same.
        targets: [clips, classes], 0 or 1.
        classes: indices of the classes that count; None: all.

    Raises:
        InputError: shapes differ, a score is not finite, a target is neither 0 nor 1, or no class occurs.
    """
    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if scores.ndim != 2 or scores.shape != targets.shape or not scores.size:
        raise InputError(
            f"scores {scores.shape} and targets {targets.shape} do not fit. Give two arrays [clips, classes]."
        )
    if not np.isfinite(scores).all():
        raise InputError(f"{int((~np.isfinite(scores)).sum())} scores are NaN or infinite. Give finite ones.")
    if not np.isin(targets, (0, 1)).all():
        raise InputError("targets hold something else than 0 and 1. Mixed targets cannot be scored.")
    if classes is not None:
        scores, targets = scores[:, list(classes)], targets[:, list(classes)]
    positives = targets.sum(0)
    occurs = positives > 0
    if not occurs.any():
        raise InputError("no class occurs in the targets, so there is nothing to score. Give labelled clips.")
    precision = np.where(occurs, average_precision(scores, targets), np.nan)
    auc = area_under_roc(scores, targets)
    ranked = ~np.isnan(auc)
    mean_auc = float(auc[ranked].mean()) if ranked.any() else None
    return TaggingScores(
        float(precision[occurs].mean()),
        mean_auc,
        None if mean_auc is None else d_prime_of_auc(mean_auc),
        precision,
        auc,
        tuple(np.flatnonzero(~occurs).tolist()),
        tuple(np.flatnonzero(positives == len(targets)).tolist()),
    )


def d_prime_of_auc(auc: float) -> float:
    """d' = sqrt(2) times the standard normal quantile of an AUC in [0, 1]: 0.5 gives 0, 1 gives infinity."""
    import torch

    if not 0 <= auc <= 1:
        raise InputError(f"{auc} is no AUC. Give a number from 0 to 1.")
    return math.sqrt(2.0) * float(torch.special.ndtri(torch.tensor(auc, dtype=torch.float64)))
