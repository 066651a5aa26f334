"""Procedural scenes whose events are known: something to learn tagging from without a single recording."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hear_models.datasets.degrade import Audio, Degradations, coloured_spectrum, degrade, fast_length
from hear_models.datasets.gise51 import Annotation, LabelledClip
from hear_models.datasets.procedural import (
    chirp,
    harmonic_tone,
    impulse_train,
    inharmonic_tone,
    modulated_tone,
    noise_burst,
    scene_seed,
    vowels,
)

SCENE_S = 5.0
MOST_EVENTS = 3
EVENT_S = (0.5, 3.0)
LEVEL_DB = (-18.0, 0.0)
PLACES = Degradations(equaliser=0.4, room=0.4, noise=0.3, narrow_band=0.1, clipping=0, mu_law=0, snr_db=(20, 50))

KINDS: dict[str, Callable[[np.random.Generator, int, int], Audio]] = {  # the makers of procedural.py, by what they make
    "Chirp": chirp,
    "Clicks": impulse_train,
    "Harmonic tone": harmonic_tone,
    "Modulated tone": modulated_tone,
    "Noise burst": noise_burst,
    "Struck bar or string": inharmonic_tone,
    "Vowels": vowels,
}


def scene_events(seed: int) -> list[Annotation]:
    """The events of a scene in order of time: one to three, of different kinds."""
    rng = np.random.Generator(np.random.PCG64([seed, 0]))
    kinds = rng.permutation(len(KINDS))[: int(rng.integers(1, MOST_EVENTS + 1))]
    events = []
    for kind in kinds:
        seconds = rng.uniform(*EVENT_S)
        onset = rng.uniform(0, SCENE_S - seconds)
        events.append(Annotation(onset, onset + seconds, list(KINDS)[kind]))
    return sorted(events, key=lambda event: event.onset_s)


def labelled_scene(seed: int, sample_rate: int) -> Audio:
    """The sound of `scene_events(seed)`: 5 s, float32 [samples] in [-1, 1], over coloured noise, in a room."""
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    n = round(SCENE_S * sample_rate)
    mix = np.zeros(n, dtype=np.float32)
    for event in scene_events(seed):
        length = round((event.offset_s - event.onset_s) * sample_rate)
        sound = KINDS[event.label](rng, length, sample_rate)
        start = min(n - length, round(event.onset_s * sample_rate))
        mix[start : start + length] += sound * np.float32(
            10 ** (rng.uniform(*LEVEL_DB) / 20) / (np.abs(sound).max() + 1e-9)
        )
    n_fft = fast_length(n)
    background = np.fft.irfft(coloured_spectrum(rng, n_fft // 2 + 1, rng.uniform(-1, 8)), n_fft)[:n].astype(np.float32)
    level = 10 ** (-rng.uniform(35, 65) / 20) * np.abs(mix).max()
    mix += background * np.float32(level / (np.std(background) + 1e-9))
    return degrade(mix, sample_rate, rng, PLACES)


def labelled_scenes(seed: int, number: int) -> list[LabelledClip]:
    """Scenes of a stream; the streams of two seeds share none. Their sound is made when it is read."""

    def clip(index: int) -> LabelledClip:
        own = scene_seed(seed, index)
        labels = tuple(event.label for event in scene_events(own))
        return LabelledClip(f"scene {index} of {seed}", labels, None, lambda rate: labelled_scene(own, rate))

    return [clip(index) for index in range(number)]
