"""The log-mel of COLA's baseline, whose frames lie earlier than their index says; usable alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from hear_models.errors import UsageError
from hear_models.frontends.filterbanks import mel_filter_bank
from hear_models.frontends.waveform import check_waveform
from hear_models.frontends.windows import WINDOWS_AT_ONCE, Windows, check_windows, cut_windows, window_squares

FRAMES_AT_ONCE = 100  # of those that windows share; their spectra stay in a core's cache
RANGE = (math.log(1e-8), math.log(1e8))  # of the logarithms of mel energies
SMALLEST = torch.finfo(torch.float32).tiny  # of mel energies: digital silence has a logarithm too


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

    def pooled(self, audio: Tensor) -> Tensor:
        """Audio [clips, samples], at least `min_samples` → log-mel [clips, frames, n_mels], of any size."""
        audio = check_waveform(audio).float()
        if audio.shape[1] < self.min_samples:
            raise UsageError(f"audio has {audio.shape[1]} samples. Give at least {self.min_samples}, or pad it.")
        return self._log_energies(self._frames(self._reflected(audio)))

    def of_unit_norm(self, pooled: Tensor, squares: Tensor) -> Tensor:
        """What `pooled` gives for windows whose sums of squares are [windows] → for the same with a sum of 1."""
        return pooled - squares.log()[:, None, None].to(pooled.dtype)

    def compress(self, pooled: Tensor) -> Tensor:
        """Logarithms of mel energies, any shape → the same, held in a range."""
        return pooled.clamp(*RANGE)

    def forward(self, audio: Tensor) -> Tensor:
        """Audio [clips, samples] at `sample_rate`, range [-1, 1] → log-mel [clips, frames, n_mels], float32.

        Raises:
            UsageError: not floating point [clips, samples], or fewer than `min_samples` samples.
        """
        return self.compress(self.pooled(audio))

    def pooled_windows(self, audio: Tensor, length: int, step: int) -> Iterator[Windows]:
        """Of every window [k * step, k * step + length) of one clip [samples] what `pooled` gives for it alone.

        Frames that overlapping windows share are computed once; those that see a reflected end, for each window.

        Args:
            audio: [samples]; `length` + a multiple of `step`, both multiples of the hop.
            length, step: in samples.
        """
        hop, half = self.hop_samples, self.n_fft // 2
        check_windows(len(audio), length, step, hop, self.n_fft + self.window_samples)
        audio = check_waveform(audio[None])[0].float()
        early = -(-half // hop)  # frames that see the reflected start
        late = (length - self.window_samples + half) // hop + 1  # the first frame that sees the reflected end
        samples = torch.arange(length, dtype=torch.float64, device=audio.device)
        behind = self._frames(self._reflected(samples[None]))[0]  # each frame, [frames, window]
        at_ends = torch.cat([behind[:early], behind[late:]]).long()
        at_ends = torch.where(at_ends < self.n_fft, at_ends, at_ends - (length - 2 * self.n_fft))  # of both ends alone
        shared = self._frames(audio[None, early * hop - half :])[0].split(FRAMES_AT_ONCE)
        inner = cut_windows(torch.cat([self._log_energies(some) for some in shared]), late - early, step // hop)
        squares = window_squares(audio, length, step, hop)
        windows = audio.unfold(0, length, step)
        for first in range(0, len(windows), WINDOWS_AT_ONCE):
            some = slice(first, first + WINDOWS_AT_ONCE)
            both = torch.cat([windows[some, : self.n_fft], windows[some, -self.n_fft :]], dim=1)
            ends = self._log_energies(both.index_select(1, at_ends.flatten()).unflatten(1, at_ends.shape))
            yield Windows(torch.cat([ends[:, :early], inner[some], ends[:, early:]], dim=1), squares[some])

    def _reflected(self, audio: Tensor) -> Tensor:
        """[clips, samples] → the same with half an FFT reflected on both sides."""
        return pad(audio[:, None], (self.n_fft // 2, self.n_fft // 2), mode="reflect")[:, 0]

    def _frames(self, audio: Tensor) -> Tensor:
        """The frames within [clips, samples], nothing added around them: [clips, frames, window]."""
        return audio.unfold(1, self.window_samples, self.hop_samples)

    def _log_energies(self, frames: Tensor) -> Tensor:
        """Logarithm of the mel energies of frames [..., window], [..., n_mels]."""
        spectrum = torch.fft.rfft(frames * self.window, self.n_fft)  # zeros follow the window
        power = spectrum.real.square() + spectrum.imag.square()
        return (power @ self.mel_filters).clamp_min(SMALLEST).log()
