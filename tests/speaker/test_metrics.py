"""EER, detection costs, DET points and intervals: equal to the golden files, ties never split, bad input refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from golden_inputs import GOLDEN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from hear_models.speaker.metrics import act_dcf, bootstrap, det_points, equal_error_rate, min_dcf

FOLDER = GOLDEN / "ftcbam"
EXPECTED = json.loads((FOLDER / "metrics.json").read_text("utf-8"))
ERRORS = EXPECTED.pop("errors")
ARRAYS = np.load(FOLDER / "metrics.npz")
EXACT = 1e-12
FUNCTIONS = (equal_error_rate, min_dcf, act_dcf, det_points)


@pytest.fixture(params=EXPECTED)
def case(request):
    return ARRAYS[f"{request.param}/scores"], ARRAYS[f"{request.param}/labels"], EXPECTED[request.param]


def test_equal_error_rates_match(case):
    scores, labels, expected = case
    rate, threshold = equal_error_rate(scores, labels)
    assert abs(rate - expected["eer"]) <= EXACT and abs(threshold - expected["eer_threshold"]) <= EXACT


@pytest.mark.parametrize("p_target", [0.01, 0.05, 0.5])
def test_detection_costs_match(case, p_target):
    scores, labels, expected = case
    cost, threshold = min_dcf(scores, labels, p_target=p_target)
    assert abs(cost - expected[f"mindcf_p{p_target}"]) <= EXACT
    assert threshold == float(expected[f"mindcf_p{p_target}_threshold"])
    actual = act_dcf(scores, labels, p_target=p_target)
    assert abs(actual - expected[f"actdcf_p{p_target}_at_bayes_threshold"]) <= EXACT


def test_costs_weigh(case):
    scores, labels, expected = case
    assert abs(min_dcf(scores, labels, p_target=0.01, c_miss=10)[0] - expected["mindcf_p0.01_cmiss10"]) <= EXACT


@pytest.mark.parametrize("name", [name for name in EXPECTED if f"{name}/fpr" in ARRAYS])
def test_points_of_the_det_curve_match(name):
    fpr, fnr, thresholds = det_points(ARRAYS[f"{name}/scores"], ARRAYS[f"{name}/labels"])
    assert len(thresholds) == EXPECTED[name]["n_points"]
    for found, key in ((fpr, "fpr"), (fnr, "fnr"), (thresholds, "thresholds")):
        np.testing.assert_allclose(found, ARRAYS[f"{name}/{key}"], rtol=0, atol=EXACT)
    assert (fpr[0], fnr[0], fpr[-1], fnr[-1], thresholds[-1]) == (1, 0, 0, 1, np.inf)


BOOTSTRAPS = [(name, key) for name, case in EXPECTED.items() for key in case if key.startswith("bootstrap_")]


@pytest.mark.parametrize(("name", "key"), BOOTSTRAPS)
def test_bootstrap_draws_are_those_of_the_golden_files(name, key):
    metric = equal_error_rate if key == "bootstrap_eer" else (lambda scores, labels: min_dcf(scores, labels)[0])
    asked = EXPECTED[name][key]
    values, interval = bootstrap(
        ARRAYS[f"{name}/scores"],
        ARRAYS[f"{name}/labels"],
        metric,
        resamples=asked["B"],
        seed=asked["seed"],
        level=asked["level"],
    )
    np.testing.assert_allclose(values, ARRAYS[f"{name}/{key}"], rtol=0, atol=EXACT)
    np.testing.assert_allclose(interval, asked["ci"], rtol=0, atol=EXACT)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", ERRORS)
def test_trials_that_give_no_figure_are_refused(function, name):
    with pytest.raises(ValueError):
        function(ERRORS[name]["scores"], ERRORS[name]["labels"])


@pytest.mark.parametrize("scores", [[0.1, np.inf], [[0.1, 0.2]], ["a", "b"]])
def test_scores_that_are_none_are_refused(scores):
    with pytest.raises(ValueError):
        equal_error_rate(scores, [0, 1])


@pytest.mark.parametrize("wrong", [{"p_target": 0.0}, {"p_target": 1.0}, {"c_miss": 0.0}, {"c_false": -1.0}])
def test_costs_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError):
        min_dcf([0.1, 0.2], [0, 1], **wrong)
    with pytest.raises(ValueError):
        act_dcf([0.1, 0.2], [0, 1], **wrong)


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"level": 1.0}])
def test_intervals_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError):
        bootstrap([0.1, 0.2], [0, 1], equal_error_rate, **wrong)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(some.lists(some.tuples(some.integers(0, 4), some.booleans()), min_size=2, max_size=30), some.randoms())
def test_order_and_scale_of_the_scores_do_not_matter(trials, random):
    if len({same for _, same in trials}) < 2:
        return
    shuffled = list(trials)
    random.shuffle(shuffled)
    scores, labels = (np.array(column, float) for column in zip(*trials, strict=True))
    again, marks = (np.array(column, float) for column in zip(*shuffled, strict=True))
    assert equal_error_rate(scores, labels)[0] == equal_error_rate(np.exp(again), marks)[0]
    assert min_dcf(scores, labels)[0] == min_dcf(np.exp(again), marks)[0] <= 1
    assert 0 <= equal_error_rate(scores, labels)[0] <= 1
