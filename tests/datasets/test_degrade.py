"""Degradations must do what their names say, keep levels and lengths, and never invent NaN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hear_models.datasets import degrade as d

NOTHING = d.Degradations(equaliser=0, room=0, noise=0, narrow_band=0, clipping=0, mu_law=0, peak_db=(-6, -6))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def tone(hz: float, n: int = 16_000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(n) / 16_000)).astype(np.float32)


def only(**changes) -> d.Degradations:
    return d.Degradations(**{**NOTHING.__dict__, **changes})


@given(
    arrays(np.float32, st.integers(1, 3000), elements=st.floats(-1, 1, width=32)),
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.1]),
)
@settings(max_examples=60, deadline=None)
def test_any_recording_comes_back_finite_in_range_and_not_shortened(audio, seed, tail_s):
    out = d.degrade(audio, 16_000, rng(seed), tail_s=tail_s)
    assert out.dtype == np.float32 and np.isfinite(out).all() and np.abs(out).max(initial=0) <= 1
    assert audio.size <= out.size <= audio.size + round(tail_s * 16_000)


def test_digital_silence_stays_silence():
    assert not d.degrade(np.zeros(500, dtype=np.float32), 16_000, rng()).any()


def test_with_everything_off_only_the_level_changes():
    audio = rng().uniform(-1, 1, 5001).astype(np.float32)
    out = d.degrade(audio, 16_000, rng(), NOTHING)
    np.testing.assert_allclose(out, audio * (10 ** (-6 / 20) / np.abs(audio).max()), atol=1e-5)


@pytest.mark.parametrize("snr_db", [10.0, 30.0])
@pytest.mark.parametrize("n", [6000, 16_000])
def test_noise_is_as_loud_as_asked(snr_db, n):
    clean = tone(500, n)
    noisy = d.degrade(clean, 16_000, rng(), only(noise=1, snr_db=(snr_db, snr_db)))
    gain = noisy @ clean / (clean @ clean)
    rest = noisy - gain * clean
    measured = 10 * np.log10(np.sum((gain * clean) ** 2) / np.sum(rest**2))
    assert abs(measured - snr_db) < 1.5


def test_narrow_band_recordings_have_nothing_above_4_khz():
    for seed in range(10):
        audio = rng(seed).standard_normal(16_000).astype(np.float32)
        power = np.abs(np.fft.rfft(d.degrade(audio, 16_000, rng(seed), only(narrow_band=1)), 16_384)) ** 2
        assert power[4300:].sum() < 1e-4 * power.sum()
        assert power[512:3400].sum() > 0.5 * power.sum()


def test_a_room_adds_a_tail_that_falls_by_60_db_in_its_decay_time():
    for seed in range(5):
        response = d.room_response(rng(seed), 0.4, 16_000)
        assert response[0] == 1.0 and response.size == 6400
        early, late = (np.sqrt(np.mean(response[part] ** 2)) for part in (slice(800, 1600), slice(4000, 4800)))
        assert 10 < 20 * np.log10(early / late) < 45  # 0.2 s apart: half of the 60 dB, more as the tail grows dull


def test_reverberation_follows_the_end_of_the_recording():
    wet = d.degrade(tone(500), 16_000, rng(1), only(room=1, decay_s=(0.4, 0.4)), tail_s=0.1)
    assert wet.size == 17_600 and np.abs(wet[16_000:]).max() > 1e-4


def test_clipping_flattens_the_asked_share_of_the_peaks():
    clipped = d.clip_hard(tone(440), 0.1)
    assert 0.05 < np.mean(np.abs(clipped) >= np.abs(clipped).max() * 0.9999) < 0.2
    assert not d.clip_hard(np.zeros(9, dtype=np.float32), 0.5).any()


def test_mu_law_keeps_255_levels_and_errs_by_less_than_its_steps():
    audio = np.linspace(-1, 1, 20_001, dtype=np.float32)
    out = d.mu_law_8bit(audio)
    assert len(np.unique(out)) == 255
    assert np.all(np.abs(out - audio) <= 0.024 * np.abs(audio) + 1e-4)
    np.testing.assert_array_equal(d.mu_law_8bit(out), out)


@given(st.integers(1, 1_000_000))
def test_fast_lengths_are_long_enough_and_waste_little(n):
    assert n <= d.fast_length(n) <= max(16, 1.34 * n)


def test_coloured_noise_falls_by_the_asked_decibels_an_octave():
    power = np.abs(d.coloured_spectrum(rng(), 2**17, 6.0)) ** 2
    octaves = [10 * np.log10(power[2**k : 2 ** (k + 1)].mean()) for k in range(12, 17)]
    np.testing.assert_allclose(np.diff(octaves), -6, atol=0.4)


def test_two_recordings_of_one_seed_are_degraded_alike():
    a, b = (d.degrade(tone(300), 16_000, rng(9)) for _ in range(2))
    np.testing.assert_array_equal(a, b)
