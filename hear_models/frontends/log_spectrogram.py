"""From a waveform to a spectrogram in decibels on linear frequencies; usable alone in anybody's network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hear_models.pipeline.fill import continued

FRAMES_AT_ONCE = 4096  # bounds the memory of a long clip: 4096 x 221 complex128 are 14 MB


class LogSpectrogram(nn.Module):
    """Power spectrogram in dB: centred STFT with reflected edges, floor at -100 dB and `range_db` below the loudest.

    The defaults are the front end of GISE-51's code: 20 ms periodic Hann windows, a frame every
    9.977 ms, 221 bins from 0 to 11,025 Hz, computed in float64. A clip of any length works: its reflection repeats.
    """

    window: Tensor

    def __init__(
        self,
        sample_rate: int = 22_050,
        window_samples: int = 441,
        hop_samples: int = 220,
        floor: float = 1e-10,
        range_db: float = 150.0,
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.window_samples = window_samples
        self.hop_samples = hop_samples
        self.floor = floor
        self.range_db = range_db
        window = torch.hann_window(window_samples, periodic=True, dtype=torch.float64)
        self.register_buffer("window", window, persistent=False)

    @property
    def n_bins(self) -> int:
        """Frequencies, the lowest first."""
        return self.window_samples // 2 + 1

    def n_frames(self, n_samples: int) -> int:
        """Frames of a clip of `n_samples`: frame k is centred on sample k * hop_samples."""
        return 1 + (n_samples + 2 * (self.window_samples // 2) - self.window_samples) // self.hop_samples

    def forward(self, clip: Tensor) -> Tensor:
        """One clip [samples] at `sample_rate`, range [-1, 1] → dB [frames, n_bins], float32."""
        half, hop, n_samples = self.window_samples // 2, self.hop_samples, clip.shape[0]
        index = continued(n_samples, -half, n_samples + half, "reflect")
        padded = clip[index.to(clip.device)]
        frames = padded.unfold(0, self.window_samples, hop)  # [frames, window_samples], a view
        power = torch.empty(frames.shape[0], self.n_bins, device=clip.device)
        for start in range(0, frames.shape[0], FRAMES_AT_ONCE):
            spectrum = torch.fft.rfft(frames[start : start + FRAMES_AT_ONCE].double() * self.window)
            decibels = 10 * torch.log10((spectrum.real.square() + spectrum.imag.square()).clamp_min(self.floor))
            power[start : start + FRAMES_AT_ONCE] = decibels
        return power.clamp_min(power.max() - self.range_db)
