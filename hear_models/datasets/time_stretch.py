"""Longer or shorter at the same pitch: overlapping segments, each moved to where it fits best (WSOLA), as SoX does."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from hear_models.errors import UsageError

FULL_SCALE = 2.0**31
GRID = 128  # of 2^31: samples reach the effect with 24 bits


def stretch(samples: np.ndarray, factor: float, sample_rate: int) -> np.ndarray:
    """Samples [n] at `factor` times their duration, float64 [about n * factor].

    Equals SoX 14.4.2's `tempo -s` with 1 / factor rounded to six decimals. Segments
    of 35 ms overlap by 14 ms; each is taken from where its beginning is nearest to the end of the one before.

    Args:
        factor: between 0.5 and 2.

    Raises:
        UsageError: another factor.
    """
    if not 0.5 <= factor <= 2:
        raise UsageError(f"a stretch of {factor} is out of range. Use 0.5 to 2.")
    tempo = round(1 / factor, 6)
    segment, search, overlap = _sizes(tempo, sample_rate)
    whole = np.trunc(np.asarray(samples, np.float64) * FULL_SCALE)
    grid = (np.floor((whole + GRID / 2) / GRID) * GRID / FULL_SCALE).astype(np.float32)
    wanted = int(len(samples) / tempo + 0.5)
    step = segment - overlap
    steps = wanted // step + 1
    padded = np.zeros(int(tempo * steps * step + 0.5) + search + segment, np.float32)
    padded[search // 2 : search // 2 + len(grid)] = grid[: len(padded) - search // 2]
    fade_in = (np.float32(1) / np.float32(overlap)) * np.arange(overlap, dtype=np.float32)
    fade_out = np.float32(1) - fade_in
    pieces: list[np.ndarray] = []
    tail = np.zeros(0, np.float32)
    for k in range(steps):
        position = int(tempo * k * step + 0.5)
        window = padded[position : position + search + segment]
        if k == 0:
            start = search // 2
            pieces.append(window[start : start + overlap])
        else:
            # [overlap, search]: a sum over the first axis adds row by row, in SoX's order
            candidates = sliding_window_view(window[: search + overlap - 1], search)
            start = int(((candidates - tail[:, None]) ** 2).sum(axis=0, dtype=np.float32).argmin())
            pieces.append(tail * fade_out + window[start : start + overlap] * fade_in)
        pieces.append(window[start + overlap : start + segment - overlap])
        tail = window[start + segment - overlap : start + segment]
    return np.concatenate(pieces)[:wanted].astype(np.float64)


def _sizes(tempo: float, sample_rate: int) -> tuple[int, int, int]:
    """Samples of a segment, of the search and of the overlap: SoX's presets for speech."""
    segment_ms = max(10.0, 35.0 / max(tempo**0.33, 1.0))
    segment = int(sample_rate * segment_ms / 1000 + 0.5)
    search = int(sample_rate * (segment_ms / 2.14) / 1000 + 0.5)
    overlap = int(max(sample_rate * (segment_ms / 2.5) / 1000 + 4.5, 16)) // 8 * 8
    return segment, search, overlap - 8 if 2 * overlap > segment else overlap
