"""Scores of clip-level predictions as hear-eval-kit has them: accuracy, chroma, mAP, AUC and d', of float32 outputs.

Event metrics are in `events.py`. All arrays are [rows, classes]; targets are 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from hear_models.errors import UsageError

CHROMA_CLASSES = 12


def top1_accuracy(prediction: np.ndarray, target: np.ndarray) -> float:
    """Share of rows whose largest output is their label; of several labels (or none) the lowest index counts (0)."""
    return int((prediction.argmax(1) == target.argmax(1)).sum()) / len(target)


def chroma_accuracy(prediction: np.ndarray, target: np.ndarray) -> float:
    """Share of rows right up to octaves: equality modulo 12 of class indices (not of MIDI numbers, as in the kit)."""
    right = prediction.argmax(1) % CHROMA_CLASSES == target.argmax(1) % CHROMA_CLASSES
    return int(right.sum()) / len(target)


def average_precision(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Average precision of each class, float64 [classes]: sum over thresholds of (recall gained) x precision.

    Rows of equal output share a threshold. A class without positives has 0 (scikit-learn's `average_precision_score`,
    which this equals to the last bit: the choice of an epoch depends on it).
    """
    rows, classes = target.shape
    order = np.argsort(prediction, axis=0, kind="stable")[::-1]
    outputs = np.take_along_axis(prediction, order, axis=0)
    hits = np.cumsum(np.take_along_axis(target, order, axis=0), axis=0, dtype=np.float64)
    last = np.ones((rows, classes), dtype=bool)  # the last row of each run of equal outputs
    last[:-1] = outputs[:-1] != outputs[1:]
    found = np.zeros(classes)
    ranks = np.arange(1, rows + 1, dtype=np.float64)
    for column in range(classes):
        if hits[-1, column] == 0:
            continue
        keep = last[:, column]
        true = hits[keep, column]
        precision = true / ranks[keep]
        recall = true / true[-1]
        # from the lowest threshold to the highest, then down to recall 0, in scikit-learn's order of summation
        gained = np.diff(np.append(recall[::-1], 0.0))
        found[column] = max(0.0, -np.sum(gained * precision[::-1]))
    return found


def mean_average_precision(prediction: np.ndarray, target: np.ndarray) -> float:
    """Mean over classes of `average_precision`; a class without positives counts 0."""
    return float(np.average(average_precision(prediction, target)))


def area_under_roc(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """AUC of each class, float64 [classes]; ties count half; NaN for a class without positives or negatives."""
    rows, classes = target.shape
    found = np.full(classes, np.nan)
    for column in range(classes):
        positive = target[:, column] > 0
        positives = int(positive.sum())
        negatives = rows - positives
        if positives and negatives:
            _, inverse, counts = np.unique(prediction[:, column], return_inverse=True, return_counts=True)
            mean_rank = np.cumsum(counts) - (counts - 1) / 2
            above = mean_rank[inverse][positive].sum() - positives * (positives + 1) / 2
            found[column] = above / (positives * negatives)
    return found


def mean_area_under_roc(prediction: np.ndarray, target: np.ndarray) -> float:
    """Mean over classes of `area_under_roc`; NaN if a class has no positives or no negatives (recent scikit-learn)."""
    return float(np.mean(area_under_roc(prediction, target)))


def d_prime(prediction: np.ndarray, target: np.ndarray) -> float:
    """Mean over classes of sqrt(2) times the normal quantile of the AUC; infinite when a class is ranked perfectly."""
    import torch

    quantiles = torch.special.ndtri(torch.from_numpy(area_under_roc(prediction, target))).numpy()
    with np.errstate(invalid="ignore"):  # +inf and -inf in one mean
        return float(np.mean(quantiles * math.sqrt(2.0)))


SCENE_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "top1_acc": top1_accuracy,
    "pitch_acc": top1_accuracy,
    "chroma_acc": chroma_accuracy,
    "mAP": mean_average_precision,
    "aucroc": mean_area_under_roc,
    "d_prime": d_prime,
}
LOWER_IS_BETTER = ("segment_1s_er",)


def score_clips(metric: str, prediction: np.ndarray, target: np.ndarray) -> float:
    """One metric of predictions and targets [rows, classes], as float32 (the kit logs float32); may be NaN or infinite.

    Raises UsageError for a metric that is not one of clips.
    """
    if metric not in SCENE_METRICS:
        raise UsageError(f"{metric!r} is no metric of clips. Known ones: {', '.join(SCENE_METRICS)}.")
    return float(np.float32(SCENE_METRICS[metric](prediction, target)))


def why_not_finite(metric: str, prediction: np.ndarray, target: np.ndarray, labels: Sequence[str]) -> str:
    """Why a metric of these predictions and targets [rows, classes] is infinite or not a number, as a clause."""
    if not np.isfinite(prediction).all():
        return "the predictions hold NaN or infinity"
    if metric not in ("aucroc", "d_prime"):
        return "it is not a number"
    positives = target.sum(axis=0)
    auc = area_under_roc(prediction, target)
    cases = {
        "no clip is labelled": positives == 0,
        "every clip is labelled": positives == len(target),
        "infinite, as every clip is ranked right for": auc == 1,
        "minus infinite, as every clip is ranked wrong for": auc == 0,
    }
    for clause, classes in cases.items():
        if classes.any():
            return f"{clause} {_few([labels[k] for k in np.flatnonzero(classes).tolist()])}"
    return "it is not a number"


def _few(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def finite(value: float) -> float | None:
    """The value, or None where it is infinite or not a number, as records store it."""
    return value if math.isfinite(value) else None
