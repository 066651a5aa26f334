"""Mel filter banks: triangles on the HTK mel scale."""

from __future__ import annotations

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
