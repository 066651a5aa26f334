"""Trials scored and summed up: EER and detection costs with intervals, and how every number came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from hear_models.errors import InputError, UsageError
from hear_models.files import write_atomically
from hear_models.speaker.metrics import bootstrap, equal_error_rate, min_dcf
from hear_models.speaker.scoring import crop_score, directions, normalised_scores
from hear_models.speaker.trials import Trial

Embeddings = Mapping[str, np.ndarray]  # relative path → [crops, dim]


@dataclass(frozen=True)
class Figure:
    """A figure of a list of trials, its threshold, and the interval by bootstrap (None: not asked for)."""

    name: str  # "EER", "minDCF 0.01"
    value: float
    threshold: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Verification:
    """What a model makes of a list of trials."""

    trials: int
    same: int
    recordings: int
    figures: tuple[Figure, ...]
    level: float
    resamples: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        found = asdict(self)
        for figure in found["figures"]:
            if not np.isfinite(figure["threshold"]):
                figure["threshold"] = "inf"
        return found


def score_trials(
    trials: Sequence[Trial],
    embeddings: Embeddings,
    *,
    how: str = "mean_cosine",
    normalisation: str = "none",
    cohort: np.ndarray | None = None,
    top: int | None = 300,
) -> np.ndarray:
    """A score for each trial, float64 [trials]; higher: rather the same speaker.

    Args:
        how: of crops, see `scoring.crop_score`; of whole recordings it is the cosine.
        normalisation, cohort, top: see `scoring.normalised_scores`; for whole recordings only.
    """
    crops = {len(array) for array in embeddings.values()}
    if crops == {1}:
        enrol = np.concatenate([embeddings[trial.enrol] for trial in trials])
        test = np.concatenate([embeddings[trial.test] for trial in trials])
        return normalised_scores(enrol, test, cohort, kind=normalisation, top=top)
    if normalisation != "none":
        raise UsageError(f"{normalisation} is for whole recordings, not for crops. Leave one of the two out.")
    return np.array([crop_score(embeddings[trial.enrol], embeddings[trial.test], how) for trial in trials])


def cohort_of(embeddings: Embeddings) -> np.ndarray:
    """The mean direction of each speaker, [speakers, dim]; a speaker is the first folder in a recording's path.

    Raises InputError: a recording that lies in no folder.
    """
    by_speaker: dict[str, list[np.ndarray]] = {}
    for name, array in embeddings.items():
        parts = PurePosixPath(name).parts
        if len(parts) < 2:
            raise InputError(f"{name} of the cohort lies in no speaker's folder. Make a folder for each speaker.")
        by_speaker.setdefault(parts[0], []).append(directions(array, name).mean(0))
    return np.stack([np.mean(rows, axis=0) for rows in by_speaker.values()])


def labels_of(trials: Sequence[Trial]) -> np.ndarray:
    """Labels int64 [trials]. InputError if the list has none."""
    if any(trial.label is None for trial in trials):
        raise InputError("the list has no labels, so there is no error rate. Write 1 or 0 in front of each trial.")
    return np.array([trial.label for trial in trials])


def figures_of(
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    p_targets: Sequence[float] = (0.01, 0.05),
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[Figure, ...]:
    """EER and minDCF, with intervals if `resamples` is not 0. Errors as of `metrics`."""
    metrics: dict[str, Any] = {"EER": equal_error_rate}
    metrics |= {f"minDCF {p:g}": partial(min_dcf, p_target=p) for p in p_targets}
    found = []
    for name, metric in metrics.items():
        value, threshold = metric(scores, labels)
        interval = bootstrap(scores, labels, metric, resamples, seed, level)[1] if resamples else None
        found.append(Figure(name, value, threshold, interval))
    return tuple(found)


def write_scores(path: Path, trials: Sequence[Trial], scores: np.ndarray) -> None:
    """One line a trial: `score label enrol test`; the label is - where the list has none."""
    lines = [
        f"{score:.9g} {'-' if trial.label is None else trial.label} {trial.enrol} {trial.test}\n"
        for trial, score in zip(trials, scores, strict=True)
    ]
    write_atomically(path, "".join(lines).encode())
