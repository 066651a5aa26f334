"""What a judge says of one embedding folder under one seed: the same shape for every judge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


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
    `events` (event tasks): test split → file → events `{"label", "start", "end"}` in milliseconds.
    """

    score: float
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
