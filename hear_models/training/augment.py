"""Lengths and masks of spectrograms [frames, bands] for supervised training, as GISE-51's authors train."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hear_models.errors import UsageError

PADDINGS = ("wrap", "constant")
LARGEST_BAND_SHARE, LARGEST_FRAME_SHARE = 0.15, 0.20  # of the spectrogram, masked in one round
AUGMENT_PROBABILITY = 0.5


class Uniform(Protocol):
    """Anything that draws a number between two: numpy's generators and Python's."""

    def uniform(self, low: float, high: float, /) -> float: ...


def pad_to(spectrogram: np.ndarray, frames: int, how: str = "wrap") -> np.ndarray:
    """At least `frames` long: the shorter half of what is missing before, the rest behind; longer ones as they are.

    Args:
        spectrogram: [frames, bands].
        how: "wrap" repeats the clip in both directions; "constant" fills with its smallest value.
    """
    n = len(spectrogram)
    if n >= frames:
        return spectrogram
    before = (frames - n) // 2
    if how == "wrap":
        return spectrogram[(np.arange(frames) - before) % n]
    if how != "constant":
        raise UsageError(f"padding {how!r} is unknown. Use one of {', '.join(PADDINGS)}.")
    padded = np.full((frames, *spectrogram.shape[1:]), spectrogram.min(), spectrogram.dtype)
    padded[before : before + n] = spectrogram
    return padded


def centre_crop(spectrogram: np.ndarray, frames: int) -> np.ndarray:
    """The middle `frames` of [frames, bands]; shorter ones as they are."""
    start = max(0, (len(spectrogram) - frames) // 2)
    return spectrogram[start : start + frames]


def random_crop(spectrogram: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
    """`frames` of [frames, bands] from a random place; shorter ones as they are."""
    start = int(rng.integers(0, max(0, len(spectrogram) - frames) + 1))
    return spectrogram[start : start + frames]


def draw_masks(frames: int, bands: int, sizes: random.Random, places: Uniform) -> list[tuple[int, int, int, int]]:
    """One or two rounds of (first band, bands, first frame, frames): what SpecAugment hides (Park et al. 2019).

    Args:
        sizes: draws the number of rounds and the sizes (the authors: Python's generator).
        places: draws where they lie (the authors: numpy's).
    """
    rounds = []
    for _ in range(sizes.randint(1, 2)):
        n_bands = int(bands * sizes.uniform(0, LARGEST_BAND_SHARE))
        first_band = int(places.uniform(0, bands - n_bands))
        n_frames = int(frames * sizes.uniform(0, LARGEST_FRAME_SHARE))
        rounds.append((first_band, n_bands, int(places.uniform(0, frames - n_frames)), n_frames))
    return rounds


def hide(spectrogram: np.ndarray, masks: Sequence[tuple[int, int, int, int]]) -> np.ndarray:
    """A copy of [frames, bands] whose masked bands and frames hold its smallest value."""
    hidden: np.ndarray = spectrogram.copy()
    value = spectrogram.min()
    for first_band, n_bands, first_frame, n_frames in masks:
        hidden[:, first_band : first_band + n_bands] = value
        hidden[first_frame : first_frame + n_frames] = value
    return hidden


def training_crop(spectrogram: np.ndarray, frames: int, rng: np.random.Generator, masked: bool = True) -> np.ndarray:
    """A training example [frames, bands]: padded (wrapped or constant, half and half), cropped, masked half the time.

    Args:
        spectrogram: the whole clip [frames, bands], its mean already removed.
        masked: False leaves SpecAugment out.
    """
    crop = random_crop(pad_to(spectrogram, frames, PADDINGS[int(rng.integers(2))]), frames, rng)
    if masked and rng.random() < AUGMENT_PROBABILITY:
        sizes = random.Random(int(rng.integers(2**62)))
        return hide(crop, draw_masks(len(crop), crop.shape[1], sizes, rng))
    return crop


def collate(spectrograms: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Spectrograms of any lengths as one batch: the longest first, zeros behind the shorter ones; targets follow.

    Args:
        spectrograms: each [frames, bands].
        targets: each [classes].

    Returns:
        float32 [clips, most frames, bands] and [clips, classes]; equal lengths keep their order.
    """
    order = sorted(range(len(spectrograms)), key=lambda i: -len(spectrograms[i]))
    longest = len(spectrograms[order[0]])
    batch = np.zeros((len(order), longest, *spectrograms[0].shape[1:]), np.float32)
    for row, index in enumerate(order):
        batch[row, : len(spectrograms[index])] = spectrograms[index]
    return batch, np.stack([targets[index] for index in order])
