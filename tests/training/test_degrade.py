"""What a recipe's [degrade] does to the crop that the network sees, and that the target stays clean."""

from __future__ import annotations

import numpy as np
import pytest

from hear_models.frontends.logmel import LogMel
from hear_models.training.crops import Crops
from hear_models.training.degrade import DB, FLOOR, Degrade, degrade
from hear_models.training.features import Source
from hear_models.training.recipe import Data

BAND_HZ = LogMel().band_hz.numpy()


def clip(frames: int = 300) -> np.ndarray:
    return (-6 + 2 * np.random.default_rng(0).standard_normal((frames, 80))).astype(np.float32)


def changed(how: Degrade, seed: int = 0) -> np.ndarray:
    return degrade(clip(), how, BAND_HZ, np.random.default_rng(seed)) - clip()


def test_equaliser_moves_every_frame_of_a_band_alike():
    difference = changed(Degrade(equalise_db=6.0))
    assert np.ptp(difference, axis=0).max() < 1e-4
    assert 1 * DB < np.abs(difference[0]).max() < 40 * DB


def test_band_limit_takes_the_high_bands_only():
    difference = changed(Degrade(band_limit=1.0)).mean(axis=0)
    assert np.abs(difference[BAND_HZ < 2500]).max() < 1e-5
    assert difference[BAND_HZ > 7500].max() < -1


def test_noise_fills_the_quiet_and_leaves_the_loud():
    difference = changed(Degrade(noise=1.0))
    quiet, loud = clip() < np.quantile(clip(), 0.1), clip() > np.quantile(clip(), 0.9)
    assert difference.min() >= -1e-5
    assert difference[quiet].mean() > 2 * difference[loud].mean()


@pytest.mark.parametrize("seed", range(5))
def test_warp_moves_a_resonance_along_the_frequency_axis(seed):
    band = 40
    tone = np.full((10, 80), -12.0, np.float32)
    tone[:, band] = 0
    warped = degrade(tone, Degrade(warp=0.3), BAND_HZ, np.random.default_rng(seed))
    scale = np.exp(np.random.default_rng(seed).uniform(-1, 1) * np.log1p(0.3))
    expected = np.interp(BAND_HZ[band] / scale, BAND_HZ, np.arange(80))
    assert abs(warped[0].argmax() - expected) <= 1


def test_nothing_falls_below_digital_silence():
    how = Degrade(equalise_db=20.0, noise=0.5, band_limit=1.0, warp=0.2)
    silence = np.full((50, 80), FLOOR, np.float32)
    for seed in range(10):
        out = degrade(silence, how, BAND_HZ, np.random.default_rng(seed))
        assert out.dtype == np.float32 and out.min() >= np.float32(FLOOR)


def test_target_is_the_clean_crop_at_the_same_place():
    source = Source("x", clip(3000).astype(np.float16), np.array([0, 1500, 3000]))

    def view(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        start = int(rng.integers(0, len(x) - 200))
        return x[start : start + 200]

    crops = Crops([(source, 1.0)], Data(), 200, view, 0, Degrade(equalise_db=6.0), BAND_HZ)
    seen, target = crops.batch(0, 3)
    for a, b in zip(seen, target, strict=True):
        assert np.ptp(a - b, axis=0).max() < 1e-4  # the same frames, another response
        assert np.abs(a - b).max() > 0.1
    clean = Crops([(source, 1.0)], Data(), 200, view, 0, Degrade(), BAND_HZ).batch(0, 3)
    assert clean.units is clean.target
