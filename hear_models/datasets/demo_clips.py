"""Makes the short recordings that ship with the package: speech, strings, flute, drums, rain, a siren.

    python -m hear_models.datasets.demo_clips FOLDER

They lie in `hear_models/_demo`. Speech comes from the program espeak-ng, everything else from the lines of numpy below.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hear_models.datasets.degrade import Audio, coloured_spectrum, fast_length, room_response
from hear_models.datasets.speech import say
from hear_models.datasets.writing import write_flac

RATE = 16_000
BEAT_S = 0.3


@dataclass(frozen=True)
class DemoClip:
    """One recording: its file name without ending, what a listener hears, and how it is made."""

    name: str
    heard: str
    make: Callable[[], Audio]


def note_hz(semitones_from_a4: float) -> float:
    """Frequency of an equally tempered note."""
    return 440.0 * 2 ** (semitones_from_a4 / 12)


def pluck(pitch_hz: float, seconds: float, rng: np.random.Generator) -> Audio:
    """A plucked string: noise running round a loop that low-passes it (Karplus and Strong, 1983)."""
    period = round(RATE / pitch_hz)
    out = np.zeros(int(seconds * RATE), dtype=np.float32)
    loop = rng.uniform(-1, 1, period).astype(np.float32)
    before = np.float32(0)
    for start in range(0, out.size, period):
        out[start : start + period] = loop[: out.size - start]
        shifted = np.append(before, loop[:-1])
        before = loop[-1]
        loop = 0.498 * (loop + shifted)
    damping = min(out.size, RATE // 20)  # the finger comes back: no click
    out[out.size - damping :] *= np.linspace(1, 0, damping, dtype=np.float32)
    return out


def flute(pitch_hz: float, seconds: float, rng: np.random.Generator) -> Audio:
    """A flute-like note: few harmonics, a soft start, vibrato, breath around the pitch."""
    n = int(seconds * RATE)
    t = np.arange(n) / RATE
    vibrato = 0.006 * np.sin(2 * np.pi * 5.2 * t) * np.minimum(1, t / 0.2)
    phase = 2 * np.pi * np.cumsum(pitch_hz * (1 + vibrato)) / RATE
    tone = np.sum([level * np.sin(k * phase) for k, level in enumerate([1, 0.35, 0.18, 0.05, 0.02], 1)], axis=0)
    spectrum = coloured_spectrum(rng, n // 2 + 1, 3)
    freqs_hz = np.linspace(0, RATE / 2, spectrum.size)
    spectrum *= np.exp(-0.5 * (np.log2(np.maximum(freqs_hz, 1) / (2 * pitch_hz)) / 0.8) ** 2)
    breath = np.fft.irfft(spectrum, n)
    swell = np.minimum(1, t / 0.06) * np.minimum(1, (seconds - t) / 0.08)
    return ((tone + 0.05 * breath / breath.std()) * swell).astype(np.float32)


def melody(
    play: Callable[[float, float, np.random.Generator], Audio], notes: list[int], ring: float, seed: int
) -> Audio:
    """Notes (semitones from A4) one beat apart, each lasting `ring` beats."""
    rng = np.random.default_rng(seed)
    step, length = int(BEAT_S * RATE), int(BEAT_S * ring * RATE)
    out = np.zeros(step * (len(notes) - 1) + length, dtype=np.float32)
    for i, note in enumerate(notes):
        sound = play(note_hz(note), length / RATE, rng)
        out[i * step : i * step + sound.size] += sound
    return out


def drum_loop(seed: int) -> Audio:
    """Two bars of kick, snare and hi-hat."""
    rng = np.random.default_rng(seed)
    step = int(0.14 * RATE)
    t = np.arange(2 * step) / RATE
    kick = np.sin(2 * np.pi * np.cumsum(45 + 110 * np.exp(-t * 35)) / RATE) * np.exp(-t * 14)
    snare = (0.5 * rng.standard_normal(t.size) + 0.5 * np.sin(2 * np.pi * 190 * t)) * np.exp(-t * 22)
    hat = np.diff(rng.standard_normal(t.size + 2), n=2) * np.exp(-t * 70) * 0.12
    out = np.zeros(14 * step)
    for i, drums in enumerate([(kick, hat), (hat,), (snare, hat), (hat,), (kick, hat), (kick,)] * 2):
        for drum in drums:
            out[i * step : i * step + drum.size] += drum
    return out.astype(np.float32)


def rain(seconds: float, seed: int) -> Audio:
    """Rain-like: a hiss, and thousands of drops, each a short ring of its own pitch."""
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    n_fft = fast_length(n)
    hiss = np.fft.irfft(coloured_spectrum(rng, n_fft // 2 + 1, 2), n_fft)[:n]
    out = 0.5 * hiss / hiss.std()
    t = np.arange(160) / RATE
    for start in rng.integers(0, n - t.size, int(600 * seconds)):
        pitch = rng.uniform(900, 6000)
        out[start : start + t.size] += rng.exponential(2.0) * np.sin(2 * np.pi * pitch * t) * np.exp(-t * 600)
    return out.astype(np.float32)


def siren(seed: int) -> Audio:
    """A two-tone siren, as of a European ambulance, in a street."""
    tones = np.repeat([440, 585, 440, 585], int(0.5 * RATE))
    pitch = np.convolve(tones, np.ones(320) / 320, mode="same")[160:-160]
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    dry = np.sum([np.sin(k * phase) / k for k in range(1, 9)], axis=0)
    street = room_response(np.random.default_rng(seed), 0.5, RATE)
    return np.convolve(dry, street)[: dry.size].astype(np.float32)


GREETING, WEATHER = "Good morning, how are you?", "The weather is fine today."

CLIPS = (
    DemoClip("speech_man_1", "a man: good morning, how are you", lambda: say(GREETING, "en-us", pitch=40)),
    DemoClip("speech_man_2", "the same man: the weather is fine today", lambda: say(WEATHER, "en-us", pitch=40)),
    DemoClip("speech_woman", "a woman: good morning, how are you", lambda: say(GREETING, "en-gb+f4", pitch=60)),
    DemoClip("guitar_1", "a plucked string, rising", lambda: melody(pluck, [-17, -13, -10, -5], 2.5, 1)),
    DemoClip("guitar_2", "a plucked string, another tune", lambda: melody(pluck, [-8, -12, -15, -12, -8], 2.0, 2)),
    DemoClip("flute_1", "a flute, rising", lambda: melody(flute, [3, 7, 10, 15], 1.1, 3)),
    DemoClip("flute_2", "a flute, another tune", lambda: melody(flute, [12, 8, 5, 8, 0], 1.1, 4)),
    DemoClip("drums", "kick, snare and hi-hat", lambda: drum_loop(5)),
    DemoClip("rain", "rain", lambda: rain(1.5, 6)),
    DemoClip("siren", "a two-tone siren", lambda: siren(7)),
)


def finish(audio: Audio) -> Audio:
    """Half of full scale at most, and no click at either end."""
    fade = RATE // 100
    audio = 0.5 * audio / np.abs(audio).max()
    audio[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
    audio[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return audio.astype(np.float32)


def main(folder: str) -> None:
    """Write every clip to `folder`."""
    for clip in CLIPS:
        write_flac(Path(folder) / f"{clip.name}.flac", finish(clip.make()), RATE)


if __name__ == "__main__":
    main(sys.argv[1])
