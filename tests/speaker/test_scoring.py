"""Scores of trials: cosine, normalisation by a cohort, ten crops, dropped bins and frames."""

from __future__ import annotations

import re

import numpy as np
import pytest
from golden_inputs import GOLDEN

from hear_models.speaker.scoring import CROP_SCORES, crop, crop_score, crop_starts, dropped, normalised_scores

ARRAYS = np.load(GOLDEN / "ftcbam" / "scoring.npz")
ENROL, TEST, COHORT = ARRAYS["enrol"], ARRAYS["test"], ARRAYS["cohort"]
KINDS = {
    **{kind: {"kind": kind} for kind in ("none", "znorm", "tnorm", "snorm")},
    **{f"asnorm_top{top}": {"kind": "asnorm", "top": top} for top in (2, 5, 25)},
    "asnorm2_top5": {"kind": "asnorm2", "top": 5},
    "snorm_ddof1": {"kind": "snorm", "ddof": 1},
}


@pytest.mark.parametrize("name", KINDS)
def test_normalised_scores_match(name):
    np.testing.assert_allclose(normalised_scores(ENROL, TEST, COHORT, **KINDS[name]), ARRAYS[name], rtol=0, atol=1e-10)


def test_a_score_does_not_depend_on_the_other_trials_or_on_loudness():
    whole = normalised_scores(ENROL, TEST, COHORT, kind="asnorm", top=5)
    np.testing.assert_allclose(normalised_scores(3 * ENROL[4:5], TEST[4:5], COHORT, kind="asnorm", top=5), whole[4:5])


def test_more_than_the_cohort_is_the_whole_cohort():
    for top in (26, 300, None):
        found = normalised_scores(ENROL, TEST, COHORT, kind="asnorm", top=top)
        np.testing.assert_allclose(found, ARRAYS["asnorm_top25"], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "qnorm"},
        {"cohort": None},
        {"cohort": COHORT[:, :7]},
        {"cohort": np.repeat(COHORT[:1], 5, 0)},
        {"cohort": COHORT[:1], "ddof": 1},
        {"test": TEST[:8]},
        {"enrol": np.zeros_like(ENROL)},
        {"test": np.full_like(TEST, np.nan)},
        {"kind": "asnorm", "top": 0},
    ],
)
def test_what_cannot_be_normalised_is_refused(wrong):
    with pytest.raises(ValueError):
        normalised_scores(**{"enrol": ENROL, "test": TEST, "cohort": COHORT, "kind": "snorm", **wrong})


@pytest.mark.parametrize("key", [key for key in ARRAYS.files if key.startswith("crops/")])
def test_crops_match(key):
    n, length = map(int, re.fullmatch(r"crops/n(\d+)_L(\d+)", key).groups())
    np.testing.assert_array_equal(crop_starts(n, length), ARRAYS[key])


def test_a_short_clip_is_begun_again():
    assert crop_starts(5, 12).tolist() == [0] * 10
    assert crop(np.arange(5), 0, 12).tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    assert crop(np.arange(20), 4, 3).tolist() == [4, 5, 6]
    with pytest.raises(ValueError):
        crop_starts(0, 12)


@pytest.mark.parametrize("how", CROP_SCORES)
def test_scores_of_crops_match(how):
    found = crop_score(ARRAYS["tencrop/a"], ARRAYS["tencrop/b"], how)
    assert found == pytest.approx(float(ARRAYS[f"tencrop/{how}"]), abs=1e-10)
    with pytest.raises(ValueError):
        crop_score(ARRAYS["tencrop/a"], ARRAYS["tencrop/b"], "best")


@pytest.mark.parametrize("key", [key for key in ARRAYS.files if re.match(r"drop/pf.*freq", key)])
def test_what_is_dropped_matches(key):
    bins, frames, seed = re.fullmatch(r"drop/pf(.+)_pt(.+)_seed(\d+)/freq", key).groups()
    found = dropped(33, 41, float(bins), float(frames), int(seed))
    np.testing.assert_array_equal(found[0], ARRAYS[key])
    np.testing.assert_array_equal(found[1], ARRAYS[key.replace("/freq", "/time")])


def test_shares_out_of_range_are_refused():
    with pytest.raises(ValueError):
        dropped(33, 41, 1.5, 0, 1)
    with pytest.raises(ValueError):
        dropped(0, 41, 0.5, 0, 1)
