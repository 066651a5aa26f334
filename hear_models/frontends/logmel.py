"""From waveforms to log-mel spectrograms; usable alone in anybody's network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from hear_models.frontends.filterbanks import mel_filter_bank, slaney_filter_bank

FILTERS = {"htk": mel_filter_bank, "slaney": slaney_filter_bank}


class LogMel(nn.Module):
    """Log-mel spectrogram: centred STFT with reflected edges, power, mel triangles, natural logarithm.

    The defaults are the front end of MW-MAE's code: 25 ms Hann windows, a frame every 10 ms,
    80 bands from 50 to 8000 Hz, `log(mel + eps)` with eps the float32 machine epsilon. Silence is -15.942385.
    `filters`: "htk", triangles of peak 1 on the HTK scale; "slaney", triangles of area 1 on Slaney's (MSM-MAE).
    """

    mel_filters: Tensor
    window: Tensor

    def __init__(
        self,
        sample_rate: int = 16_000,
        window_samples: int = 400,
        hop_samples: int = 160,
        n_mels: int = 80,
        f_min: float = 50.0,
        f_max: float = 8_000.0,
        log_offset: float = torch.finfo(torch.float32).eps,
        filters: str = "htk",
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.window_samples = window_samples
        self.hop_samples = hop_samples
        self.n_mels = n_mels
        self.log_offset = log_offset
        self.filters = filters
        self.register_buffer(
            "mel_filters", FILTERS[filters](window_samples, sample_rate, n_mels, f_min, f_max), persistent=False
        )
        self.register_buffer("window", torch.hann_window(window_samples, periodic=True), persistent=False)

    @property
    def min_samples(self) -> int:
        """The shortest clip whose edges can be reflected by half a window."""
        return self.window_samples // 2 + 1

    @property
    def band_hz(self) -> Tensor:
        """Centre of mass of every band in Hz, [n_mels]."""
        bin_hz = torch.linspace(0, self.sample_rate / 2, self.mel_filters.shape[0], device=self.mel_filters.device)
        return bin_hz @ self.mel_filters / self.mel_filters.sum(dim=0)

    def n_frames(self, n_samples: int) -> int:
        """Frames of a clip of `n_samples`: frame k is centred on sample k * hop_samples."""
        return 1 + n_samples // self.hop_samples

    def forward(self, audio: Tensor) -> Tensor:
        """Audio [clips, samples] at `sample_rate`, range [-1, 1] → log-mel [clips, frames, n_mels], float32.

        Raises:
            RuntimeError: fewer than `min_samples` samples.
        """
        half = self.window_samples // 2
        return self.of_padded(pad(audio[:, None], (half, half), mode="reflect")[:, 0])

    def of_padded(self, audio: Tensor) -> Tensor:
        """Audio with what stands before and behind it, [clips, samples] → a frame for each whole window in it."""
        if audio.shape[1] < self.window_samples:
            return audio.new_empty(len(audio), 0, self.n_mels)
        spectrum = torch.stft(
            audio,
            n_fft=self.window_samples,
            hop_length=self.hop_samples,
            window=self.window,
            center=False,
            return_complex=True,
        )  # [clips, bins, frames]
        power = spectrum.real.square() + spectrum.imag.square()
        mel = power.transpose(1, 2) @ self.mel_filters
        return torch.log(mel + self.log_offset)
