"""The linear spectrogram of speaker verification: magnitudes, powers or logarithms of 257 bins; usable alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from hear_models.errors import UsageError

WINDOWS = {"hamming": (0.54, 0.46), "hann": (0.5, 0.5)}  # a - b cos(2 pi i / n), periodic
SPECS = ("magnitude", "power", "log")
LOG_FLOOR = 1e-6  # of magnitudes before the logarithm
FRAMES_AT_ONCE = 4096  # bounds the memory of a long clip: 4096 x 512 float64 are 17 MB


class Spectrogram(nn.Module):
    """Short-time spectra on linear frequencies, computed in float64; no pre-emphasis, no dither.

    The defaults are 25 ms windows every 10 ms at 16 kHz and an FFT of 512. Frame k covers the 400 samples
    from 160 k; with `center` it is centred on sample 160 k, and there are zeros beside the clip.

    Args:
        window: "hamming" or "hann".
        center: see above.
        spec: "magnitude", "power", or "log", the natural logarithm of the magnitude, 1e-6 at least.
    """

    window: Tensor

    def __init__(
        self,
        window: str = "hamming",
        center: bool = False,
        spec: str = "magnitude",
        *,
        sample_rate: int = 16_000,
        window_samples: int = 400,
        hop_samples: int = 160,
        n_fft: int = 512,
    ) -> None:
        super().__init__()
        if window not in WINDOWS or spec not in SPECS:
            raise UsageError(
                f"window={window!r}, spec={spec!r}: use {' or '.join(WINDOWS)}, and one of {', '.join(SPECS)}."
            )
        self.shape, self.center, self.spec = window, center, spec
        self.sample_rate, self.window_samples, self.hop_samples, self.n_fft = (
            sample_rate,
            window_samples,
            hop_samples,
            n_fft,
        )
        a, b = WINDOWS[window]
        angle = torch.arange(window_samples, dtype=torch.float64) * (2 * math.pi / window_samples)
        self.register_buffer("window", a - b * torch.cos(angle), persistent=False)

    def extra_repr(self) -> str:
        """Everything that decides the numbers."""
        sizes = f"{self.sample_rate} Hz, {self.window_samples}, {self.hop_samples}, {self.n_fft} samples"
        return f"{self.shape}, center={self.center}, {self.spec}, {sizes}"

    @property
    def n_bins(self) -> int:
        """Frequencies, the lowest first."""
        return self.n_fft // 2 + 1

    @property
    def silence(self) -> float:
        """What digital silence gives in every bin."""
        return math.log(LOG_FLOOR) if self.spec == "log" else 0.0

    @property
    def first_centre(self) -> int:
        """The sample on which the first frame is centred."""
        return 0 if self.center else self.window_samples // 2

    def n_frames(self, n_samples: int) -> int:
        """Frames of a clip of `n_samples`; without `center` a clip shorter than a window gets zeros behind it."""
        if self.center:
            return 1 + n_samples // self.hop_samples
        return 1 + max(0, n_samples - self.window_samples) // self.hop_samples

    def forward(self, audio: Tensor) -> Tensor:
        """Audio [..., samples] at `sample_rate`, range [-1, 1] → [..., frames, n_bins], float32."""
        if self.center:
            half = self.window_samples // 2
            audio = pad(audio, (half, half))
        audio = pad(audio, (0, max(0, self.window_samples - audio.shape[-1])))
        frames = audio.unfold(-1, self.window_samples, self.hop_samples)  # [..., frames, window_samples], a view
        spectra = torch.empty(*frames.shape[:-1], self.n_bins, device=audio.device, dtype=torch.float32)
        at_once = max(1, FRAMES_AT_ONCE // max(1, frames[..., 0, 0].numel()))
        for start in range(0, frames.shape[-2], at_once):
            part = frames[..., start : start + at_once, :].double() * self.window
            spectra[..., start : start + at_once, :] = self._scaled(torch.fft.rfft(part, self.n_fft).abs())
        return spectra

    def _scaled(self, magnitude: Tensor) -> Tensor:
        if self.spec == "power":
            return magnitude.square()
        return magnitude.clamp_min(LOG_FLOOR).log() if self.spec == "log" else magnitude
