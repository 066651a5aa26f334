"""Scores mean what they mean elsewhere: equal to scikit-learn, to sed_eval, and to what the kit wrote."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_models.errors import UsageError
from hear_models.evaluation.judges.events import frames_by_file, make_events, median_of_bits
from hear_models.metrics.clips import (
    area_under_roc,
    average_precision,
    finite,
    mean_average_precision,
    score_clips,
)
from hear_models.metrics.events import COLLARS, largest_matching, score_events

GOLDEN = Path(__file__).parent.parent / "golden"
SCENES = sorted(
    path.parent
    for path in (GOLDEN / "hear_scores").glob("*_seed*/*/predictions.npz")
    if "dcase" not in path.parent.name
)
SED_EVAL = json.loads((GOLDEN / "evaluation" / "sed_eval_cases.json").read_text("utf-8"))


def random_outputs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 outputs and 0/1 targets, with ties in some columns and, in some cases, classes without positives."""
    rng = np.random.default_rng(seed)
    rows, classes = int(rng.integers(2, 300)), int(rng.integers(2, 30))
    prediction = rng.random((rows, classes)).astype(np.float32)
    if seed % 2:
        prediction = np.round(prediction, 1)
    target = (rng.random((rows, classes)) < rng.random(classes) * 0.5).astype(np.float32)
    return prediction, target


@pytest.mark.filterwarnings("ignore:No positive")
@pytest.mark.parametrize("seed", range(60))
def test_mean_average_precision_chooses_the_epoch_that_scikit_learn_would(seed):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the eval extra")
    prediction, target = random_outputs(seed)
    theirs = metrics.average_precision_score(target, prediction, average="macro")
    assert mean_average_precision(prediction, target) == theirs, "to the last bit: strictly better decides"


@pytest.mark.parametrize("seed", range(30))
def test_area_under_roc_is_that_of_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the eval extra")
    prediction, target = random_outputs(seed)
    both = (target.sum(0) > 0) & (target.sum(0) < len(target))
    ours = area_under_roc(prediction, target)
    assert np.isnan(ours[~both]).all()
    for column in np.flatnonzero(both):
        theirs = metrics.roc_auc_score(target[:, column], prediction[:, column])
        assert abs(ours[column] - theirs) < 1e-12


