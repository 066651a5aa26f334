"""What the classes of the toy tasks sound like: voices, notes, struck and environmental sounds, with chosen attributes.

`procedural.py` draws everything at random; here one attribute is the class (a pitch, a word, how many talk) and the
rest is drawn anew for every clip. Struck and environmental classes are prototypes drawn by `procedural`'s makers,
played back at varying speeds. Everything is float32 at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from hear_models.datasets.degrade import Audio, Degradations, degrade
from hear_models.datasets.procedural import (
    VOWELS_HZ,
    chirp,
    formant_gain,
    harmonic_tone,
    impulse_train,
    inharmonic_tone,
    modulated_tone,
    noise_burst,
)

RATE = 16000  # Hz
HOP = 80  # samples between two looks at a moving vowel: 5 ms
Curve = npt.NDArray[np.floating]
Maker = Callable[[np.random.Generator, int, int], Audio]
ROOM = Degradations(equaliser=0.6, room=0.4, noise=0.9, narrow_band=0, clipping=0, mu_law=0, snr_db=(6, 30))
CLOSE = Degradations(equaliser=0.4, room=0.2, noise=0.9, narrow_band=0, clipping=0, mu_law=0, snr_db=(15, 40))
ENVIRONMENT = (noise_burst, impulse_train, chirp, modulated_tone, harmonic_tone)
STRUCK = (inharmonic_tone,)


def finished(sound: npt.NDArray[np.floating], rng: np.random.Generator, how: Degradations = ROOM) -> Audio:
    """In a room, over noise, at a random level."""
    return degrade(np.ascontiguousarray(sound, dtype=np.float32), RATE, rng, how)


def harmonics(f0_hz: Curve, amplitudes: Curve) -> Audio:
    """Sum of sines at 1, 2, ... times `f0_hz` [n], with `amplitudes` [n // HOP + 1, harmonics]; none above 7.5 kHz."""
    n = len(f0_hz)
    phase = 2 * np.pi * np.cumsum(f0_hz, dtype=np.float64) / RATE
    look, part = np.divmod(np.arange(n), HOP)
    after, part = np.minimum(look + 1, len(amplitudes) - 1), part / HOP
    sound, twice_cos = np.zeros(n), 2 * np.cos(phase)
    before, sine = np.zeros(n), np.sin(phase)  # of harmonics k - 1 and k
    for k in range(1, amplitudes.shape[1] + 1):
        if k * f0_hz.max() >= 7500:
            break
        level = amplitudes[:, k - 1]
        sound += (level[look] + part * (level[after] - level[look])) * sine
        before, sine = sine, twice_cos * sine - before  # sin((k + 1) x) = 2 cos(x) sin(k x) - sin((k - 1) x)
    return sound.astype(np.float32)


def note(rng: np.random.Generator, f0_hz: float, seconds: float) -> Audio:
    """A held or struck note of that pitch, on an instrument drawn anew."""
    n = round(seconds * RATE)
    k = np.arange(1, int(rng.integers(5, 20)) + 1)
    timbre = k ** -rng.uniform(0.5, 2.0) * np.exp(0.4 * rng.standard_normal(k.size))
    t = np.arange(0, n + HOP, HOP) / RATE
    envelope = np.minimum(1, t / rng.uniform(0.005, 0.06)) * np.exp(-t * rng.uniform(0, 5))
    vibrato = 1 + rng.uniform(0, 0.004) * np.sin(2 * np.pi * rng.uniform(3, 7) * np.arange(n) / RATE)
    return harmonics(f0_hz * vibrato, envelope[:, None] * timbre)


def voice(
    rng: np.random.Generator,
    said: Sequence[int] | npt.NDArray[np.integer],
    pitch_hz: Curve,
    *,
    tilt: float = 1.2,
    breath: float = 0.03,
    syllable_gap: float = 0.5,
) -> Audio:
    """Vowels `said` (indices into VOWELS_HZ) one after the other, evenly over the pitch contour `pitch_hz` [n].

    `tilt`: amplitude of harmonic k falls as k ** -tilt; `breath`: level of noise beside it; `syllable_gap`: how deep
    the level falls between two vowels, 0 to 1. The length of the vocal tract is drawn.
    """
    n = len(pitch_hz)
    looks = np.arange(0, n + HOP, HOP)
    place = looks / n * len(said)
    tract = rng.uniform(0.92, 1.18)
    targets = tract * VOWELS_HZ[list(said)] * rng.uniform(0.95, 1.05, (len(said), 3))
    centres = np.arange(len(said)) + 0.5
    formants = np.stack([np.interp(place, centres, targets[:, i]) for i in range(3)])  # [3, looks]
    k = np.arange(1, 31)
    freqs = np.interp(looks, np.arange(n), pitch_hz)[:, None] * k
    gain = formant_gain(freqs.astype(np.float32), formants[..., None], np.array([70.0, 100.0, 160.0])[:, None, None])
    level = 1 - syllable_gap * (0.5 + 0.5 * np.cos(2 * np.pi * place))
    sound = harmonics(pitch_hz, level[:, None] * gain * k**-tilt)
    sound /= np.std(sound) + 1e-9
    return (sound + breath * rng.standard_normal(n)).astype(np.float32)


def contour(rng: np.random.Generator, n: int, f0_hz: float, octaves: float, wobble: float) -> Curve:
    """A pitch contour [n] in Hz that rises by `octaves` around `f0_hz`, with random wobble (octaves)."""
    rise = np.linspace(-0.5, 0.5, n) * octaves
    drift = np.interp(np.linspace(0, 7, n), np.arange(8), rng.normal(0, wobble, 8))
    return f0_hz * 2 ** (rise + drift)


class Prototypes:
    """A sound per class, drawn once by `makers` in turn; `play` gives it at another speed and level."""

    def __init__(self, rng: np.random.Generator, classes: int, makers: Sequence[Maker], seconds: float) -> None:
        n = round(seconds * RATE)
        self.sounds = []
        for index in range(classes):
            sound = np.asarray(makers[index % len(makers)](rng, n, RATE), dtype=np.float32)
            self.sounds.append(sound / (np.max(np.abs(sound)) + 1e-9))

    def play(self, rng: np.random.Generator, index: int, *, octaves: float = 0.0, spread: float = 0.15) -> Audio:
        """Class `index`, `octaves` up, and up or down by about `spread` octaves more."""
        sound = self.sounds[index]
        speed = 2 ** (octaves + rng.normal(0, spread))
        return np.interp(np.arange(0, len(sound) - 1, speed), np.arange(len(sound)), sound).astype(np.float32)


def placed(sound: Audio, n: int, start: int) -> Audio:
    """`sound` from sample `start` on in `n` samples; what does not fit is cut."""
    out = np.zeros(n, dtype=np.float32)
    piece = sound[: max(0, n - start)]
    out[start : start + len(piece)] = piece
    return out
