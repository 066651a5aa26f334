"""How well scores tell same from different speakers: EER, detection costs, the DET curve, bootstrap intervals.

A trial is accepted if its score is at or above the threshold. Thresholds are the distinct scores in rising order, and
plus infinity, so tied scores are never split and nothing depends on the order of the trials.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hear_models.errors import InputError

Scores = Sequence[float] | np.ndarray
Labels = Sequence[int] | np.ndarray


def check_trials(scores: Scores, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Scores float64 [trials], and whether each is of the same speaker, bool [trials].

    Raises:
        InputError (a ValueError): not 1-D or not as long as each other, NaN or infinity, a label that is neither 0 nor
            1, or only one of the two.
    """
    try:
        values, marks = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"scores or labels are no numbers ({error}). Give numbers, and labels 0 or 1.") from error
    if values.ndim != 1 or values.shape != marks.shape:
        raise InputError(f"{values.shape} scores and {marks.shape} labels do not fit. Give a label for each score.")
    if not np.isfinite(values).all():
        odd = int(np.argmin(np.isfinite(values)))
        raise InputError(f"the score of trial {odd} is {values[odd]}. Leave that trial out or repair it.")
    if not np.isin(marks, (0, 1)).all():
        odd = int(np.argmin(np.isin(marks, (0, 1))))
        raise InputError(f"the label of trial {odd} is {marks[odd]}. Labels are 1 (same speaker) and 0.")
    same = marks == 1
    if same.all() or not same.any():
        raise InputError(
            "all trials are of one kind. Give some of the same speaker (1) and some of different ones (0)."
        )
    return values, same


def det_points(scores: Scores, labels: Labels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Operating points in the order of rising thresholds, from "accept all" (1, 0) to "accept none" (0, 1).

    Returns:
        false positive rates, false negative rates and thresholds, float64 [points], the last one infinite.

    Raises:
        InputError (a ValueError): see `check_trials`.
    """
    return _points(*check_trials(scores, labels))


def _points(values: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    thresholds, place = np.unique(values, return_inverse=True)
    targets = np.bincount(place[same], minlength=len(thresholds))
    others = np.bincount(place[~same], minlength=len(thresholds))
    missed = np.concatenate([[0], np.cumsum(targets)])  # targets below the threshold
    accepted = np.concatenate([[0], np.cumsum(others[::-1])])[::-1]  # others at or above it
    return accepted / others.sum(), missed / targets.sum(), np.append(thresholds, np.inf)


def equal_error_rate(scores: Scores, labels: Labels) -> tuple[float, float]:
    """Where both error rates are equal, on straight lines between the operating points.

    Returns:
        (rate, threshold): the rate a fraction; the threshold interpolated likewise, as far as it is finite.

    Raises:
        InputError (a ValueError): see `check_trials`.
    """
    fpr, fnr, thresholds = det_points(scores, labels)
    apart = fnr - fpr
    i = int(np.argmax(apart >= 0))  # the first; at 0 it is -1
    if apart[i] == 0:
        return float(fpr[i]), float(thresholds[i])
    share = -apart[i - 1] / (apart[i] - apart[i - 1])
    rate = fnr[i - 1] + share * (fnr[i] - fnr[i - 1])
    below = thresholds[i - 1]
    step = thresholds[i] - below
    return float(rate), float(below + share * step if math.isfinite(step) else below)


def min_dcf(
    scores: Scores, labels: Labels, p_target: float = 0.01, c_miss: float = 1.0, c_false: float = 1.0
) -> tuple[float, float]:
    """The smallest detection cost that any threshold reaches, over that of the better of "all" and "none".

    Args:
        p_target: how probable the same speaker is.
        c_miss: cost of a missed target.
        c_false: cost of a false alarm.

    Returns:
        (cost, threshold): the cost is 1 at most; of several thresholds with that cost the smallest.

    Raises:
        InputError (a ValueError): see `check_trials`; or a probability or a cost out of range.
    """
    _check_costs(p_target, c_miss, c_false)
    fpr, fnr, thresholds = det_points(scores, labels)
    costs = _cost(fpr, fnr, p_target, c_miss, c_false)
    best = int(np.argmin(costs))
    return float(costs[best]), float(thresholds[best])


def act_dcf(scores: Scores, labels: Labels, p_target: float = 0.01, c_miss: float = 1.0, c_false: float = 1.0) -> float:
    """The detection cost of scores that are meant as log-likelihood ratios, at Bayes' threshold; may exceed 1.

    Arguments and errors as of `min_dcf`. With equal costs the threshold is ln((1 - p) / p).
    """
    _check_costs(p_target, c_miss, c_false)
    values, same = check_trials(scores, labels)
    accepted = values >= math.log(c_false * (1 - p_target) / (c_miss * p_target))
    return float(_cost(accepted[~same].mean(), 1 - accepted[same].mean(), p_target, c_miss, c_false))


def _check_costs(p_target: float, c_miss: float, c_false: float) -> None:
    if not 0 < p_target < 1 or not 0 < c_miss < math.inf or not 0 < c_false < math.inf:
        raise InputError(
            f"p_target={p_target}, c_miss={c_miss}, c_false={c_false}: give a probability between 0 and 1, and costs "
            "above 0."
        )


def _cost(fpr: Any, fnr: Any, p_target: float, c_miss: float, c_false: float) -> Any:
    miss, false = c_miss * p_target, c_false * (1 - p_target)
    return (miss * fnr + false * fpr) / min(miss, false)


def bootstrap(
    scores: Scores,
    labels: Labels,
    metric: Callable[[np.ndarray, np.ndarray], Any],
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[np.ndarray, tuple[float, float]]:
    """What `metric` would have been with other trials: targets and others are drawn again, each kind by itself.

    Trials that share speakers are not independent, so the interval is narrower than the truth.

    Args:
        metric: (scores, labels) → a number, or a tuple that begins with it, as `equal_error_rate`.
        resamples: how often.
        seed: of the draws.
        level: of the interval.

    Returns:
        values float64 [resamples], and the interval between their quantiles (1 - level) / 2 and (1 + level) / 2.

    Raises:
        InputError (a ValueError): see `check_trials`; or resamples below 1, a level that is not between 0 and 1.
    """
    if resamples < 1 or not 0 < level < 1:
        raise InputError(f"resamples={resamples}, level={level}: give at least 1 resample, a level between 0 and 1.")
    values, same = check_trials(scores, labels)
    targets, others = values[same], values[~same]
    drawn_labels = np.repeat([1, 0], [len(targets), len(others)])
    rng = np.random.Generator(np.random.PCG64(seed))
    found = np.empty(resamples)
    for index in range(resamples):
        i = rng.integers(0, len(targets), len(targets))
        j = rng.integers(0, len(others), len(others))
        value = metric(np.concatenate([targets[i], others[j]]), drawn_labels)
        found[index] = value[0] if isinstance(value, tuple) else value
    tail = (1 - level) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return found, (float(low), float(high))
