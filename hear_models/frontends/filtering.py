"""Long filters over raw audio, and pooling what they answer: in the frequency domain where that is faster."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

from hear_models.errors import UsageError

Domain = Literal["auto", "frequency", "time"]
DOMAINS = ("auto", "frequency", "time")

# Measured on CPUs by `benchmarks/frontends.py`. A spectrum of 64 filters in blocks of about ten times their length is
# 2 MB: it stays in a core's cache while it is transformed, squared and pooled. One spectrum of a whole clip does not,
# and is no faster than filtering in time.
TAPS_PER_BLOCK = 8  # an FFT is at least so many times as long as the filters, rounded up to a power of two
SHORTEST_TAPS = 64  # filters below this are quicker in time, whatever the clip
SHORTEST_SAMPLES = 400  # so are clips below this: the filters' own spectra cost more than is saved


@dataclass(frozen=True)
class Framing:
    """Where windows lie that are pooled to frames: frame i covers `window_samples` from `i * hop_samples - before`."""

    window_samples: int
    hop_samples: int
    before: int  # samples of padding in front of the clip

    def n_frames(self, n_samples: int) -> int:
        """Frames of a clip: one for every hop begun."""
        return math.ceil(n_samples / self.hop_samples)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Samples [start, stop) behind the frames [first, last); may reach outside the clip on both sides."""
        start = first * self.hop_samples - self.before
        return start, start + (last - first - 1) * self.hop_samples + self.window_samples


def block_samples(n_samples: int, n_taps: int, domain: Domain = "auto") -> int:
    """The one place where the domain is chosen: length of the FFTs in samples, 0 for filtering in time.

    Args:
        n_samples: of the clip.
        n_taps: of the filters.
        domain: "auto" by what is faster on a CPU, or one of the two whatever it costs.
    """
    if domain not in DOMAINS:
        raise UsageError(f"domain is {domain!r}. Use one of {', '.join(DOMAINS)}.")
    if domain == "time" or (domain == "auto" and (n_taps < SHORTEST_TAPS or n_samples < SHORTEST_SAMPLES)):
        return 0
    return min(power_of_two(TAPS_PER_BLOCK * n_taps), power_of_two(n_samples + n_taps - 1))


def power_of_two(least: int) -> int:
    """The smallest power of two that is not below `least`."""
    return 1 << (least - 1).bit_length()


def smooth_length(least: int) -> int:
    """The smallest product of 2, 3 and 5 that is not below `least`: nearly as quick a length of an FFT as 2 ** n."""
    length = least
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


class FilterBank:
    """Filters [n_filters, taps], real or complex, made ready for one domain; taps are odd, the middle one is time 0.

    Filters are correlated with the audio, not flipped, as a convolution layer does.
    """

    def __init__(self, filters: Tensor, block: int) -> None:
        self.filters = filters
        self.block = block  # samples of an FFT, 0 for filtering in time
        self.n_taps = filters.shape[1]
        if block:  # a product of spectra convolves, so the filters are flipped once here
            flipped = filters.flip(1)
            self.spectrum = torch.fft.fft(flipped, block) if filters.is_complex() else torch.fft.rfft(flipped, block)

    def __call__(self, audio: Tensor) -> Tensor:
        """Audio with margins [clips, samples + taps - 1] → responses [clips, n_filters, samples]; no padding is added.

        In the frequency domain `samples + taps - 1` must not exceed the block.
        """
        if not self.block:
            return self._in_time(audio)
        n = audio.shape[1]
        if self.filters.is_complex():
            answer = torch.fft.ifft(torch.fft.fft(audio, self.block)[:, None] * self.spectrum)
        else:
            answer = torch.fft.irfft(torch.fft.rfft(audio, self.block)[:, None] * self.spectrum, self.block)
        return answer[..., self.n_taps - 1 : n]  # what comes before mixes both ends of the block

    def _in_time(self, audio: Tensor) -> Tensor:
        if not self.filters.is_complex():
            return conv1d(audio[:, None], self.filters[:, None])
        parts = torch.cat([self.filters.real, self.filters.imag])[:, None]
        return torch.complex(*conv1d(audio[:, None], parts).chunk(2, dim=1))


class Piece(NamedTuple):
    """What one FFT gives: some frames, and the samples behind them."""

    frames: tuple[int, int]  # [first, last)
    inside: tuple[int, int]  # samples [start, stop) of the clip
    beyond: tuple[int, int]  # how many samples more, before and behind the clip, the frames cover


def pieces(n_samples: int, n_taps: int, framing: Framing, block: int) -> Iterator[Piece]:
    """The frames of a clip in as many as one FFT of `block` samples has room for; all at once in time (0)."""
    n_frames = framing.n_frames(n_samples)
    fitting = 1 + (block - (n_taps - 1) - framing.window_samples) // framing.hop_samples
    at_once = n_frames if not block or n_samples + n_taps - 1 <= block else fitting
    for first in range(0, n_frames, at_once):
        last = min(first + at_once, n_frames)
        start, stop = framing.span(first, last)
        inside = max(start, 0), min(stop, n_samples)
        yield Piece((first, last), inside, (inside[0] - start, stop - inside[1]))


def block_with_room(n_samples: int, n_taps: int, framing: Framing, domain: Domain = "auto") -> int:
    """As `block_samples`, with room for the responses behind one frame at least."""
    block = block_samples(n_samples, n_taps, domain)
    least = min(framing.window_samples, n_samples) + n_taps - 1
    return max(block, power_of_two(least)) if block else 0


def pool_responses(
    audio: Tensor,
    filters: Tensor,
    framing: Framing,
    pool: Callable[[Tensor], Tensor],
    outside: float = 0.0,
    domain: Domain = "auto",
) -> Tensor:
    """Filter with stride 1 (zeros around the clip), then reduce windows of the responses to frames.

    In the frequency domain a piece of one FFT is filtered and pooled before the next one begins, so memory does not
    grow with the clip; on a CPU clip by clip, so that a clip's numbers do not depend on its neighbours at all.

    Args:
        audio: [clips, samples], at least one sample.
        filters: [n_filters, taps], real or complex, taps odd.
        framing: the windows.
        pool: responses [clips, n_filters, samples] → frames [clips, n_filters, frames], no padding.
        outside: what responses count as before and behind the clip.
        domain: see `block_samples`.

    Returns:
        [clips, frames, n_filters], differentiable in audio and filters.
    """
    n_samples, n_taps = audio.shape[1], filters.shape[1]
    block = block_with_room(n_samples, n_taps, framing, domain)
    bank = FilterBank(filters, block)
    padded = pad(audio, (n_taps // 2, n_taps // 2))
    together = 1 if block and audio.device.type == "cpu" else audio.shape[0]
    clips = []
    for rows in padded.split(together):
        frames = []
        for _, (start, stop), beyond in pieces(n_samples, n_taps, framing, block):
            responses = bank(rows[:, start : stop + n_taps - 1])
            frames.append(pool(pad(responses, beyond, value=outside) if any(beyond) else responses))
        clips.append(torch.cat(frames, dim=2))
    return torch.cat(clips).transpose(1, 2)
