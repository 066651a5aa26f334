"""What long filters answer at the two ends of a window, outside of which all is silent."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from hear_models.frontends.filtering import smooth_length


class EndFilters:
    """Filters [n_filters, taps], real or complex, for responses within half a filter of a window's ends.

    Such a response hears two stretches of half a filter: the near one, which ends with the window, and the far one,
    further in. Each is transformed by itself, times a spectrum of those taps that reach from it, and both products come
    back as one: the FFT has the length of a filter, where both stretches and the silence would need half as much again.
    Filters are correlated with the audio, not flipped; taps are odd, the middle one is time 0.
    """

    def __init__(self, filters: Tensor) -> None:
        self.half = half = filters.shape[1] // 2
        self.n_fft = n = smooth_length(2 * half)
        if filters.is_complex():
            self.forward, self.inverse = torch.fft.fft, torch.fft.ifft
        else:
            self.forward, self.inverse = torch.fft.rfft, torch.fft.irfft
        late = filters.flip(1)  # [:, half + d] is what a sample adds to the response d samples after it
        within = pad(late[:, 1:-1], (0, n - (2 * half - 1))).roll(1 - half, 1)
        from_behind = pad(late[:, :half], (0, n - half))  # at the window's start the far stretch comes later
        from_before = pad(late[:, half + 1 :], (0, n - half)).roll(1 - half, 1)  # at its end earlier
        self.near, self.far = self.forward(within), self.forward(torch.stack([from_behind, from_before]))

    def __call__(self, windows: Tensor) -> Iterator[Tensor]:
        """Windows [windows, samples], at least two halves long → responses [some windows, 2, n_filters, half].

        The first and the last `half` of each. On a CPU one window at a time, which stays in a core's cache.
        """
        half = self.half
        start, end = windows[:, : 2 * half].split(half, 1), windows[:, -2 * half :].split(half, 1)
        near, far = (
            self.forward(torch.stack(both, 1), self.n_fft)[:, :, None]  # [windows, 2, 1, bins]
            for both in ((start[0], end[1]), (start[1], end[0]))
        )
        together = 1 if windows.device.type == "cpu" else len(windows)
        for x, y in zip(near.split(together), far.split(together), strict=True):
            yield self.inverse(torch.addcmul(x * self.near, y, self.far), self.n_fft)[..., :half]
