"""What a judge says of one embedding folder under one seed: the same shape for every judge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hear_models.metrics.clips import why_not_finite
from hear_models.metrics.events import Events, why_not_a_number

SHOWN_SPLITS = 3
Reasons = dict[str, str]  # metric → why its value is infinite or not a number


@dataclass(frozen=True)
class Fold:
    """One trained probe and its test split; a task without folds has one of these, its split "test".

    Judges give them and records store them: its fields are those of `folds[]` in docs/records.md.
    """

    split: str
    scores: dict[str, float | None]  # every metric of the task; None where it is infinite or not defined
    validation_score: float | None = None  # of the checkpoint tested; None where a judge has no such thing
    epoch: int | None = None  # of that checkpoint, counted from 0
    hyper_parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Predictions:
    """What the probe said of one test split, a row for each clip (scene) or timestamp (event), in packed order.

    `files` has one name a row. `target`, `prediction` (softmax or sigmoid) and `logit` are float32 [rows, classes];
    `timestamps_ms` is float64 [rows], in milliseconds, for event tasks only.
    """

    files: list[str]
    target: np.ndarray
    prediction: np.ndarray
    logit: np.ndarray | None = None
    timestamps_ms: np.ndarray | None = None


@dataclass(frozen=True)
class Outcome:
    """Scores, choices and predictions of one judge for one embedding folder and one seed.

    `score` is the primary metric, `scores` all metrics of the task; for k-fold tasks means over the folds (None where
    one of the folds has None). `predictions` maps a test split to its rows. `shims` names what a foreign judge was
    given to run at all, `warnings` are sentences for a reader. Times are in seconds; `cpu_s` is the process's own.
    `events` (event tasks): test split → file → events `{"label", "start", "end"}` in milliseconds. `undefined` has a
    reason for every score that is None.
    """

    score: float | None
    scores: dict[str, float | None]
    folds: list[Fold]
    hyper_parameters: dict[str, Any]
    predictions: dict[str, Predictions]
    judge: str
    shims: list[str]
    threads: int
    wall_s: float
    cpu_s: float
    warnings: list[str] = field(default_factory=list)
    postprocessing: dict[str, float] = field(default_factory=dict)
    events: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)  # of a judge that lives in an environment of its own
    undefined: dict[str, str] = field(default_factory=dict)  # metric → why it is None


def mean_scores(folds: Sequence[Fold]) -> dict[str, float | None]:
    """Metric → mean over the folds; None where a fold has None."""
    means: dict[str, float | None] = {}
    for name in folds[0].scores:
        values = [fold.scores[name] for fold in folds]
        known = [value for value in values if value is not None]
        means[name] = float(np.mean(known)) if len(known) == len(values) else None
    return means


def why_undefined(
    scores: Mapping[str, float], prediction: np.ndarray, target: np.ndarray, labels: Sequence[str]
) -> Reasons:
    """Metric of clips → why it has no finite value on this split."""
    return {
        metric: why_not_finite(metric, prediction, target, labels)
        for metric, value in scores.items()
        if not math.isfinite(value)
    }


def why_events_undefined(scores: Mapping[str, float], predicted: Events, reference: Events) -> Reasons:
    """Metric of events → why it has no finite value on this split."""
    return {
        metric: why_not_a_number(predicted, reference) for metric, value in scores.items() if not math.isfinite(value)
    }


def by_metric(of_split: Mapping[str, Reasons]) -> Reasons:
    """Test split → metric → reason, as metric → one sentence part that names the splits, the first of them."""
    found: dict[str, list[str]] = {}
    for split, reasons in of_split.items():
        for metric, reason in reasons.items():
            found.setdefault(metric, []).append(f"{split}: {reason}")
    return {
        metric: "; ".join(texts[:SHOWN_SPLITS])
        + (f"; and {len(texts) - SHOWN_SPLITS} more" if len(texts) > SHOWN_SPLITS else "")
        for metric, texts in found.items()
    }
