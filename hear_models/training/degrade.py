"""Degradations of a log-mel spectrogram: another microphone, band limits, noise, another vocal tract.

With a recipe's `[degrade]`, the network sees the degraded crop and predicts the patches of the clean one, so that what
it encodes is what was said and not what it was recorded with. An addition of ours: the paper uses no augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLOOR = -15.94  # log-mel of digital silence
DB = np.log(10) / 10  # one decibel of power in natural logarithms


@dataclass(frozen=True)
class Degrade:
    """How often and how strongly; all zero = clean."""

    equalise_db: float = 0.0  # standard deviation of a smooth random response at five points over the bands
    noise: float = 0.0  # probability of stationary noise, 5 to 40 dB below the loud frames
    band_limit: float = 0.0  # probability of a low-pass, 2.5 to 7 kHz
    warp: float = 0.0  # largest relative change of the frequency axis (vocal tract length), for instance 0.12

    @property
    def active(self) -> bool:
        """Whether anything is changed at all."""
        return any((self.equalise_db, self.noise, self.band_limit, self.warp))


def degrade(clip: np.ndarray, how: Degrade, band_hz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A degraded copy of a clip's log-mel, float32 [frames, bands]; `band_hz` [bands] are the centres of the bands."""
    bands = clip.shape[1]
    x = clip
    if how.warp:
        scale = np.exp(rng.uniform(-1, 1) * np.log1p(how.warp))
        source = np.interp(band_hz * scale, band_hz, np.arange(bands))
        low = np.minimum(source.astype(int), bands - 2)
        share = (source - low).astype(np.float32)
        x = x[:, low] * (1 - share) + x[:, low + 1] * share
    if how.equalise_db:
        knots = rng.standard_normal(5) * how.equalise_db * DB
        x = x + np.interp(np.arange(bands), np.linspace(0, bands - 1, 5), knots).astype(np.float32)
    if rng.random() < how.band_limit:
        octaves_above = np.maximum(0, np.log2(band_hz / rng.uniform(2_500, 7_000)))
        x = x - (octaves_above * rng.uniform(60, 300) * DB).astype(np.float32)
    if rng.random() < how.noise:
        loud = np.quantile(x.mean(axis=1), 0.9)
        knots = rng.standard_normal(5) * 6 * DB
        level = loud - rng.uniform(5, 40) * DB + np.interp(np.arange(bands), np.linspace(0, bands - 1, 5), knots)
        noise = level.astype(np.float32) + 0.5 * rng.standard_normal(x.shape, dtype=np.float32)
        x = np.log(np.exp(x) + np.exp(noise))  # far from the limits of float32, and faster than logaddexp
    degraded: np.ndarray = np.maximum(x, FLOOR).astype(np.float32)
    return degraded
