"""The numbers that a reader compares models by: intervals, s(m), and who is as good as the best."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_models.errors import UsageError
from hear_models.evaluation.board import bootstrap
from hear_models.evaluation.board.bootstrap import (
    BootstrapError,
    Resampled,
    compare_with_best,
    enough_resamples,
    resample,
)
from hear_models.evaluation.board.statistics import aggregate, holm, interval, student_quantile
from hear_models.evaluation.judges.outcome import Predictions

EXPECTED = json.loads((Path(__file__).parent.parent / "golden/hear_scores/expected.json").read_text("utf-8"))
SCORES = {
    model: {task: {int(seed): x for seed, x in seeds.items()} for task, seeds in of.items()}
    for model, of in EXPECTED["scores"].items()
}


def predictions(target: np.ndarray, prediction: np.ndarray, prefix: str = "") -> Predictions:
    return Predictions([f"{prefix}{i:04}.wav" for i in range(len(target))], target, prediction)


def one_seed(rows: Predictions, split: str = "test"):
    return lambda: {split: rows}


# -------------------------------------------------------------------------------------------------- intervals and s(m)
@pytest.mark.parametrize("model", EXPECTED["table"])
def test_mean_and_half_width_are_those_of_the_papers(model):
    for task, expected in EXPECTED["table"][model].items():
        ours = interval(SCORES[model][task].values())
        assert ours.n == expected["n"]
        assert ours.mean == pytest.approx(expected["mean"], abs=1e-6)
        assert ours.half_width == pytest.approx(expected["half_width"], abs=1e-6)


def test_ten_seeds_use_the_quantile_of_nine_degrees_of_freedom():
    assert student_quantile(9) == pytest.approx(2.2622, abs=5e-5)


def test_one_seed_has_a_mean_and_no_width():
    """The papers' script prints NaN for both."""
    only = interval([0.5])
    assert (only.n, only.mean, only.half_width) == (1, 0.5, None)


@given(st.floats(0, 1), st.integers(2, 12))
def test_equal_seeds_have_a_mean_and_the_width_zero(value, n):
    same = interval([value] * n)
    assert (same.mean, same.half_width) == (value, 0.0)


def test_no_score_is_an_error():
    with pytest.raises(UsageError, match="no value"):
        interval([])


def test_s_of_the_golden_pool():
    ours = aggregate(SCORES, EXPECTED["pool"]["tasks"])
    for task, limits in EXPECTED["pool"]["min_max_of_means"].items():
        assert ours.ranges[task] == pytest.approx(limits, abs=1e-6)
    for model, expected in EXPECTED["s"].items():
        assert ours.of_means[model] == pytest.approx(expected["of_means"], abs=1e-6)
        assert ours.seeds[model] == [int(seed) for seed in expected["seeds"]]
        assert ours.per_seed[model] == pytest.approx(expected["per_seed"], abs=1e-6)
        assert ours.intervals[model].mean == pytest.approx(expected["mean"], abs=1e-6)
        assert ours.intervals[model].half_width == pytest.approx(expected["half_width"], abs=1e-6)


def test_s_is_refused_for_a_model_that_lacks_a_task():
    with pytest.raises(UsageError, match="b has no score on y"):
        aggregate({"a": {"x": {0: 1.0}, "y": {0: 1.0}}, "b": {"x": {0: 0.5}}}, ["x", "y"])


def test_a_task_on_which_all_are_equal_adds_nothing_to_s():
    ours = aggregate({"a": {"x": {0: 0.3}, "y": {0: 1.0}}, "b": {"x": {0: 0.3}, "y": {0: 0.0}}}, ["x", "y"])
    assert ours.of_means == {"a": 50.0, "b": 0.0}


def test_an_error_rate_counts_the_other_way_round_in_s():
    pool = {"good": {"er": {0: 0.2}}, "bad": {"er": {0: 0.8}}}
    assert aggregate(pool, ["er"], frozenset({"er"})).of_means == {"good": 100.0, "bad": 0.0}


def test_s_has_no_interval_where_no_seed_is_on_every_task():
    ours = aggregate({"a": {"x": {0: 0.3}, "y": {1: 1.0}}, "b": {"x": {0: 0.1}, "y": {0: 0.0}}}, ["x", "y"])
    assert ours.of_means["a"] == 100.0
    assert ours.intervals["a"] is None


