"""Unlimited procedurally generated audio for pretraining: tones, chirps, bursts, vowels, textures, in rooms over noise.

`generate(seed, seconds)` gives one scene, `scenes(seed, seconds_each)` an endless stream. Harmonic sounds are
wavetables (one period made by an inverse FFT, read with a moving phase), filters are products in the frequency domain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hear_models.datasets.degrade import SCENES, Audio, coloured_spectrum, degrade, fast_length
from hear_models.errors import UsageError

TABLE = 2048  # samples in one period of a wavetable
MAX_HARMONICS = 120

# first three formants in Hz of nine vowels (averages of adult speakers; Peterson and Barney 1952, table II, men)
VOWELS_HZ = np.array(
    [
        [270, 2290, 3010],
        [390, 1990, 2550],
        [530, 1840, 2480],
        [660, 1720, 2410],
        [730, 1090, 2440],
        [570, 840, 2410],
        [440, 1020, 2240],
        [300, 870, 2240],
        [490, 1350, 1690],
    ]
)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _slow_curve(rng: np.random.Generator, n: int, points: int) -> Audio:
    """A smooth random curve `[n]` in [-1, 1] through `points` random values."""
    ramp = np.linspace(0, points - 1, n, dtype=np.float32)
    return np.interp(ramp, np.arange(points), rng.uniform(-1, 1, points)).astype(np.float32)


def _envelope(rng: np.random.Generator, n: int, sample_rate: int) -> Audio:
    """Attack, then either a struck sound's exponential decay or a held note with a release; `[n]` in [0, 1]."""
    attack = min(n, max(8, int(_log_uniform(rng, 0.001, 0.15) * sample_rate)))
    envelope = np.ones(n, dtype=np.float32)
    if rng.random() < 0.5:
        envelope *= np.exp(np.linspace(0, -rng.uniform(2, 9), n, dtype=np.float32))
    else:
        release = min(n, max(8, int(_log_uniform(rng, 0.005, 0.4) * sample_rate)))
        envelope[n - release :] *= np.linspace(1, 0, release, dtype=np.float32)
        envelope *= 1 + np.float32(rng.uniform(0, 0.4)) * _slow_curve(rng, n, 6)
    envelope[:attack] *= np.linspace(0, 1, attack, dtype=np.float32)
    tail = min(n, 80)
    envelope[n - tail :] *= np.linspace(1, 0, tail, dtype=np.float32)
    return envelope


