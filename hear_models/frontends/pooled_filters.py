"""What LEAF and SincNet share: long filters with stride 1, a rectifier, pooling to frames; and overlapping windows.

Windows that overlap share most of their frames: a clip is filtered once, and only frames that a window's ends cut into
are filtered again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import reduce
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from hear_models.frontends.filtering import Domain, Framing, block_samples, pool_responses
from hear_models.frontends.waveform import check_waveform
from hear_models.frontends.window_ends import EndFilters
from hear_models.frontends.windows import WINDOWS_AT_ONCE, Windows, check_windows, cut_windows, window_squares
from hear_models.layers.padding import same_padding

# rectified responses [clips, filters, samples] that begin with the tap `first` of a frame and end with the tap before
# `last` of another, first, last → [clips, filters, frames] of those taps alone
Pool = Callable[[Tensor, int, int], Tensor]

# Rounding in a block of an FFT is in proportion to the loudest sound in it. A window whose sum of squares is below this
# share of what it has with its surroundings is filtered alone, or it would hear the rounding of its neighbours.
QUIET = 1e-3


class End(NamedTuple):
    """A frame that an end of its window cuts into: which of its taps are pooled anew, and which are kept."""

    frame: int
    side: int  # 0: the window's start, 1: its end
    cut: slice  # responses of that side that count in this frame
    taps: tuple[int, int]  # of the window of pooling, where these lie
    kept: tuple[int, int]  # taps of the responses that nothing outside touches

    @property
    def keeps(self) -> bool:
        """Whether there are any of the latter."""
        return self.kept[0] < self.kept[1]


class PooledFilters(nn.Module):
    """A front end whose frames are pooled responses of filters, then compressed frame by frame or along time.

    A subclass supplies `kernels`, `rectify`, `pooling`, `join` and `compress`.

    Attributes:
        degree: the power of the audio's level with which pooled values grow: 1 or 2.
        outside: what responses count as before and behind the clip; pooling over nothing gives it too.
    """

    degree: ClassVar[int]
    outside: ClassVar[float]
    n_filters: int
    window_samples: int
    hop_samples: int
    domain: Domain

    def kernels(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The filters in time, [n_filters, window_samples], real or complex."""
        raise NotImplementedError

    def rectify(self, responses: Tensor) -> Tensor:
        """Responses [clips, n_filters, samples] → what is pooled, real."""
        raise NotImplementedError

    def pooling(self, dtype: torch.dtype = torch.float32) -> Pool:
        """What reduces windows of rectified responses to one value each, with the parameters as they are now."""
        raise NotImplementedError

    def join(self, one: Tensor, other: Tensor) -> Tensor:
        """What pooling gives over the taps of both, from what it gives over each."""
        raise NotImplementedError

    def compress(self, pooled: Tensor) -> Tensor:
        """Pooled values [clips, frames, n_filters] → the output, the same shape."""
        raise NotImplementedError

    def of_unit_norm(self, pooled: Tensor, squares: Tensor) -> Tensor:
        """What `pooled` gives for windows whose sums of squares are [windows] → for the same with a sum of 1."""
        return (pooled / squares.pow(self.degree / 2)[:, None, None]).to(pooled.dtype)  # squares are float64

    def framing(self, n_samples: int) -> Framing:
        """The windows that are pooled to frames, in a clip of `n_samples`."""
        window, hop = self.window_samples, self.hop_samples
        return Framing(window, hop, same_padding(n_samples, window, hop)[0])

    def n_frames(self, n_samples: int) -> int:
        """Frames of a clip of `n_samples`."""
        return self.framing(n_samples).n_frames(n_samples)

    def pooled(self, audio: Tensor) -> Tensor:
        """Audio [clips, samples] → pooled values [clips, frames, n_filters], not yet compressed; see `degree`."""
        return self._pooled(audio, [(0, self.window_samples)])

    def forward(self, audio: Tensor) -> Tensor:
        """Audio [clips, samples] at `sample_rate`, from one sample → [clips, ceil(samples / hop), n_filters].

        Computed in float32 (float64 for such audio) within autocast too; differentiable in audio and parameters.

        Raises:
            UsageError: not floating point, not two-dimensional, or without samples.
        """
        return self.compress(self.pooled(audio))

    def _pooled(self, audio: Tensor, parts: list[tuple[int, int]]) -> Tensor:
        """As `pooled`, once for each range of taps, [clips, frames, parts * n_filters]."""
        audio = check_waveform(audio)
        with torch.autocast(audio.device.type, enabled=False):
            pool = self.pooling(audio.dtype)

            def pool_parts(responses: Tensor) -> Tensor:
                x = self.rectify(responses)
                before_last = x.shape[2] - self.window_samples
                return torch.cat([pool(x[..., first : before_last + last], first, last) for first, last in parts], 1)

            framing, kernels = self.framing(audio.shape[1]), self.kernels(audio.dtype)
            return pool_responses(audio, kernels, framing, pool_parts, self.outside, self.domain)

    # ------------------------------------------------------------------ windows that overlap

    def pooled_windows(self, audio: Tensor, length: int, step: int) -> Iterator[Windows]:
        """Of every window [k * step, k * step + length) of one clip [samples] what `pooled` gives for it alone.

        Equal up to rounding, at a fraction of the work: a window's ends matter only for responses within half a filter
        of them, and only those are computed anew, from the window's samples.

        Args:
            audio: [samples]; `length` + a multiple of `step`, both multiples of the hop.
            length, step: in samples; windows are at least as long as two filters.

        Yields:
            up to 16 windows at a time, in order.
        """
        hop, half = self.hop_samples, self.window_samples // 2
        check_windows(len(audio), length, step, hop, 4 * half)
        audio = check_waveform(audio[None])[0]
        ends = self._ends(length)
        borders = sorted({0, self.window_samples, *(tap for end in ends for tap in end.kept)})
        parts = self._pooled(audio[None], list(pairwise(borders)))[0].unflatten(1, (-1, self.n_filters)).unbind(1)

        def joined(taps: tuple[int, int], rows: slice) -> Tensor:  # → [rows, n_filters]
            first, last = map(borders.index, taps)
            return reduce(self.join, [part[rows] for part in parts[first:last]])

        whole = cut_windows(joined((0, self.window_samples), slice(None)).contiguous(), length // hop, step // hop)
        until = (len(audio) - length) // hop + 1  # behind the last window's first frame
        kept = [
            joined(end.kept, slice(end.frame, end.frame + until, step // hop)) if end.keeps else None for end in ends
        ]
        windows = audio.unfold(0, length, step)
        reach = math.ceil(block_samples(len(audio), self.window_samples, self.domain) / hop)
        own, around = (window_squares(audio, length, step, hop, beside) for beside in (0, reach))
        alone = own < QUIET * around
        with torch.autocast(audio.device.type, enabled=False):
            at_ends = EndFilters(self.kernels(audio.dtype))
            pool = self.pooling(audio.dtype)
            for first in range(0, len(windows), WINDOWS_AT_ONCE):
                some = slice(first, first + WINDOWS_AT_ONCE)
                cut = torch.cat([self.rectify(responses) for responses in at_ends(windows[some])])
                pooled = whole[some].clone(memory_format=torch.contiguous_format)
                for end, rest in zip(ends, kept, strict=True):
                    again = pool(cut[:, end.side, :, end.cut], *end.taps)[..., 0]
                    pooled[:, end.frame] = again if rest is None else self.join(rest[some], again)
                if bool(alone[some].any()):
                    pooled[alone[some]] = self.pooled(windows[some][alone[some]])
                yield Windows(pooled, own[some])

    def _ends(self, length: int) -> list[End]:
        """The frames of a window of `length` samples that depend on what lies outside of it."""
        half, taps, before = self.window_samples // 2, self.window_samples, self.framing(length).before
        ends = []
        for frame in range(length // self.hop_samples):
            start = frame * self.hop_samples - before  # first response behind this frame
            if start < half:  # the first responses of a window are cut at its start
                here = max(start, 0)
                ends.append(End(frame, 0, slice(here, half), (here - start, half - start), (half - start, taps)))
            cut = length - half  # the first response that is cut at its end
            if start + taps > cut:
                stop = min(start + taps, length)
                here = max(start, cut)
                ends.append(
                    End(frame, 1, slice(here - cut, stop - cut), (here - start, stop - start), (0, max(0, cut - start)))
                )
        return ends
