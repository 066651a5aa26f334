"""Soundscapes of isolated events over a background, drawn and rendered as GISE-51's (scaper 1.6.4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import soundfile
import soxr

from hear_models.datasets.library import Library
from hear_models.datasets.loudness import loudness
from hear_models.datasets.time_stretch import stretch
from hear_models.errors import AudioFileError, InputError
from hear_models.files import shown

SAMPLE_RATE = 22_050
DURATION_S = 5.0
REFERENCE_LUFS = -60.0  # of the background
EVENT_S, SNR_DB, STRETCH = (1.5, 5.0), (10.0, 60.0), (0.95, 1.05)
EVENT_SOURCE_S, BACKGROUND_SOURCE_S = 140.0, 600.0  # where in its recording a sound may begin, at most
MOST_EVENTS = 3
FADE_S = 0.01
FADE_SAMPLES = int(FADE_S * SAMPLE_RATE)
SHORTEST_LOUDNESS_S = 0.5  # shorter events are repeated before they are measured
QUIETEST_LUFS = -70.0


@dataclass(frozen=True)
class Sound:
    """One sound of a mixture, the background or an event."""

    label: str  # name of the folder
    file: Path
    source_time_s: float  # where in the file it begins
    duration_s: float  # before stretching
    event_time_s: float = 0.0  # where in the mixture it begins
    snr_db: float = 0.0  # loudness above the background's
    stretch: float | None = None

    @property
    def end_s(self) -> float:
        """Where in the mixture it ends."""
        return self.event_time_s + self.duration_s * (self.stretch or 1.0)


@dataclass(frozen=True)
class Mixture:
    """A background and its events in the order in which they were drawn."""

    background: Sound
    events: tuple[Sound, ...]

    @property
    def labels(self) -> list[str]:
        """The events' labels in order of time; one that occurs twice is there twice."""
        return [event.label for event in self.by_time()]

    def by_time(self) -> list[Sound]:
        """The events in order of their beginning."""
        return sorted(self.events, key=lambda event: event.event_time_s)


def draw_mixture(
    events: Sequence[Path], foreground: Library, backgrounds: Library, rng: np.random.RandomState
) -> Mixture:
    """A background, and for each given recording when it begins, how long, how loud and how stretched it is.

    `rng` is used as scaper 1.6.4 uses it, so a seed gives the soundscapes of the authors' script.

    Args:
        events: recordings of `foreground`, one for each event.
    """
    label = backgrounds.labels[rng.randint(len(backgrounds.files))]
    file = backgrounds.files[label][rng.randint(len(backgrounds.files[label]))]
    begin = _source_time(BACKGROUND_SOURCE_S, DURATION_S, backgrounds.duration_s(file), rng)
    drawn = []
    for path in events:
        source_s = foreground.duration_s(path)
        duration_s = min(rng.uniform(*EVENT_S), source_s)
        factor = rng.uniform(*STRETCH)
        if duration_s * factor > DURATION_S:
            duration_s = DURATION_S / factor
        source_time_s = _source_time(EVENT_SOURCE_S, duration_s, source_s, rng)
        event_time_s = rng.uniform(0, DURATION_S)
        if event_time_s + duration_s * factor > DURATION_S:
            event_time_s = DURATION_S - duration_s * factor
        snr_db = rng.uniform(*SNR_DB)
        drawn.append(Sound(path.parent.name, path, source_time_s, duration_s, event_time_s, snr_db, factor))
    return Mixture(Sound(label, file, begin, DURATION_S), tuple(drawn))


def _source_time(latest_s: float, duration_s: float, source_s: float, rng: np.random.RandomState) -> float:
    """Where a sound begins in its recording: uniform, so that it ends inside; no draw where there is no choice."""
    low, high = 0.0, latest_s
    if low + duration_s > source_s:
        low = max(0.0, source_s - duration_s)
    if high + duration_s > source_s:
        high = max(0.0, source_s - duration_s)
    return low if low == high else float(rng.uniform(low, high))


