"""Short clips of recordings as text for a page: mono, compressed, the loudest part."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import soundfile

from hear_models.errors import AudioFileError
from hear_models.pipeline.audio import read_audio

RATE = 16_000  # Hz
LOOKED_AT_S = 60.0  # of a recording without windows
BYTES_A_SECOND = 4_200.0  # of MP3 at that rate, measured
FADE_S = 0.01


def loud_clip(path: Path, part_s: tuple[float, float] | None, clip_s: float) -> tuple[float, np.ndarray]:
    """(from where in seconds, float32 [samples] at `RATE`): the loudest `clip_s` seconds of a part of a recording.

    Raises AudioFileError.
    """
    start, end = part_s or (0.0, LOOKED_AT_S)
    samples = read_audio(path, RATE, start_s=start, duration_s=end - start)
    n = round(clip_s * RATE)
    if len(samples) > n:
        energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
        first = int((energy[n:] - energy[:-n]).argmax())
        samples, start = samples[first : first + n], start + first / RATE
    return start, samples


def encoded(samples: np.ndarray) -> bytes:
    """float32 [samples] at `RATE` as an MP3 file, as loud as it may be, ends faded."""
    loudest = float(np.abs(samples).max())
    audible = samples / loudest * 0.9 if loudest > 1e-5 else samples
    ramp = np.minimum(1.0, np.arange(len(audible)) / max(1, round(FADE_S * RATE)))
    buffer = io.BytesIO()
    soundfile.write(buffer, audible * ramp * ramp[::-1], RATE, format="MP3", subtype="MPEG_LAYER_III")
    return buffer.getvalue()


def can_encode() -> bool:
    """Whether this machine's libsndfile writes MP3 (from 1.1 on)."""
    return "MP3" in soundfile.available_formats()


def clip_text(path: Path, part_s: tuple[float, float] | None, clip_s: float) -> str | None:
    """An encoded clip in base64; None if the recording cannot be read any more."""
    try:
        return base64.b64encode(encoded(loud_clip(path, part_s, clip_s)[1])).decode()
    except AudioFileError:
        return None
