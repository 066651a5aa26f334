"""The classes of the toy tasks sound as their labels say."""

from __future__ import annotations

import numpy as np
import pytest

from hear_models.datasets import toy_sounds as toy


def test_harmonics_are_sines_at_multiples_of_the_pitch():
    f0 = np.linspace(200, 210, 4000)
    phase = 2 * np.pi * np.cumsum(f0) / toy.RATE
    amplitudes = np.tile([1.0, 0, 0.5] + [0.0] * 26 + [0.25], (51, 1))
    expected = np.sin(phase) + 0.5 * np.sin(3 * phase) + 0.25 * np.sin(30 * phase)
    np.testing.assert_allclose(toy.harmonics(f0, amplitudes), expected, atol=1e-5)


def test_no_harmonic_is_folded_back():
    spectrum = np.abs(np.fft.rfft(toy.harmonics(np.full(16000, 3000.0), np.ones((201, 6)))))
    assert set(np.flatnonzero(spectrum > 100)) == {3000, 6000}


@pytest.mark.parametrize("f0_hz", [110.0, 220.0, 440.0])
def test_a_note_has_its_pitch_whatever_plays_it(f0_hz):
    for seed in range(5):
        sound = toy.note(np.random.default_rng(seed), f0_hz, 0.5)
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 32000))
        hz = np.flatnonzero(spectrum > 0.3 * spectrum.max()) / 2
        assert np.all(np.abs(hz / f0_hz - np.round(hz / f0_hz)) < 0.06), (seed, hz)


def test_a_voice_has_power_where_the_vowel_has_formants():
    def share(vowel: int, low: float, high: float) -> float:
        sound = toy.voice(np.random.default_rng(0), [vowel], np.full(16000, 100.0), breath=0)
        power = np.abs(np.fft.rfft(sound)) ** 2
        return power[round(low) : round(high)].sum() / power.sum()

    assert share(4, 550, 1300) > 0.5 > share(0, 550, 1300), "open a against close i"


def test_prototypes_differ_between_classes_and_hardly_within():
    sounds = toy.Prototypes(np.random.default_rng(0), 4, toy.STRUCK, 0.5)
    rng = np.random.default_rng(1)

    def bands(index: int) -> np.ndarray:
        power = np.abs(np.fft.rfft(sounds.play(rng, index, spread=0.01), 16000)) ** 2
        return np.sqrt(power[:8000].reshape(80, 100).sum(1) / power.sum())

    within = min(bands(i) @ bands(i) for i in range(4))
    between = max(bands(i) @ bands(j) for i in range(4) for j in range(i))
    assert within > between