def render(mixture: Mixture) -> np.ndarray:
    """The sum of a mixture's sounds, float64 [110,250] at 22,050 Hz in [-1, 1], on the grid of 32-bit PCM.

    Raises:
        AudioFileError: a recording cannot be read, or ends before the part that is wanted.
        InputError: the background is silent.
    """
    length = int(DURATION_S * SAMPLE_RATE)
    total = _background(mixture.background, length)
    for event in mixture.events:
        place = int(SAMPLE_RATE * event.event_time_s)
        sound = _event(event)[: length - place]
        total[place : place + len(sound)] += sound
    peak = np.abs(total).max()
    if peak > 1:
        total *= 1 / (peak + 1e-10)
    return np.clip(np.round(total * 2.0**31), -(2.0**31), 2.0**31 - 1) / 2.0**31


def _background(sound: Sound, length: int) -> np.ndarray:
    samples, rate, source_s = _read(sound)
    last = int((sound.source_time_s + sound.duration_s) * rate)
    samples = _resampled(np.tile(samples, int(DURATION_S // source_s) + 1)[:last], rate)
    level = _loudness(samples)
    if level <= QUIETEST_LUFS:
        raise InputError(f"the background {shown(sound.file)} is silent. Replace or remove it.")
    padded = np.zeros(length)
    padded[: len(samples)] = samples[:length] * 10 ** ((REFERENCE_LUFS - level) / 20)
    return padded


def _event(sound: Sound) -> np.ndarray:
    samples, rate, _ = _read(sound)
    samples = _resampled(samples, rate)
    if sound.stretch is not None:
        samples = stretch(samples, sound.stretch, SAMPLE_RATE)
    samples = samples * 10 ** ((REFERENCE_LUFS + sound.snr_db - _loudness(samples)) / 20)
    ramp = np.sin(np.linspace(0, np.pi / 2, FADE_SAMPLES))[: len(samples)]
    samples[: len(ramp)] *= ramp
    samples[len(samples) - len(ramp) :] *= ramp[::-1]
    return samples


def _read(sound: Sound) -> tuple[np.ndarray, int, float]:
    """(samples of the part, mono; rate in Hz; seconds of the whole recording)."""
    try:
        with soundfile.SoundFile(sound.file) as file:
            rate, source_s = file.samplerate, file.frames / file.samplerate
            start = int(sound.source_time_s * rate)
            file.seek(min(start, file.frames))
            samples = file.read(int((sound.source_time_s + sound.duration_s) * rate) - start, always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise AudioFileError(f"{shown(sound.file)} cannot be read ({error}). Replace or remove it.") from error
    if not np.isfinite(samples).all():
        raise AudioFileError(f"{shown(sound.file)} holds NaN or infinity. Replace or remove it.")
    if not len(samples):
        raise AudioFileError(f"{shown(sound.file)} ends before {sound.source_time_s} s. Replace or remove it.")
    return samples.mean(axis=1), rate, source_s


def _resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    return samples if rate == SAMPLE_RATE else soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")


def _loudness(samples: np.ndarray) -> float:
    seconds = len(samples) / SAMPLE_RATE
    if seconds < SHORTEST_LOUDNESS_S:
        samples = np.tile(samples, math.ceil(SHORTEST_LOUDNESS_S / seconds))
    return max(loudness(samples, SAMPLE_RATE), QUIETEST_LUFS)


def sixteen_bits(samples: np.ndarray, official: bool = False) -> np.ndarray:
    """Samples in [-1, 1] as int16 [samples], rounded; official=True cuts as the authors' conversion does (-0.5 LSB)."""
    if official:  # 32-bit PCM shifted right by 16 bits
        return (np.clip(np.round(samples * 2.0**31), -(2.0**31), 2.0**31 - 1).astype(np.int64) >> 16).astype(np.int16)
    return np.clip(np.round(samples * 2.0**15), -(2**15), 2**15 - 1).astype(np.int16)


def soundscapes(
    foreground: Library, background: Library, seed: int, *, official: bool = False, most_events: int = MOST_EVENTS
) -> Iterator[Mixture]:
    """An endless row of drawn soundscapes, one to `most_events` events each, every label alike.

    Which recordings are chosen is drawn here; the authors' script draws it without a seed.

    Args:
        official: one random state runs through all soundscapes, as through the authors' script (its seed is 123);
            False: soundscape k depends on `seed` and k alone.
    """
    shared = np.random.RandomState(seed % 2**32)
    for index in count():
        rng = np.random.Generator(np.random.PCG64([seed, index]))
        chosen = foreground.choose(rng, int(rng.integers(1, most_events + 1)))
        own = np.random.RandomState(int(rng.integers(2**32)))
        yield draw_mixture(chosen, foreground, background, shared if official else own)