# ------------------------------------------------------------------------------------------------------------- Holm
def test_holm_is_the_textbook_example():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06}
    )


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_makes_a_p_smaller_and_keeps_their_order(p):
    corrected = holm(p)
    assert all(p[name] <= corrected[name] <= 1 for name in p)
    ranked = sorted(p, key=lambda name: p[name])
    assert [corrected[name] for name in ranked] == sorted(corrected.values())


# --------------------------------------------------------------------------------------------------------- resamples
def naive(metric: str, target: np.ndarray, prediction: np.ndarray) -> float:
    """The metric by scikit-learn on the rows as they are."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    classes = range(target.shape[1])
    if metric == "mAP":
        has = [c for c in classes if target[:, c].any()]
        return sum(average_precision_score(target[:, c], prediction[:, c]) for c in has) / target.shape[1]
    if metric == "aucroc":
        if any(target[:, c].min() == target[:, c].max() for c in classes):
            return math.nan
        return float(np.mean([roc_auc_score(target[:, c], prediction[:, c]) for c in classes]))
    octave = 12 if metric == "chroma_acc" else 10**9
    return float(np.mean(prediction.argmax(1) % octave == target.argmax(1) % octave))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), metric=st.sampled_from(bootstrap.SUPPORTED), ties=st.booleans())
def test_a_resample_is_the_metric_of_the_rows_that_were_drawn(seed, metric, ties):
    """Multiplicities and sparse sums against the plain way: repeat the rows, call scikit-learn."""
    random = np.random.default_rng(seed)
    rows, classes = int(random.integers(5, 40)), 14 if metric == "chroma_acc" else 4
    target = (random.random((rows, classes)) < 0.3).astype(np.float32)
    if metric.endswith("_acc"):
        target = np.eye(classes, dtype=np.float32)[random.integers(0, classes, rows)]
    prediction = random.random((rows, classes)).astype(np.float32)
    prediction = np.round(prediction, 1) if ties else prediction
    counts = bootstrap._counts(np.random.default_rng(seed), rows, 6)
    ours = bootstrap._resampled_metric(metric, target, prediction, counts)
    for k, column in enumerate(np.concatenate(counts, axis=1).T):
        drawn = np.repeat(np.arange(rows), column)
        assert ours[k] == pytest.approx(naive(metric, target[drawn], prediction[drawn]), abs=1e-5, nan_ok=True)


def accuracy_models(rows: int, **share: float) -> dict[str, list]:
    """Models that are right on the given share of the same clips, each on other ones."""
    random = np.random.default_rng(7)
    target = np.eye(2, dtype=np.float32)[random.integers(0, 2, rows)]
    models = {}
    for name, right in share.items():
        correct = random.random(rows) < right
        models[name] = [one_seed(predictions(target, np.where(correct[:, None], target, 1 - target)))]
    return models


def test_a_much_worse_model_is_not_tied_and_a_slightly_worse_one_is():
    resampled = resample(accuracy_models(400, best=0.9, close=0.89, far=0.6), "top1_acc")
    comparisons = compare_with_best(resampled, "best")
    assert comparisons["close"].tied
    assert not comparisons["far"].tied
    assert comparisons["far"].difference == pytest.approx(resampled.scores["best"] - resampled.scores["far"])
    assert 0 < comparisons["far"].p <= comparisons["far"].p_holm < 0.01


def test_p_is_twice_the_smaller_tail_with_the_observed_sample_counted():
    """39 of 1,999 resamples at or below zero: 2 * 40 / 2000."""
    delta = np.concatenate([np.full(30, -0.1), np.zeros(9), np.full(1960, 0.1)])
    resampled = Resampled({"a": 0.6, "b": 0.5}, {"a": delta, "b": np.zeros(1999)})
    comparison = compare_with_best(resampled, "a")["b"]
    assert (comparison.p, comparison.p_holm) == (pytest.approx(0.04), pytest.approx(0.04))
    assert not comparison.tied


def test_equally_good_models_are_called_different_in_about_five_of_a_hundred_cases():
    """The promise behind the mark: pairs of models that are right on 70 % of all clips, tested on 200 of them."""
    random = np.random.default_rng(11)
    target = np.eye(2)[np.zeros(200, int)]
    different = 0
    for trial in range(300):
        pair = {}
        for name in "ab":
            right = random.random(200) < 0.7
            pair[name] = [one_seed(predictions(target, np.where(right[:, None], target, 1 - target)))]
        resampled = resample(pair, "top1_acc", 300, seed=trial)
        best = max(resampled.scores, key=lambda name: resampled.scores[name])
        different += not next(iter(compare_with_best(resampled, best).values())).tied
    assert 5 <= different <= 24  # 15 expected; twice as many without the factor of the two tails


def test_pairing_finds_a_small_difference_on_the_same_clips():
    """A model that errs on 8 of 400 clips more, and never elsewhere, differs; unpaired intervals would overlap."""
    random = np.random.default_rng(3)
    target = np.eye(2, dtype=np.float32)[random.integers(0, 2, 400)]
    better = target.copy()
    better[:100] = 1 - target[:100]
    worse = better.copy()
    worse[100:108] = 1 - target[100:108]
    models = {"better": [one_seed(predictions(target, better))], "worse": [one_seed(predictions(target, worse))]}
    assert not compare_with_best(resample(models, "top1_acc"), "better")["worse"].tied


def test_equal_models_are_tied_under_every_metric():
    random = np.random.default_rng(0)
    target = (random.random((50, 3)) < 0.4).astype(np.float32)
    rows = predictions(target, random.random((50, 3)).astype(np.float32))
    for metric in bootstrap.SUPPORTED:
        comparison = compare_with_best(resample({"a": [one_seed(rows)], "b": [one_seed(rows)]}, metric, 200), "a")["b"]
        assert (comparison.p, comparison.p_holm, comparison.difference) == (1.0, 1.0, 0.0)


def test_the_same_seed_gives_the_same_p_and_the_order_of_clips_does_not_matter():
    models = accuracy_models(60, a=0.8, b=0.7)
    rows = models["b"][0]()["test"]
    order = np.random.default_rng(5).permutation(60)
    shuffled = Predictions([rows.files[i] for i in order], rows.target[order], rows.prediction[order])
    first = compare_with_best(resample(models, "top1_acc"), "a")
    second = compare_with_best(resample({"a": models["a"], "b": [one_seed(shuffled)]}, "top1_acc"), "a")
    assert first == second


def test_folds_are_resampled_apart_and_count_alike():
    """Two folds of 10 and 90 clips: the score is the mean of the folds, as the task defines it."""
    small, large = np.eye(2)[np.zeros(10, int)], np.eye(2)[np.zeros(90, int)]
    wrong = 1 - small
    folds = {"fold00": predictions(small, wrong, "s"), "fold01": predictions(large, large, "l")}
    resampled = resample({"m": [lambda: folds]}, "top1_acc", 50)
    assert resampled.scores["m"] == 0.5
    assert (resampled.samples["m"] == 0.5).all()


def test_seeds_are_averaged_within_a_resample():
    target = np.eye(2)[np.zeros(20, int)]
    models = {"m": [one_seed(predictions(target, target)), one_seed(predictions(target, 1 - target))]}
    assert resample(models, "top1_acc", 20).samples["m"] == pytest.approx(np.full(20, 0.5))


@pytest.mark.parametrize("what", ["clips", "labels", "splits", "metric", "events"])
def test_what_cannot_be_paired_is_refused_with_the_reason(what):
    target = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    rows = predictions(target, target)
    other, split, metric = rows, "test", "top1_acc"
    if what == "clips":
        other = predictions(target, target, prefix="other")
    elif what == "labels":
        other = predictions(target[::-1].copy(), target)
    elif what == "splits":
        split = "fold00"
    elif what == "metric":
        metric = "d_prime"
    else:
        rows = Predictions(rows.files, target, target, timestamps_ms=np.zeros(4))
    with pytest.raises(BootstrapError, match={"metric": "d_prime", "events": "event task"}.get(what, what)):
        resample({"a": [one_seed(rows)], "b": [one_seed(other, split)]}, metric, 10)


def test_many_models_get_enough_resamples_for_the_correction():
    """With 2,000 resamples the smallest p times 60 comparisons would exceed 5 %: nobody could ever differ."""
    n = enough_resamples(60)
    resampled = Resampled({"best": 1.0} | {f"m{i}": 0.0 for i in range(60)}, {"best": np.ones(n)})
    resampled.samples.update({f"m{i}": np.zeros(n) for i in range(60)})
    assert not any(comparison.tied for comparison in compare_with_best(resampled, "best").values())
