"""Integrated loudness of mono audio in LUFS (ITU-R BS.1770-4), as pyloudnorm 0.1.0 measures it."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from hear_models.datasets.degrade import fast_length

BLOCK_S, STEP_S = 0.4, 0.1
SILENCE_LUFS = -70.0  # blocks below count nowhere
RELATIVE_GATE_LU = 10.0  # blocks this far below the mean of the others do not count either
OFFSET_LU = -0.691


def loudness(samples: np.ndarray, sample_rate: int) -> float:
    """LUFS of mono samples [samples] of at least 0.4 s; minus infinity if every block is silent."""
    squares = np.cumsum(np.append(0.0, _weighted(samples, sample_rate) ** 2))
    blocks = round((len(samples) / sample_rate - BLOCK_S) / STEP_S) + 1
    share = STEP_S / BLOCK_S
    starts = [int(BLOCK_S * (j * share) * sample_rate) for j in range(blocks)]
    ends = [min(len(samples), int(BLOCK_S * (j * share + 1) * sample_rate)) for j in range(blocks)]
    power = (squares[ends] - squares[starts]) / (BLOCK_S * sample_rate)  # a short last block too: by the full length
    with np.errstate(divide="ignore"):
        levels = OFFSET_LU + 10 * np.log10(np.maximum(power, 0.0))
    loud = levels >= SILENCE_LUFS
    if not loud.any():
        return -math.inf
    gate = OFFSET_LU + 10 * math.log10(power[loud].mean()) - RELATIVE_GATE_LU
    counted = (levels > gate) & (levels > SILENCE_LUFS)
    return OFFSET_LU + 10 * math.log10(power[counted].mean()) if counted.any() else -math.inf


def _weighted(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Samples through the K weighting: a high shelf and a high pass, from rest."""
    response = _impulse_response(sample_rate)
    n_fft = fast_length(len(samples) + len(response))
    spectrum = np.fft.rfft(np.asarray(samples, np.float64), n_fft) * np.fft.rfft(response, n_fft)
    return np.fft.irfft(spectrum, n_fft)[: len(samples)]


@lru_cache(maxsize=8)
def _impulse_response(sample_rate: int) -> np.ndarray:
    """Of both filters in cascade. The slowest pole is at 38 Hz: after 0.25 s nothing is left in float64."""
    response = np.zeros(sample_rate // 4)
    response[0] = 1.0
    for b, a in (_high_shelf(sample_rate, 4.0, 1 / math.sqrt(2), 1500.0), _high_pass(sample_rate, 0.5, 38.0)):
        response = _biquad(response, b, a)
    return response


def _biquad(x: np.ndarray, b: list[float], a: list[float]) -> np.ndarray:
    """A second-order section; b and a as in the audio EQ cookbook, not yet divided by a[0]."""
    b0, b1, b2, a1, a2 = b[0] / a[0], b[1] / a[0], b[2] / a[0], a[1] / a[0], a[2] / a[0]
    y, x1, x2, y1, y2 = [], 0.0, 0.0, 0.0, 0.0
    for x0 in x.tolist():
        y0 = b0 * x0 + b1 * x1 + b2 * x2 - a1 * y1 - a2 * y2
        x1, x2, y1, y2 = x0, x1, y0, y1
        y.append(y0)
    return np.array(y)


def _high_shelf(sample_rate: int, gain_db: float, q: float, hz: float) -> tuple[list[float], list[float]]:
    w = 2 * math.pi * hz / sample_rate
    alpha, gain, c = math.sin(w) / (2 * q), 10 ** (gain_db / 40), math.cos(w)
    up, down, slope = gain + 1, gain - 1, 2 * math.sqrt(gain) * alpha
    b = [gain * (up + down * c + slope), -2 * gain * (down + up * c), gain * (up + down * c - slope)]
    return b, [up - down * c + slope, 2 * (down - up * c), up - down * c - slope]


def _high_pass(sample_rate: int, q: float, hz: float) -> tuple[list[float], list[float]]:
    w = 2 * math.pi * hz / sample_rate
    alpha, c = math.sin(w) / (2 * q), math.cos(w)
    # the gain of 1 / (1 + alpha) is that of the authors' library
    return [(1 + c) / 2, -(1 + c), (1 + c) / 2], [1 + alpha, -2 * c, 1 - alpha]