@pytest.mark.parametrize("folder", SCENES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_scores_of_stored_predictions_are_those_the_kit_wrote(folder):
    written = json.loads((folder / "test.predicted-scores.json").read_text("utf-8"))  # may hold Infinity
    stored = np.load(folder / "predictions.npz")
    metadata = json.loads((folder / "task_metadata.json").read_text("utf-8"))
    splits = sorted({name.split("/")[0] for name in stored})
    for split in splits:
        for metric in metadata["evaluation"]:
            ours = score_clips(metric, stored[f"{split}/prediction"], stored[f"{split}/target"])
            theirs = written[split][f"test_{metric}"]
            assert ours == theirs or abs(ours - theirs) < 1e-6, (split, metric)


def test_a_class_without_positives_counts_nothing_and_has_no_area():
    prediction = np.array([[0.9, 0.1], [0.2, 0.3]], np.float32)
    target = np.array([[1, 0], [0, 0]], np.float32)
    assert average_precision(prediction, target).tolist() == [1.0, 0.0]
    assert score_clips("mAP", prediction, target) == 0.5
    assert math.isnan(score_clips("aucroc", prediction, target))
    assert math.isnan(score_clips("d_prime", prediction, target))


def test_a_perfect_ranking_has_infinite_d_prime_which_records_store_as_nothing():
    prediction = np.array([[0.9, 0.1], [0.2, 0.3]], np.float32)
    target = np.array([[1, 0], [0, 1]], np.float32)
    assert score_clips("d_prime", prediction, target) == math.inf
    assert finite(math.inf) is None and finite(0.5) == 0.5


def test_accuracy_of_several_labels_looks_at_the_lowest_and_of_none_at_the_first():
    target = np.array([[0, 1, 1], [0, 0, 0]], np.float32)
    assert score_clips("top1_acc", np.array([[0, 1, 0.5], [0.1, 0, 0]], np.float32), target) == 1.0
    assert score_clips("top1_acc", np.array([[0, 0.5, 1], [0, 0.1, 0]], np.float32), target) == 0.0


def test_chroma_forgives_octaves_of_class_indices():
    target = np.eye(25, dtype=np.float32)[[0, 13]]
    prediction = np.eye(25, dtype=np.float32)[[24, 2]]
    assert score_clips("pitch_acc", prediction, target) == 0.0
    assert score_clips("chroma_acc", prediction, target) == 0.5


def test_an_unknown_metric_is_refused_by_name():
    with pytest.raises(UsageError, match=r"'loudness'.*top1_acc"):
        score_clips("loudness", np.zeros((1, 1)), np.zeros((1, 1)))
    with pytest.raises(UsageError, match=r"'loudness'.*segment_1s_er"):
        score_events("loudness", {}, {}, [])


@pytest.mark.parametrize("metric", [*COLLARS, "segment_1s_er"])
def test_event_scores_are_those_of_sed_eval(metric):
    """60 random cases that sed_eval scored: files without events, integer labels, onsets just on the collar."""
    values = []
    for case in SED_EVAL["cases"]:
        ours = list(score_events(metric, case["predicted"], case["reference"], SED_EVAL["labels"]).values())
        theirs = [np.float32(np.nan if value is None else value) for value in case["scores"][metric]]
        assert np.array_equal(np.array(ours, np.float32), theirs, equal_nan=True)
        values.append(ours[0])
    assert len(set(values)) > 20, "the cases are told apart"


def test_events_are_paired_so_that_as_many_as_possible_are_found():
    """A greedy pairing gives the first reference the middle event, and the second one nothing."""
    reference = {"f": [{"label": "a", "start": 100, "end": 900}, {"label": "a", "start": 250, "end": 900}]}
    predicted = {"f": [{"label": "a", "start": 130, "end": 900}, {"label": "a", "start": 60, "end": 900}]}
    scores = score_events("event_onset_200ms_fms", predicted, reference, ["a"])
    assert scores["event_onset_200ms_fms"] == 1.0


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_pairing_is_larger_than_the_largest(seed):
    csgraph = pytest.importorskip("scipy.sparse.csgraph", reason="scipy comes with the eval extra")
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(seed)
    fits = rng.random((int(rng.integers(1, 12)), int(rng.integers(1, 12)))) < rng.random()
    theirs = csgraph.maximum_bipartite_matching(csr_matrix(fits), perm_type="column")
    assert largest_matching(fits) == int((theirs >= 0).sum())


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 50), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_smoothing_is_scipys_median_filter(length, frames, seed):
    ndimage = pytest.importorskip("scipy.ndimage", reason="scipy comes with the eval extra")
    if frames > 4 * length:  # scipy reads outside the array there
        frames = 4 * length
    outputs = np.random.default_rng(seed).random((length, 3)).astype(np.float32)
    theirs = ndimage.median_filter(outputs, size=(frames, 1)) > 0.5
    assert np.array_equal(median_of_bits(outputs > 0.5, frames), theirs)


def test_a_run_of_frames_is_one_event_and_a_short_one_is_dropped():
    outputs = np.zeros((10, 2), np.float32)
    outputs[2:6, 1] = 0.9  # 40 … 100 ms
    outputs[8, 0] = 0.9  # one frame: 0 ms long
    outputs[7, 1] = 0.5  # not above the threshold
    order = [3, 1, 0, 2, 4, 5, 6, 9, 8, 7]  # rows of a split need not be in the order of time
    frames = frames_by_file(["x.wav"] * 10, np.array([20.0 * time for time in order]))
    ways = [{"median_filter_ms": 0, "min_duration": shortest} for shortest in (0, 60, 61)]
    long, short, none = make_events(outputs[order], frames, ("a", "b"), ways)
    assert long["x.wav"] == [
        {"label": "b", "start": 40.0, "end": 100.0},
        {"label": "a", "start": 160.0, "end": 160.0},
    ]
    assert short["x.wav"] == [{"label": "b", "start": 40.0, "end": 100.0}]
    assert none["x.wav"] == []
