"""Synthetic speech for pretraining, made with the program espeak-ng: many voices, short utterances, rough recordings.

espeak-ng (GPL-3.0) is called as a program, nothing of it is in this package. Texts: `hear_models.datasets.words`.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import lru_cache

import numpy as np
import soxr

from hear_models.datasets.degrade import SPEECH, Audio, degrade
from hear_models.datasets.words import listed, utterance
from hear_models.errors import HearModelsError, UsageError

SHORTEST_S, LONGEST_S = 0.25, 3.0
TRIM_DB = -45.0  # re the utterance's peak: what counts as silence at its ends

# languages whose spelling rules read Latin letters aloud; each gives the same words another accent
ACCENTS = frozenset(
    listed(
        """
    af an az bs ca cs cy da de eo es es-419 et eu fi fr-be fr-ch fr-fr ga gd gn haw hr ht hu ia id is it ku la
    lb lfn lt lv mi ms mt nb nl om pap pl pt pt-br qu ro sk sl sq sv sw tk tn tr uz vi
    """
    )
)


@lru_cache(maxsize=1)
def languages() -> frozenset[str]:
    """Languages that the installed espeak-ng speaks by itself. Raises `HearModelsError` if the program is not there."""
    if shutil.which("espeak-ng") is None:
        raise HearModelsError(
            "The program espeak-ng, which makes the synthetic speech, is not on the PATH. "
            "Install it (Debian, Ubuntu: apt install espeak-ng), or make procedural sound instead (--kind procedural)."
        )
    listed = [line.split() for line in _run(["espeak-ng", "--voices"]).decode().splitlines()[1:]]
    return frozenset(row[1] for row in listed if len(row) > 4 and not row[4].startswith("mb/"))


@lru_cache(maxsize=1)
def voices() -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """English voices, voices of other languages, and speaker variants of the installed espeak-ng, each sorted.

    Raises `HearModelsError` if the program is not there.
    """
    english = sorted(name for name in languages() if name == "en" or name.startswith("en-"))
    listed = _run(["espeak-ng", "--voices=variant"]).decode().splitlines()[1:]
    variants = sorted({line.split("!v/", 1)[1].strip() for line in listed if "!v/" in line})
    plain = [name for name in variants if " " not in name and name != "whisperf"]
    return tuple(english), tuple(sorted(languages() & ACCENTS)), tuple(plain)


def _run(command: list[str]) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise HearModelsError(
            f"espeak-ng ended with code {done.returncode}: {done.stderr.decode(errors='replace').strip()[:200]}. "
            f"Try the command by hand: {' '.join(command)}"
        )
    return done.stdout


def say(
    text: str, voice: str, *, pitch: int = 50, words_per_minute: int = 175, amplitude: int = 100, gap: int = 0
) -> Audio:
    """Speak `text` with espeak-ng: float32 `[samples]` at 16 kHz, ends trimmed (empty if nothing was said).

    `voice` is espeak-ng's `language` or `language+variant`, pitch 0..99, amplitude 0..200, gap in units of 10 ms.
    Raises `UsageError` for an unknown language (espeak-ng itself would speak with another voice, without a word).
    """
    if voice.split("+")[0] not in languages():
        raise UsageError(f"espeak-ng has no voice {voice!r}. `espeak-ng --voices` lists what it has.")
    prosody = ["-p", str(pitch), "-s", str(words_per_minute), "-a", str(amplitude), "-g", str(gap)]
    wav = _run(["espeak-ng", "-v", voice, *prosody, "--stdout", "--", text])
    if len(wav) <= 44:
        return np.zeros(0, dtype=np.float32)
    # written to a pipe, the header's lengths are wrong; the fields before them and the samples after 44 bytes are right
    rate = int.from_bytes(wav[24:28], "little")
    samples = np.frombuffer(wav[44 : len(wav) - len(wav) % 2], dtype="<i2").astype(np.float32) / 32768
    return trim(soxr.resample(samples, rate, 16000).astype(np.float32))


def trim(audio: Audio, keep_s: float = 0.02, sample_rate: int = 16000) -> Audio:
    """Cut silence (10 ms frames more than 45 dB below the loudest) from both ends, `keep_s` of it left."""
    hop = sample_rate // 100
    frames = audio[: audio.size // hop * hop].reshape(-1, hop)
    power = np.mean(frames**2, axis=1) if len(frames) else np.zeros(0)
    loud = np.flatnonzero(power > power.max(initial=0) * 10 ** (TRIM_DB / 10))
    if loud.size == 0:
        return audio[:0]
    keep = int(keep_s * sample_rate)
    return audio[max(0, loud[0] * hop - keep) : (loud[-1] + 1) * hop + keep]


def speak(seed: int, index: int) -> Audio | None:
    """Utterance `index` of corpus `seed`: float32 `[samples]` at 16 kHz in [-1, 1], degraded at random.

    None if what the chosen voice says is not 0.25 to 3 s long. Deterministic in arguments and version of espeak-ng.
    60 % English voices, 40 % accents; each with a random speaker variant, pitch, speed, loudness and word gap.
    """
    english, accents, variants = voices()
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    group = english if rng.random() < 0.6 or not accents else accents
    voice = str(rng.choice(group))
    if variants and rng.random() < 0.95:
        voice += "+" + str(rng.choice(variants))
    audio = say(
        utterance(rng),
        voice,
        pitch=int(np.clip(rng.normal(45, 22), 0, 99)),
        words_per_minute=int(np.clip(rng.normal(165, 40), 90, 320)),
        amplitude=int(rng.integers(60, 140)),
        gap=int(rng.integers(0, 8)),
    )
    if not SHORTEST_S * 16000 <= audio.size <= LONGEST_S * 16000:
        return None
    return degrade(audio, 16000, rng, SPEECH, tail_s=0.1)
