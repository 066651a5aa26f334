"""The log-mel of COLA's baseline, whose frames lie earlier than their index says; usable alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from hear_models.errors import UsageError
from hear_models.frontends.filterbanks import mel_filter_bank
from hear_models.frontends.waveform import check_waveform

RANGE = (1e-8, 1e8)  # of mel energies before the logarithm


class UncentredLogMel(nn.Module):
    """Log-mel spectrogram whose window stands at the start of the FFT's buffer, as audax computes it.

    The clip is reflected by half an FFT, yet frames are cut with the length of the window (quirk `uncentred-frames`):
    frame t is centred on sample `t * hop - (n_fft - window) / 2`, 312 samples before its place in `LogMel`, and there
    are 4 frames more: 100 for 0.96 s. Symmetric Hann window, power, HTK triangles of peak 1, natural logarithm.
    No normalisation: the recipe standardises each clip afterwards, (x - mean) / (std + 1e-7) with std over n.
    """

    mel_filters: Tensor
    window: Tensor

    def __init__(
        self,
        sample_rate: int = 16_000,
        window_samples: int = 400,
        hop_samples: int = 160,
        n_fft: int = 1_024,
        n_mels: int = 64,
        f_min: float = 60.0,
        f_max: float = 7_800.0,
    ) -> None:
        super().__init__()
        if not 1 <= window_samples <= n_fft:
            raise UsageError(f"window_samples is {window_samples}. Give 1 to {n_fft}, the length of the FFT.")
        self.sample_rate = sample_rate
        self.window_samples = window_samples
        self.hop_samples = hop_samples
        self.n_fft = n_fft
        self.n_mels = n_mels
        bank = mel_filter_bank(n_fft, sample_rate, n_mels, f_min, f_max)
        self.register_buffer("mel_filters", bank, persistent=False)
        self.register_buffer("window", torch.hann_window(window_samples, periodic=False), persistent=False)

    @property
    def min_samples(self) -> int:
        """The shortest clip whose edges can be reflected by half an FFT."""
        return self.n_fft // 2 + 1

    @property
    def band_hz(self) -> Tensor:
        """Centre of mass of every band in Hz, [n_mels]."""
        bin_hz = torch.linspace(0, self.sample_rate / 2, self.mel_filters.shape[0], device=self.mel_filters.device)
        return bin_hz @ self.mel_filters / self.mel_filters.sum(dim=0)

    def n_frames(self, n_samples: int) -> int:
        """Frames of a clip of `n_samples`."""
        return 1 + (n_samples + 2 * (self.n_fft // 2) - self.window_samples) // self.hop_samples

    def forward(self, audio: Tensor) -> Tensor:
        """Audio [clips, samples] at `sample_rate`, range [-1, 1] → log-mel [clips, frames, n_mels], float32.

        Raises:
            UsageError: not floating point [clips, samples], or fewer than `min_samples` samples.
        """
        audio = check_waveform(audio).float()
        if audio.shape[1] < self.min_samples:
            raise UsageError(f"audio has {audio.shape[1]} samples. Give at least {self.min_samples}, or pad it.")
        half = self.n_fft // 2
        padded = pad(audio[:, None], (half, half), mode="reflect")[:, 0]
        frames = padded.unfold(1, self.window_samples, self.hop_samples) * self.window  # [clips, frames, window]
        spectrum = torch.fft.rfft(frames, self.n_fft)  # zeros follow the window
        power = spectrum.real.square() + spectrum.imag.square()
        return (power @ self.mel_filters).clamp(*RANGE).log()