def _pitch_hz(rng: np.random.Generator, n: int, sample_rate: int, low: float, high: float) -> Audio:
    """A pitch contour `[n]` in Hz: steady, with vibrato, gliding, or stepping through notes."""
    f0 = _log_uniform(rng, low, high)
    octaves = np.zeros(n, dtype=np.float32)
    kind = rng.random()
    t = np.arange(n, dtype=np.float32) / sample_rate
    if kind < 0.35:
        depth, rate = rng.uniform(0.005, 0.08), rng.uniform(3, 8)
        octaves += np.float32(depth) * np.sin(2 * np.pi * np.float32(rate) * t + rng.uniform(0, 6.28))
    elif kind < 0.65:
        octaves += np.float32(rng.uniform(0.05, 0.6)) * _slow_curve(rng, n, int(rng.integers(2, 6)))
    elif kind < 0.8:
        notes = rng.integers(-7, 8, size=int(rng.integers(2, 9))) / 12
        octaves += notes[np.minimum((np.arange(n) * notes.size) // n, notes.size - 1)].astype(np.float32)
    return np.clip(f0 * np.exp2(octaves), 20, sample_rate / 2.2).astype(np.float32)


def _wavetable(amplitudes: Audio, rng: np.random.Generator) -> Audio:
    """One period `[TABLE + 1]` (the last sample repeats the first) of harmonics 1, 2, ... with random phases."""
    spectrum = np.zeros(TABLE // 2 + 1, dtype=np.complex64)
    spectrum[1 : amplitudes.size + 1] = amplitudes * np.exp(2j * np.pi * rng.random(amplitudes.size))
    table = np.fft.irfft(spectrum, TABLE).astype(np.float32)
    table /= np.max(np.abs(table)) + 1e-9
    return np.append(table, table[0])


def _read_table(table: Audio, phase: np.ndarray) -> Audio:
    """Linear interpolation in `table` at `phase` (periods, any real number)."""
    position = (phase - np.floor(phase)).astype(np.float32) * TABLE
    index = position.astype(np.int32)
    np.minimum(index, TABLE - 1, out=index)
    below = table[index]
    return below + (position - index.astype(np.float32)) * (table[index + 1] - below)


def _phase(pitch_hz: Audio, sample_rate: int) -> np.ndarray:
    return np.cumsum(pitch_hz, dtype=np.float64) / sample_rate


def _random_timbre(rng: np.random.Generator, harmonics: int) -> Audio:
    k = np.arange(1, harmonics + 1)
    amplitudes = k ** -rng.uniform(0.3, 2.5) * np.exp(0.6 * rng.standard_normal(harmonics))
    if rng.random() < 0.25:
        amplitudes[1::2] *= rng.uniform(0, 0.2)  # odd harmonics only: clarinet-like, square-like
    return amplitudes.astype(np.float32)


def harmonic_tone(rng: np.random.Generator, n: int, sample_rate: int) -> Audio:
    """A pitched tone whose timbre moves from one spectrum to another; vibrato, glides or steps of pitch."""
    pitch = _pitch_hz(rng, n, sample_rate, 50, 1500)
    harmonics = int(np.clip(0.48 * sample_rate / pitch.max(), 1, MAX_HARMONICS))
    phase = _phase(pitch, sample_rate)
    sound = _read_table(_wavetable(_random_timbre(rng, harmonics), rng), phase)
    if rng.random() < 0.6:
        other = _read_table(_wavetable(_random_timbre(rng, harmonics), rng), phase)
        blend = 0.5 + 0.5 * _slow_curve(rng, n, int(rng.integers(2, 5)))
        sound += blend * (other - sound)
    return sound * _envelope(rng, n, sample_rate)


def inharmonic_tone(rng: np.random.Generator, n: int, sample_rate: int) -> Audio:
    """A struck bar, bell or stiff string: partials off the harmonic grid, higher ones decaying faster."""
    f0, stiffness = _log_uniform(rng, 80, 1200), _log_uniform(rng, 1e-4, 0.02)
    k = np.arange(1, int(rng.integers(3, 14)) + 1)
    if rng.random() < 0.5:
        partials_hz = f0 * k * np.sqrt(1 + stiffness * k**2)  # stiff string
    else:
        partials_hz = f0 * np.sort(rng.uniform(1, 9, k.size))
    partials_hz = partials_hz[partials_hz < 0.48 * sample_rate]
    t = np.arange(n, dtype=np.float32) / sample_rate
    decay = rng.uniform(1, 8)
    sound = np.zeros(n, dtype=np.float32)
    for i, hz in enumerate(partials_hz):
        cycles = np.arange(n) * (hz / sample_rate)
        wave = np.sin((2 * np.pi * (cycles - np.floor(cycles))).astype(np.float32))
        sound += wave * np.exp(np.float32(-decay * (1 + 0.5 * i)) * t) * np.float32(rng.uniform(0.2, 1) / (1 + 0.3 * i))
    sound[: min(n, 16)] *= np.linspace(0, 1, min(n, 16), dtype=np.float32)
    return sound


def chirp(rng: np.random.Generator, n: int, sample_rate: int) -> Audio:
    """One sweep, or a repeated one (bird-like, siren-like), exponential in frequency."""
    low, high = _log_uniform(rng, 60, 2000), _log_uniform(rng, 300, 0.45 * sample_rate)
    repeats = int(rng.integers(1, 9))
    ramp = np.linspace(0, repeats, n, endpoint=False, dtype=np.float32) % 1
    if rng.random() < 0.5:
        ramp = 1 - np.abs(2 * ramp - 1)
    pitch = (low * (high / low) ** ramp).astype(np.float32)
    sound = np.sin((2 * np.pi * (_phase(pitch, sample_rate) % 1)).astype(np.float32))
    if repeats > 1 and rng.random() < 0.5:
        sound *= np.sin(np.pi * ramp) ** 2
    return sound * _envelope(rng, n, sample_rate)


def noise_burst(rng: np.random.Generator, n: int, sample_rate: int) -> Audio:
    """Coloured noise, often through a band-pass, with an envelope: hits, hisses, breaths, waves."""
    n_fft = fast_length(n)
    spectrum = coloured_spectrum(rng, n_fft // 2 + 1, rng.uniform(-3, 9))
    if rng.random() < 0.7:
        octaves = np.log2(np.maximum(np.linspace(0, sample_rate / 2, spectrum.size, dtype=np.float32), 20))
        centre, width = np.log2(_log_uniform(rng, 100, 0.45 * sample_rate)), _log_uniform(rng, 0.05, 1.5)
        spectrum *= np.exp(-0.5 * ((octaves - np.float32(centre)) / np.float32(width)) ** 2) + np.float32(1e-3)
    sound = np.fft.irfft(spectrum, n_fft)[:n].astype(np.float32)
    return sound * _envelope(rng, n, sample_rate)


def impulse_train(rng: np.random.Generator, n: int, sample_rate: int) -> Audio:
    """Clicks at a steady, jittered or accelerating rate through a short resonance: ticks, rattles, engines, rain."""
    rate = _log_uniform(rng, 2, 120)
    count = max(1, int(rate * n / sample_rate))
    grid = np.linspace(0, 1, count, endpoint=False) ** rng.choice([1.0, 1.0, 1.6, 0.6])
    grid = grid + rng.uniform(0, rng.choice([0.0, 0.2, 1.0])) * rng.random(count) / count
    clicks = np.zeros(n, dtype=np.float32)
    np.add.at(clicks, np.minimum((grid * n).astype(int), n - 1), np.exp(0.4 * rng.standard_normal(count)))
    length = max(4, int(_log_uniform(rng, 0.0003, 0.06) * sample_rate))
    t = np.arange(length, dtype=np.float32)
    ring = np.exp(-5 * t / length) * np.cos(2 * np.pi * t * np.float32(_log_uniform(rng, 100, 7000) / sample_rate))
    if rng.random() < 0.3:
        ring = rng.standard_normal(length, dtype=np.float32) * np.exp(-5 * t / length)
    n_fft = fast_length(n + length)
    return np.fft.irfft(np.fft.rfft(clicks, n_fft) * np.fft.rfft(ring, n_fft), n_fft)[:n].astype(np.float32)


def modulated_tone(rng: np.random.Generator, n: int, sample_rate: int) -> Audio:
    """A carrier with frequency modulation (a few to many side bands) and amplitude modulation."""
    t = np.arange(n) / sample_rate
    carrier, modulator = _log_uniform(rng, 100, 3000), _log_uniform(rng, 1, 600)
    index = rng.uniform(0, 6) * np.exp(-t * rng.uniform(0, 4))
    cycles = carrier * t
    sound = np.sin(
        (2 * np.pi * (cycles - np.floor(cycles)) + index * np.sin(2 * np.pi * modulator * t)).astype(np.float32)
    )
    depth, rate = np.float32(rng.uniform(0, 1)), _log_uniform(rng, 1, 60)
    sound *= 1 - depth * (0.5 + 0.5 * np.sin((2 * np.pi * rate * t).astype(np.float32)))
    return sound * _envelope(rng, n, sample_rate)


def formant_gain(freqs_hz: Audio, formants_hz: np.ndarray, widths_hz: np.ndarray) -> Audio:
    """Amplitude response of resonances in cascade, unity at 0 Hz."""
    gain = np.ones_like(freqs_hz)
    for centre, width in zip(formants_hz.astype(np.float32), widths_hz.astype(np.float32), strict=True):
        gain *= centre**2 / np.sqrt((freqs_hz**2 - centre**2) ** 2 + (width * freqs_hz) ** 2 + 1)
    return gain


def vowels(rng: np.random.Generator, n: int, sample_rate: int) -> Audio:
    """Vowel-like syllables: a glottal buzz or breath through moving formants, with noisy onsets."""
    high = 400 if rng.random() < 0.8 else 700
    pitch = _pitch_hz(rng, n, sample_rate, 70, high)
    k = np.arange(1, int(np.clip(0.48 * sample_rate / pitch.max(), 1, MAX_HARMONICS)) + 1)
    source = _read_table(_wavetable((k ** -rng.uniform(1.0, 1.8)).astype(np.float32), rng), _phase(pitch, sample_rate))
    breath = rng.choice([0.01, 0.05, 0.3])
    source += np.float32(breath) * rng.standard_normal(n, dtype=np.float32)
    n_fft = fast_length(n)
    spectrum = np.fft.rfft(source, n_fft).astype(np.complex64)
    freqs_hz = np.linspace(0, sample_rate / 2, spectrum.size, dtype=np.float32)
    scale = rng.uniform(0.9, 1.4)  # vocal tract length
    sound = np.zeros(n, dtype=np.float32)
    targets = int(rng.integers(1, 5))
    position = np.linspace(0, targets - 1, n, dtype=np.float32)
    for i, vowel in enumerate(rng.integers(0, len(VOWELS_HZ), targets)):
        formants = scale * np.append(VOWELS_HZ[vowel] * rng.uniform(0.93, 1.07, 3), 3600)
        gain = formant_gain(freqs_hz, formants, np.array([60, 90, 150, 250]) * rng.uniform(0.7, 1.6))
        said = np.fft.irfft(spectrum * gain, n_fft)[:n].astype(np.float32)
        sound += said * np.maximum(0, 1 - np.abs(position - i))
    syllables = max(1, int(rng.uniform(1.5, 6) * n / sample_rate))
    beat = np.linspace(0, syllables, n, endpoint=False, dtype=np.float32) % 1
    sound *= np.minimum(1, 6 * beat) * np.minimum(1, 3 * (1 - beat))
    sound /= np.max(np.abs(sound)) + 1e-9
    if rng.random() < 0.6:
        fricative = noise_burst(rng, n, sample_rate)
        sound += np.float32(rng.uniform(0.1, 0.6)) * (beat > 0.85) * fricative / (np.max(np.abs(fricative)) + 1e-9)
    return sound * _envelope(rng, n, sample_rate)


EVENTS: tuple[tuple[Callable[[np.random.Generator, int, int], Audio], float], ...] = (  # makers and their shares
    (harmonic_tone, 0.24),
    (inharmonic_tone, 0.12),
    (chirp, 0.1),
    (noise_burst, 0.14),
    (impulse_train, 0.12),
    (modulated_tone, 0.08),
    (vowels, 0.2),
)


def generate(seed: int, seconds: float, sample_rate: int = 16000) -> Audio:
    """One scene: float32 `[round(seconds * sample_rate)]` in [-1, 1], the same for the same arguments.

    Several events (0.05 to 4 s) at random onsets and levels over 24 dB, often repeated, over coloured background noise;
    the mixture passes `degrade` (room, equaliser, noise, band limit). Raises `UsageError` unless `seconds` > 0,
    `sample_rate` >= 8000 and `seed` >= 0.
    """
    if not (seconds > 0 and sample_rate >= 8000 and seed >= 0):
        raise UsageError(
            f"generate() needs seconds > 0, sample_rate >= 8000 and seed >= 0; got {seconds}, {sample_rate}, {seed}. "
            "Choose values in these ranges."
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    n = max(1, round(seconds * sample_rate))
    mix = np.zeros(n, dtype=np.float32)
    shares = np.array([share for _, share in EVENTS])
    for _ in range(max(1, rng.poisson(rng.uniform(0.6, 2.5) * seconds))):
        length = min(n, max(256, int(_log_uniform(rng, 0.05, 4.0) * sample_rate)))
        make, _ = EVENTS[rng.choice(len(EVENTS), p=shares / shares.sum())]
        event = make(rng, length, sample_rate)
        event *= np.float32(10 ** (rng.uniform(-24, 0) / 20) / (np.max(np.abs(event)) + 1e-9))
        gap = int(length * rng.uniform(1.0, 2.0))
        start = int(rng.integers(0, max(1, n - event.size // 2)))
        for repeat in range(int(rng.integers(2, 7)) if rng.random() < 0.3 else 1):  # rhythms teach what comes next
            piece = event[: max(0, n - start - repeat * gap)]
            mix[start + repeat * gap : start + repeat * gap + piece.size] += piece
    if rng.random() < 0.8:
        n_fft = fast_length(n)
        background = np.fft.irfft(coloured_spectrum(rng, n_fft // 2 + 1, rng.uniform(-1, 8)), n_fft)[:n]
        background = background.astype(np.float32) * (1 + np.float32(0.4) * _slow_curve(rng, n, 2 + int(seconds)))
        level = 10 ** (-rng.uniform(20, 60) / 20) * np.max(np.abs(mix))
        mix += background * np.float32(level / (np.std(background) + 1e-9))
    return degrade(mix, sample_rate, rng, SCENES)


def scenes(seed: int, seconds_each: float, sample_rate: int = 16000) -> Iterator[Audio]:
    """An endless stream of different scenes `[round(seconds_each * sample_rate)]`, the same for the same seed."""
    index = 0
    while True:
        yield generate(scene_seed(seed, index), seconds_each, sample_rate)
        index += 1


def scene_seed(seed: int, index: int) -> int:
    """Seed of scene `index` of the stream `seed`: unrelated for neighbouring arguments."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])
