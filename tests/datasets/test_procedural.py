"""Procedural audio is what pretraining hears: repeatable, in range, never silent, never the same twice, and quick."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_models.datasets import procedural
from hear_models.errors import UsageError


def band_shares(audio: np.ndarray) -> np.ndarray:
    """Shares of the energy in eight equal bands up to 8 kHz."""
    power = np.abs(np.fft.rfft(audio)) ** 2
    shares = np.array([part.sum() for part in np.array_split(power, 8)])
    return shares / shares.sum()


@given(st.integers(0, 2**64 - 1), st.floats(0.05, 2.5), st.sampled_from([8000, 16000, 22050, 44100]))
@settings(max_examples=40, deadline=None)
def test_every_scene_has_the_asked_length_lies_in_range_and_is_not_silent(seed, seconds, sample_rate):
    audio = procedural.generate(seed, seconds, sample_rate)
    assert audio.dtype == np.float32 and audio.shape == (max(1, round(seconds * sample_rate)),)
    assert np.isfinite(audio).all() and 0.01 < np.abs(audio).max() <= 1.0


@pytest.mark.parametrize("event", [event for event, _ in procedural.EVENTS], ids=lambda event: event.__name__)
@pytest.mark.parametrize("n", [256, 5000, 64_000])
def test_every_kind_of_event_sounds_whatever_its_dice_and_length(event, n):
    for seed in range(25):
        audio = event(np.random.default_rng(seed), n, 16_000)
        assert audio.shape == (n,) and audio.dtype == np.float32
        assert np.isfinite(audio).all() and np.abs(audio).max() > 0


def test_a_seed_always_gives_the_same_scene_and_another_seed_another():
    first, again, other = (procedural.generate(seed, 1.0) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.corrcoef(first, other)[0, 1]) < 0.5


def test_the_stream_repeats_by_seed_and_its_scenes_differ():
    stream = list(itertools.islice(procedural.scenes(3, 0.5), 4))
    for scene, again in zip(stream, procedural.scenes(3, 0.5), strict=False):
        np.testing.assert_array_equal(scene, again)
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(stream, 2))


def test_streams_of_neighbouring_seeds_share_no_scene():
    seeds = {procedural.scene_seed(seed, index) for seed in range(20) for index in range(50)}
    assert len(seeds) == 1000


def test_global_random_state_is_left_alone():
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    procedural.generate(0, 1.0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_scenes_are_varied_in_spectrum_so_that_there_is_something_to_learn():
    shares = np.array([band_shares(procedural.generate(seed, 2.0)) for seed in range(40)])
    assert shares[:, 4:].sum(axis=1).min() < 1e-4, "no recording without anything above 4 kHz"
    assert shares[:, 4:].sum(axis=1).max() > 0.1, "no bright recording"
    assert np.std(np.log(shares[:, 0] + 1e-6)) > 0.3


def test_a_tone_has_the_pitch_that_its_phase_says():
    """The wavetable must neither alias nor drift: a 1 kHz table read for a second peaks at 1 kHz, harmonics below."""
    table = procedural._wavetable(np.array([1, 0.5, 0.25], dtype=np.float32), np.random.default_rng(0))
    audio = procedural._read_table(table, np.arange(16_000) * (1000 / 16_000))
    spectrum = np.abs(np.fft.rfft(audio))
    np.testing.assert_array_equal(np.sort(np.argsort(spectrum)[-3:]), [1000, 2000, 3000])
    np.testing.assert_allclose(spectrum[[2000, 3000]] / spectrum[1000], [0.5, 0.25], atol=0.01)
    rest = np.delete(spectrum, [1000, 2000, 3000])
    assert rest.max() < 1e-3 * spectrum[1000]


@pytest.mark.parametrize("arguments", [(0, 0.0), (0, -1.0), (-1, 1.0), (0, 1.0, 4000), (0, float("nan"))])
def test_arguments_out_of_range_end_in_one_clear_error(arguments):
    with pytest.raises(UsageError, match="needs seconds > 0"):
        procedural.generate(*arguments)


def test_one_core_generates_sound_many_times_faster_than_it_is_heard():
    """Pretraining takes hundreds of crops of 2 s a second; 60 is a floor for a busy machine, not the measured speed."""
    procedural.generate(0, 10.0)
    started = time.process_time()
    for seed in range(3):
        procedural.generate(seed, 10.0)
    assert 30.0 / (time.process_time() - started) > 60
