"""From embeddings to the score of a trial: cosine, ten crops, normalisation by a cohort; what a test drops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hear_models.errors import InputError

NORMALISATIONS = ("none", "znorm", "tnorm", "snorm", "asnorm", "asnorm2")
CROP_SCORES = ("mean_cosine", "neg_mean_distance", "cosine_of_means")


def directions(embeddings: Any, what: str = "embeddings") -> np.ndarray:
    """Embeddings [clips, dim] divided by their lengths, float64.

    Raises InputError (a ValueError): not 2-D, NaN or infinity, or an embedding that is zero.
    """
    values = np.asarray(embeddings, np.float64)
    if values.ndim != 2 or not len(values):
        raise InputError(f"{what} have the shape {list(values.shape)}. Give [clips, dim].")
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        bad = int(np.argmin(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)))
        raise InputError(f"{what}: number {bad} is zero or not finite, so it has no direction. Leave that clip out.")
    unit: np.ndarray = values / lengths
    return unit


def normalised_scores(
    enrol: Any, test: Any, cohort: Any = None, kind: str = "snorm", top: int | None = 300, ddof: int = 0
) -> np.ndarray:
    """Cosines of pairs, made comparable by what each side scores against speakers who are neither.

    Args:
        enrol, test: [trials, dim], the two sides of each trial.
        cohort: [speakers, dim], usually a mean embedding each; not needed for "none".
        kind: "none": the cosine; "znorm": less the mean and over the deviation of the enrolment side's cohort scores;
            "tnorm": of the test side's; "snorm": the mean of both; "asnorm": the same over each side's `top` highest
            cohort scores; "asnorm2": over the cohort speakers that are highest for the other side.
        top: of the adaptive kinds; more than there are, or None: all.
        ddof: of the deviation.

    Returns:
        float64 [trials].

    Raises:
        InputError (a ValueError): an unknown kind, no cohort, shapes that do not fit, a deviation of 0, embeddings that
            are zero or not finite.
    """
    if kind not in NORMALISATIONS:
        raise InputError(f"the normalisation {kind!r} is unknown. Use one of {', '.join(NORMALISATIONS)}.")
    e, t = directions(enrol, "enrolment embeddings"), directions(test, "test embeddings")
    if e.shape != t.shape:
        raise InputError(f"{list(e.shape)} enrolment and {list(t.shape)} test embeddings are no pairs.")
    scores: np.ndarray = (e * t).sum(1)
    if kind == "none":
        return scores
    if cohort is None:
        raise InputError(f"{kind} needs a cohort: embeddings of other speakers.")
    c = directions(cohort, "cohort embeddings")
    if c.shape[1] != e.shape[1]:
        raise InputError(f"the cohort has {c.shape[1]} dimensions, the trials have {e.shape[1]}.")
    of_e, of_t = e @ c.T, t @ c.T  # [trials, cohort]
    if kind in ("asnorm", "asnorm2"):
        if top is not None and top < 1:
            raise InputError(f"top is {top}. Give at least 1, or None for the whole cohort.")
        by_e, by_t = _highest(of_e, top), _highest(of_t, top)
        if kind == "asnorm2":
            by_e, by_t = by_t, by_e
        of_e, of_t = np.take_along_axis(of_e, by_e, 1), np.take_along_axis(of_t, by_t, 1)
    z = None if kind == "tnorm" else _standardised(scores, of_e, ddof)
    t_ = None if kind == "znorm" else _standardised(scores, of_t, ddof)
    if z is None or t_ is None:
        only = t_ if z is None else z
        assert only is not None
        return only
    return (z + t_) / 2


def _highest(scores: np.ndarray, top: int | None) -> np.ndarray:
    """Indices [trials, top] of the highest cohort scores; of equal ones the first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :top]


def _standardised(scores: np.ndarray, against: np.ndarray, ddof: int) -> np.ndarray:
    n = against.shape[1]
    deviation = against.std(axis=1, ddof=ddof) if n > ddof else np.zeros(len(scores))
    if not (deviation > 0).all():
        raise InputError(
            f"the {n} cohort scores of trial {int(np.argmin(deviation > 0))} are all equal, so there is nothing to "
            "divide by. Give a larger cohort."
        )
    standardised: np.ndarray = (scores - against.mean(axis=1)) / deviation
    return standardised


def crop_starts(n: int, length: int, crops: int = 10) -> np.ndarray:
    """First samples, int64 [crops], of crops of `length` that lie evenly over `n` samples, both ends included.

    A clip that is not longer gives the same crop every time; see `crop`.
    """
    if min(n, length, crops) < 1:
        raise InputError(f"n={n}, length={length}, crops={crops}: give at least 1 of each.")
    return np.linspace(0, max(0, n - length), crops).astype(np.int64)


def crop(clip: np.ndarray, start: int, length: int) -> np.ndarray:
    """`length` samples of a clip [samples] from `start`; one that is too short is begun again."""
    if len(clip) < length:
        clip = np.resize(clip, length)
    return clip[start : start + length]


def crop_score(a: Any, b: Any, how: str = "mean_cosine") -> float:
    """The score of two recordings from the embeddings of their crops, [crops, dim] each.

    Args:
        how: "mean_cosine": mean cosine of every crop of one with every crop of the other; "neg_mean_distance": minus
            the mean distance of their directions; "cosine_of_means": of the directions' means. They rank differently.
    """
    if how not in CROP_SCORES:
        raise InputError(f"how={how!r} is unknown. Use one of {', '.join(CROP_SCORES)}.")
    one, other = directions(a, "crops of the first"), directions(b, "crops of the second")
    if how == "mean_cosine":
        return float((one @ other.T).mean())
    if how == "neg_mean_distance":
        return -float(np.linalg.norm(one[:, None] - other[None], axis=2).mean())
    x, y = one.mean(0), other.mean(0)
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def dropped(
    n_bins: int, n_frames: int, share_bins: float, share_frames: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bins and frames that a test of robustness sets to zero: (bins, frames), int64, rising.

    How many is rounded half up. Both orders are drawn whatever the shares, so bins dropped at one share of frames are
    those dropped at another.
    """
    if min(n_bins, n_frames) < 1 or not (0 <= share_bins <= 1 and 0 <= share_frames <= 1):
        raise InputError(
            f"{n_bins} bins, {n_frames} frames, shares {share_bins} and {share_frames}: give at least one of each, and "
            "shares from 0 to 1."
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    bins = rng.permutation(n_bins)[: math.floor(share_bins * n_bins + 0.5)]
    frames = rng.permutation(n_frames)[: math.floor(share_frames * n_frames + 0.5)]
    return np.sort(bins), np.sort(frames)
