"""Nothing leaks from the labels of the test split: through the whole path, clips on disk to a record.

Random embeddings, and honest ones with shuffled labels, must score at chance; the same path with honest embeddings and
labels scores far above, so that the tests would see a leak. "At chance" is a two-sided interval of 99.9 %.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tone_tasks import LABELS, write_module, write_task

from hear_models.evaluation.runs.predictions import read_predictions
from hear_models.evaluation.runs.record import Record, read_record
from hear_models.evaluation.runs.run import evaluate
from hear_models.evaluation.runs.settings import Request
from hear_models.metrics.clips import mean_average_precision

MISSED = 0.001  # probability that chance itself lies outside of the interval
TASKS = ["folds-v1-full", "splits-v1-full", "tags-v1-full"]
JUDGES = ["builtin", "probe-linear", "probe-knn"]


def chance_of(hits: float, clips: int, rate: float) -> float:
    """Two-sided probability of so many hits or a rarer number, in so many tries."""
    probabilities = [math.comb(clips, k) * rate**k * (1 - rate) ** (clips - k) for k in range(clips + 1)]
    return min(1.0, 2 * min(sum(probabilities[: round(hits) + 1]), sum(probabilities[round(hits) :])))


def chance_of_ranking(score: float, target: np.ndarray) -> float:
    """Two-sided share of random rankings of these targets that score as low, or as high."""
    generator = np.random.default_rng(0)
    scores = np.array([mean_average_precision(generator.random(target.shape), target) for _ in range(4000)])
    return 2 * min((scores <= score).mean(), (scores >= score).mean())


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("leaks")
    write_task(place / "tasks", TASKS[0], {"fold00": 40, "fold01": 40, "fold02": 40})
    write_task(place / "tasks", TASKS[1], {"train": 80, "valid": 40, "test": 80})
    write_task(place / "tasks", TASKS[2], {"train": 80, "valid": 40, "test": 80}, multilabel=True)
    write_module(place, "bands")
    write_module(place, "noise")
    return place


@pytest.fixture(scope="module")
def records(place) -> dict[tuple[str, str, str, bool], tuple[Record, Path]]:
    """(module, task, judge, labels shuffled) → its record: what three commands wrote."""
    modules = [str(place / f"heard_{name}.py") for name in ("bands", "noise")]
    found = {}
    for judge in JUDGES:
        for shuffled in (False, True):
            request = Request(
                modules if not shuffled else modules[:1],
                place / "tasks",
                protocol=None if judge.startswith("probe-") else "paper",
                judge=judge,
                seeds=[0],
                jobs=1,
                results=place / "results",
                embeddings_dir=place / "embeddings",
                random_labels=shuffled,
            )
            assert evaluate(request).failed == []
    for path in (place / "results").rglob("*.json"):
        record = read_record(path)
        key = (Path(record.model.module).stem, record.task.name, record.judge.name, record.random_labels)
        found[key] = (record, path)
    assert len(found) == len(TASKS) * len(JUDGES) * 3
    return found


def chance(record: Record, path: Path) -> float:
    """How probable the record's score is, or a rarer one, for something that knows nothing."""
    assert record.score is not None
    splits = read_predictions(path.parent / record.predictions).splits
    if record.task.prediction_type == "multilabel":
        return chance_of_ranking(record.score, splits["test"].target)
    clips = sum(len(rows.files) for rows in splits.values())
    assert clips == (120 if "fold00" in splits else 80)
    return chance_of(record.score * clips, clips, 1 / len(LABELS))


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("task", TASKS)
def test_shuffled_labels_score_at_chance(records, task, judge):
    record, path = records["heard_bands", task, judge, True]
    assert "random-labels" in path.name and not record.comparable
    assert chance(record, path) > MISSED, record.score


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("task", TASKS)
def test_random_embeddings_score_at_chance(records, task, judge):
    record, path = records["heard_noise", task, judge, False]
    assert chance(record, path) > MISSED, record.score


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("task", TASKS)
def test_honest_labels_and_embeddings_score_far_above_chance(records, task, judge):
    record, path = records["heard_bands", task, judge, False]
    assert record.score > 0.9
    assert chance(record, path) < MISSED / 1000


def test_the_intervals_are_intervals_of_chance():
    assert chance_of(20, 80, 0.25) > 0.5
    assert chance_of(7, 80, 0.25) < MISSED < chance_of(10, 80, 0.25)
    assert chance_of(34, 80, 0.25) < MISSED < chance_of(32, 80, 0.25)
