"""Mel filter banks: triangles on the HTK or the Slaney mel scale."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def htk_mel(hertz: float) -> float:
    """Frequency in Hz → HTK mel: 2595 log10(1 + f / 700)."""
    return 2595.0 * float(torch.log10(torch.tensor(1.0 + hertz / 700.0, dtype=torch.float64)))


def mel_filter_bank(n_fft: int, sample_rate: int, n_mels: int, f_min: float, f_max: float) -> Tensor:
    """Triangular HTK mel filters with peak 1 (no area normalisation).

    Args:
        n_fft: FFT length in samples; the bank has `n_fft // 2 + 1` rows.
        sample_rate: in Hz.
        n_mels: number of triangles.
        f_min, f_max: lower edge of the first and upper edge of the last triangle, in Hz.

    Returns:
        float32 [n_fft // 2 + 1, n_mels], values in [0, 1]; computed in float32, as torchaudio's defaults do.
    """
    bin_hz = torch.linspace(0, sample_rate // 2, n_fft // 2 + 1)
    edge_hz = 700.0 * (10.0 ** (torch.linspace(htk_mel(f_min), htk_mel(f_max), n_mels + 2) / 2595.0) - 1.0)
    width_hz = edge_hz[1:] - edge_hz[:-1]  # [n_mels + 1]
    distance_hz = edge_hz[None, :] - bin_hz[:, None]  # [bins, n_mels + 2]
    rising = -distance_hz[:, :-2] / width_hz[:-1]
    falling = distance_hz[:, 2:] / width_hz[1:]
    return torch.minimum(rising, falling).clamp_min(0.0)


# Slaney's scale (Auditory Toolbox): linear up to 1 kHz = 15 mel, then 27 mel for every factor 6.4
SLANEY_HZ_PER_MEL = 200 / 3
SLANEY_KNEE_HZ, SLANEY_KNEE_MEL = 1000.0, 15.0
SLANEY_STEP = math.log(6.4) / 27


def slaney_mel(hertz: float) -> float:
    """Frequency in Hz → Slaney mel."""
    if hertz < SLANEY_KNEE_HZ:
        return hertz / SLANEY_HZ_PER_MEL
    return SLANEY_KNEE_MEL + math.log(hertz / SLANEY_KNEE_HZ) / SLANEY_STEP


def slaney_filter_bank(n_fft: int, sample_rate: int, n_mels: int, f_min: float, f_max: float) -> Tensor:
    """Triangular Slaney mel filters of area 1 over frequency (librosa's default): a peak is 2 / width in Hz.

    Args and shape as `mel_filter_bank`; computed in float64, the triangles rounded to float32 before their area is
    divided out, as librosa 0.7 and nnAudio do.
    """
    mel = np.linspace(slaney_mel(f_min), slaney_mel(f_max), n_mels + 2)
    above = SLANEY_KNEE_HZ * np.exp(SLANEY_STEP * (mel - SLANEY_KNEE_MEL))
    edge_hz = np.where(mel < SLANEY_KNEE_MEL, mel * SLANEY_HZ_PER_MEL, above)
    bin_hz = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)
    width_hz = np.diff(edge_hz)
    distance_hz = edge_hz[None, :] - bin_hz[:, None]  # [bins, n_mels + 2]
    rising = -distance_hz[:, :-2] / width_hz[:-1]
    falling = distance_hz[:, 2:] / width_hz[1:]
    triangles = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return torch.from_numpy((triangles * (2 / (edge_hz[2:] - edge_hz[:-2]))).astype(np.float32))
