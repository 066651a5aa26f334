"""What long filters answer at a window's two ends, where silence stands outside."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from hear_models.frontends.filtering import smooth_length


class EndFilters:
    """Filters [n_filters, taps], real or complex, for the responses within half a filter of a window's ends.

    Such a response hears the half filter's length of samples at the end and as many behind them, further in. Each of the
    two has its own spectra of the taps that reach it, and the products are added before they are transformed back: the
    FFT is as long as a filter, and not as both stretches and a filter's margin.
    """

    def __init__(self, filters: Tensor) -> None:
        self.half = half = filters.shape[1] // 2
        self.n_fft = smooth_length(2 * half)
        late = filters.flip(1)  # [:, half + n]: what an impulse gives n samples after it
        fft = torch.fft.fft if filters.is_complex() else torch.fft.rfft
        around = pad(late[:, 1:-1], (0, self.n_fft - 2 * half + 1)).roll(1 - half, 1)
        from_behind = pad(late[:, :half], (0, self.n_fft - half))
        from_before = pad(late[:, half + 1 :], (0, self.n_fft - half)).roll(1 - half, 1)
        self.near = fft(around)
        self.far = fft(torch.stack([from_behind, from_before]))
        self.inverse = torch.fft.ifft if filters.is_complex() else torch.fft.irfft

    def __call__(self, windows: Tensor) -> Iterator[Tensor]:
        """Windows [windows, samples] of two filters' length at least → responses [some windows, 2, n_filters, half].

        The first and the last ones. On a CPU of one window after the other, which stay in a core's cache.
        """
        half = self.half
        fft = torch.fft.fft if self.near.shape[-1] == self.n_fft else torch.fft.rfft
        start, end = windows[:, : 2 * half].unflatten(1, (2, half)), windows[:, -2 * half :].unflatten(1, (2, half))
        near = fft(torch.stack([start[:, 0], end[:, 1]], 1), self.n_fft)[:, :, None]
        far = fft(torch.stack([start[:, 1], end[:, 0]], 1), self.n_fft)[:, :, None]
        together = 1 if windows.device.type == "cpu" else len(windows)
        for x, y in zip(near.split(together), far.split(together), strict=True):
            yield self.inverse(torch.addcmul(x * self.near, y, self.far), self.n_fft)[..., :half]
