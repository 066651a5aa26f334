"""Padding, cropping and masking of training examples are those of the authors' code."""

from __future__ import annotations

import random

import numpy as np
import pytest
from golden_inputs import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

from hear_models.errors import UsageError
from hear_models.training.augment import (
    centre_crop,
    collate,
    draw_masks,
    hide,
    pad_to,
    random_crop,
    training_crop,
)

REFERENCE = np.load(GOLDEN / "gise51" / "losses_aug.npz")
LENGTHS = np.load(GOLDEN / "gise51" / "frontend.npz")
SEVEN = np.arange(1.0, 8.0)[:, None]


def lengths_of(case: str) -> list[int]:
    return sorted(int(name.rpartition("_")[2]) for name in LENGTHS.files if name.startswith(case))


@pytest.mark.parametrize("how, case", [("wrap", "wrap7_to_"), ("constant", "const7_to_")])
def test_padding_is_that_of_the_authors(how, case):
    assert max(lengths_of(case)) > 14  # wrapped more than once
    for n in lengths_of(case):
        np.testing.assert_array_equal(pad_to(SEVEN, n, how)[:, 0], LENGTHS[f"{case}{n}"].ravel())


def test_the_middle_is_that_of_the_authors():
    for n in lengths_of("center7_to_"):
        np.testing.assert_array_equal(centre_crop(SEVEN, n)[:, 0], LENGTHS[f"center7_to_{n}"].ravel())


def test_masks_are_drawn_and_applied_as_by_the_authors():
    picture = np.random.Generator(np.random.PCG64(int(REFERENCE["spec_in_seed"]))).standard_normal((221, 60)).T
    masks = draw_masks(60, 221, random.Random(11), np.random.RandomState(12))
    assert [len(masks), *np.ravel(masks)] == REFERENCE["spec_draws"].tolist()
    hidden = hide(picture, masks)
    value = REFERENCE["spec_value"]
    np.testing.assert_array_equal(np.flatnonzero((hidden == value).all(0)), REFERENCE["spec_masked_rows"])
    np.testing.assert_array_equal(np.flatnonzero((hidden == value).all(1)), REFERENCE["spec_masked_cols"])
    shown = hidden != value
    np.testing.assert_array_equal(hidden[shown], picture[shown])


def test_batch_of_unequal_clips_is_that_of_the_authors():
    clips = [np.full((n, 3), i + 1.0, np.float32) for i, n in enumerate((4, 6, 5))]
    batch, targets = collate(clips, [np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([1.0, 1.0])])
    np.testing.assert_array_equal(batch, REFERENCE["coll_x"][:, 0].transpose(0, 2, 1))
    np.testing.assert_array_equal(targets, REFERENCE["coll_t"])


@given(n=st.integers(1, 40), frames=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_training_example_has_its_length_and_nothing_that_was_not_there(n, frames, seed):
    clip = np.random.default_rng(seed).standard_normal((n, 5)).astype(np.float32)
    crop = training_crop(clip, frames, np.random.default_rng(seed))
    assert crop.shape == (frames, 5) and crop.dtype == np.float32
    assert np.isin(crop, clip).all()
    assert np.array_equal(crop, training_crop(clip, frames, np.random.default_rng(seed)))


def test_every_place_of_a_clip_is_seen():
    clip = np.arange(7.0)[:, None]
    starts = {int(random_crop(clip, 5, np.random.default_rng(seed))[0, 0]) for seed in range(40)}
    assert starts == {0, 1, 2}


def test_half_of_the_examples_are_masked():
    clip = np.random.default_rng(0).standard_normal((100, 50))
    n_changed = sum(
        len(np.unique(training_crop(clip, 100, np.random.default_rng(seed)))) < clip.size for seed in range(200)
    )
    assert 70 < n_changed < 120
    assert len(np.unique(training_crop(clip, 100, np.random.default_rng(0), masked=False))) == clip.size


def test_an_unknown_padding_is_refused():
    with pytest.raises(UsageError, match="wrap, constant"):
        pad_to(SEVEN, 9, "mirror")
