"""Scores of tagging equal those of the authors' code; what cannot be scored is named."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from golden_inputs import GOLDEN
from sklearn.metrics import average_precision_score, roc_auc_score

from hear_models.errors import InputError
from hear_models.metrics.tagging import d_prime_of_auc, tagging_scores

REFERENCE = np.load(GOLDEN / "gise51" / "metrics.npz")
EDGES = json.loads((GOLDEN / "gise51" / "metrics_edge.json").read_text())


def test_scores_are_those_of_the_authors():
    ours = tagging_scores(REFERENCE["score"], REFERENCE["target"])
    np.testing.assert_allclose(ours.average_precision, REFERENCE["AP"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.auc, REFERENCE["auc"], rtol=0, atol=1e-12)
    assert ours.mean_average_precision == pytest.approx(float(REFERENCE["mAP"]), abs=1e-12)
    assert ours.mean_auc == pytest.approx(float(REFERENCE["mAUC"]), abs=1e-12)
    assert ours.d_prime == pytest.approx(float(REFERENCE["dprime"]), abs=1e-12)
    assert ours.without_positives == ours.without_negatives == ()
    assert ours.summary() == "mAP 0.7524  mAUC 0.8520  d' 1.4779"


def test_a_subset_of_classes_is_scored_as_by_the_authors():
    ours = tagging_scores(REFERENCE["score"], REFERENCE["target"], classes=[1, 3])
    np.testing.assert_allclose(ours.average_precision, REFERENCE["AP_idx13"], rtol=0, atol=1e-12)


def test_d_prime_at_the_ends_and_between():
    for auc, wanted in zip(REFERENCE["dprime_grid_auc"], REFERENCE["dprime_grid"], strict=True):
        assert d_prime_of_auc(float(auc)) == pytest.approx(float(wanted), abs=1e-12)
    for no_auc in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match="no AUC"):
            d_prime_of_auc(no_auc)


def test_d_prime_comes_from_the_mean_auc_and_not_from_each_class():
    """The scores of HEAR take the other way: a class ranked perfectly would make this infinite."""
    assert REFERENCE["auc"].max() == 1.0
    assert math.isfinite(tagging_scores(REFERENCE["score"], REFERENCE["target"]).d_prime)


def test_classes_without_a_score_are_left_out_and_named():
    scores, targets = REFERENCE["score"].copy(), REFERENCE["target"].copy()
    targets[:, 1], targets[:, 3] = 0, 1
    ours = tagging_scores(scores, targets)
    assert ours.without_positives == (1,) and ours.without_negatives == (3,)
    assert np.isnan(ours.average_precision[1]) and np.isnan(ours.auc[[1, 3]]).all()
    kept = [0, 2, 4]
    assert ours.average_precision[3] == EDGES["all_positive"][0]
    wanted = np.mean([*(average_precision_score(targets[:, c], scores[:, c]) for c in kept), 1.0])
    assert ours.mean_average_precision == pytest.approx(wanted, abs=1e-12)
    wanted = np.mean([roc_auc_score(targets[:, c], scores[:, c]) for c in kept])
    assert ours.mean_auc == pytest.approx(wanted, abs=1e-12)
    assert ours.summary().endswith("(4 of 5 classes occur)")


def test_equal_scores_share_a_threshold():
    ours = tagging_scores(np.full((6, 1), 0.5), np.array([[1], [0], [0], [1], [0], [0]]))
    assert [ours.average_precision[0], ours.auc[0]] == EDGES["constant_score"]


def test_no_score_is_silently_not_a_number():
    one = np.ones((3, 2))
    everywhere = tagging_scores(np.arange(6.0).reshape(3, 2), one)
    assert everywhere.mean_auc is None and everywhere.d_prime is None and everywhere.mean_average_precision == 1.0
    with pytest.raises(InputError, match="no class occurs"):
        tagging_scores(one, 0 * one)
    with pytest.raises(InputError, match="NaN"):
        tagging_scores(one * math.nan, one)
    with pytest.raises(InputError, match="0 and 1"):
        tagging_scores(one, one / 2)
    with pytest.raises(InputError, match="do not fit"):
        tagging_scores(one, one[:2])
