"""What recordings suffer on their way to us: rooms, microphones, noise, telephones, clipping, mu-law; numpy only.

The linear part (equaliser, room, band limit) and the added noise are applied in one pass through the frequency domain,
so degrading costs two FFTs of the recording whatever is switched on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Audio = npt.NDArray[np.float32]

MU = 255.0  # ITU-T G.711 mu-law


@dataclass(frozen=True)
class Degradations:
    """How often, and how strongly, each degradation happens (probabilities in [0, 1], decibels, seconds)."""

    equaliser: float = 0.6
    room: float = 0.4
    noise: float = 0.8
    narrow_band: float = 0.4  # 8 kHz recordings and telephones: nothing above 4 kHz
    clipping: float = 0.04
    mu_law: float = 0.04
    snr_db: tuple[float, float] = (10.0, 40.0)
    decay_s: tuple[float, float] = (0.05, 0.4)  # RT60 of the room
    peak_db: tuple[float, float] = (-26.0, -0.5)  # level of the result, re full scale


SPEECH = Degradations()
SCENES = Degradations(equaliser=0.4, room=0.5, noise=0.3, narrow_band=0.25, snr_db=(15, 50), decay_s=(0.05, 1.2))


def fast_length(n: int) -> int:
    """Smallest length >= n of the form 2^a, 3*2^a, 5*2^a or 9*2^a: a quick FFT, little padding."""
    power = 1 << max(int(n - 1).bit_length(), 4)
    return min(m for m in (power, power * 5 // 8, power * 9 // 16, power * 3 // 4) if m >= n)


def coloured_spectrum(rng: np.random.Generator, bins: int, slope_db_per_octave: float) -> npt.NDArray[np.complex64]:
    """Half spectrum `[bins]` of Gaussian noise whose power falls by `slope_db_per_octave`; bin 0 is zero."""
    parts = rng.standard_normal((2, bins), dtype=np.float32)
    spectrum = (parts[0] + 1j * parts[1]).astype(np.complex64)
    exponent = slope_db_per_octave / (20 * np.log10(2.0))
    k = np.maximum(np.arange(bins, dtype=np.float32), max(1.0, bins / 200))  # flat below 0.5 % of Nyquist: no rumble
    spectrum *= (k / k[-1]) ** np.float32(-exponent)
    spectrum[0] = 0
    return spectrum


def equaliser_gain(rng: np.random.Generator, freqs_hz: npt.NDArray[np.floating]) -> Audio:
    """Gentle random amplitudes at `freqs_hz`: a tilt up to 3 dB an octave and up to three peaks of up to 8 dB."""
    octaves = np.log2(np.maximum(freqs_hz, 60.0) / 1000.0)
    gain_db = rng.uniform(-3, 3) * np.clip(octaves, -3, 3)
    for _ in range(rng.integers(0, 4)):
        centre, width = np.log2(rng.uniform(0.1, 7.0)), rng.uniform(0.2, 1.2)
        gain_db = gain_db + rng.uniform(-8, 8) * np.exp(-0.5 * ((octaves - centre) / width) ** 2)
    return (10 ** (gain_db / 20)).astype(np.float32)


def room_response(rng: np.random.Generator, decay_s: float, sample_rate: int) -> Audio:
    """Impulse response of a simple room: direct sound, early reflections, an exponentially decaying tail.

    `decay_s` is RT60, the time in which the tail falls by 60 dB; the response is that long. Early reflections fall off
    with their path length, as image sources do; the tail grows duller with time.
    """
    n = max(int(decay_s * sample_rate), 64)
    t = np.arange(n, dtype=np.float32) / n
    tail = rng.standard_normal(n, dtype=np.float32) * np.exp(np.float32(-6.9078) * t)
    dull = np.cumsum(tail[::-1])[::-1] * np.float32(0.02)  # a crude low-pass, faded in with time
    tail = tail * (1 - t) + dull * t
    tail[: min(n, int(0.002 * sample_rate))] = 0
    response = tail * np.float32(10 ** (rng.uniform(-14, 0) / 20) / (np.sqrt(np.sum(tail**2)) + 1e-9))
    response[0] += 1.0
    delays = rng.uniform(0.001, min(0.04, decay_s), size=rng.integers(2, 9))
    at = np.minimum((delays * sample_rate).astype(int), n - 1)
    np.add.at(response, at, (rng.choice([-1, 1], size=at.size) * 0.6 / (1 + 150 * delays)).astype(np.float32))
    return response


def band_limit_gain(freqs_hz: npt.NDArray[np.floating], low_hz: float, high_hz: float, width_hz: float) -> Audio:
    """Amplitude response that passes `low_hz`..`high_hz` and reaches zero `width_hz` above (raised cosine)."""
    above = np.clip((freqs_hz - high_hz) / max(width_hz, 1.0), 0, 1)
    gain = 0.5 + 0.5 * np.cos(np.pi * above)
    if low_hz > 0:
        gain = gain / np.sqrt(1 + (low_hz / np.maximum(freqs_hz, 1.0)) ** 8)  # 4th-order high-pass
    return gain.astype(np.float32)


def clip_hard(audio: Audio, share: float) -> Audio:
    """Clip so that about `share` (0..1) of the samples lie at the limits."""
    limit = np.quantile(np.abs(audio), 1 - share)
    return np.clip(audio, -limit, limit) if limit > 0 else audio


def mu_law_8bit(audio: Audio) -> Audio:
    """8-bit mu-law there and back (ITU-T G.711's companding curve); expects and returns [-1, 1]."""
    squeezed = np.sign(audio) * np.log1p(MU * np.abs(audio)) / np.log1p(MU)
    steps = np.round(squeezed * 127) / 127
    return (np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(MU)) / MU).astype(np.float32)


def degrade(
    audio: Audio, sample_rate: int, rng: np.random.Generator, settings: Degradations = SPEECH, *, tail_s: float = 0.0
) -> Audio:
    """Degrade `audio` `[samples]` at random, as `settings` say; returns float32 `[samples (+ tail)]` in [-1, 1].

    `tail_s`: how many seconds of the room's tail may follow the end (at most). Order: equaliser and room, noise, band
    limit, level, clipping, mu-law. Digital silence stays digital silence. Deterministic in `rng`.
    """
    audio = np.asarray(audio, dtype=np.float32)
    in_room = rng.random() < settings.room
    decay_s = float(np.exp(rng.uniform(*np.log(settings.decay_s))))
    n_out = audio.size + (int(min(tail_s, decay_s / 2) * sample_rate) if in_room else 0)
    if not np.any(audio):
        return np.zeros(n_out, dtype=np.float32)
    n_fft = fast_length(audio.size + (int(decay_s * sample_rate) + 64 if in_room else 0))
    spectrum = np.fft.rfft(audio, n_fft).astype(np.complex64)
    freqs_hz = np.linspace(0, sample_rate / 2, spectrum.size, dtype=np.float32)
    if in_room:
        spectrum *= np.fft.rfft(room_response(rng, decay_s, sample_rate), n_fft).astype(np.complex64)
    if rng.random() < settings.equaliser:
        spectrum *= equaliser_gain(rng, freqs_hz)
    if rng.random() < settings.noise:
        noise = coloured_spectrum(rng, spectrum.size, rng.uniform(-1, 7))
        # the noise lasts n_fft samples, the sound only audio.size: compare powers per sample, not sums
        ratio = np.sqrt(np.sum(np.abs(spectrum) ** 2) / audio.size / (np.sum(np.abs(noise) ** 2) / n_fft))
        spectrum += noise * np.float32(ratio * 10 ** (-rng.uniform(*settings.snr_db) / 20))
    if rng.random() < settings.narrow_band:
        telephone = rng.random() < 0.3
        high_hz = 3400.0 if telephone else rng.uniform(3500, 3850)
        low_hz = rng.uniform(150, 300) if telephone else 0.0
        spectrum *= band_limit_gain(freqs_hz, low_hz, high_hz, min(4000.0 - high_hz, sample_rate / 2 - high_hz))
    out = np.fft.irfft(spectrum, n_fft)[:n_out].astype(np.float32)
    if rng.random() < settings.clipping:
        out = clip_hard(out, rng.uniform(0.001, 0.02))
    out *= np.float32(10 ** (rng.uniform(*settings.peak_db) / 20) / (np.max(np.abs(out)) + 1e-9))
    if rng.random() < settings.mu_law:
        out = mu_law_8bit(out)
    return out
