"""SincNet, band-pass filters whose two edges are learned (Ravanelli and Bengio 2018, arXiv 1808.00158).

The form of the front end that COLA was pretrained with: filters, rectifier, maximum, layer normalisation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, leaky_relu, max_pool1d

from hear_models.errors import UsageError
from hear_models.frontends.filterbanks import htk_mel
from hear_models.frontends.filtering import Domain
from hear_models.frontends.pooled_filters import Pool, PooledFilters
from hear_models.frontends.waveform import check_init, check_sizes, half_normal

INITS = ("mel", "uniform", "uniform_hz", "truncated_normal", "truncated_normal_hz")

LOWEST_HZ = 50.0  # added to every lower edge
NARROWEST_HZ = 50.0  # added to every bandwidth
FLOOR = 1e-5  # of the pooled responses
LEAK = 0.2  # slope of the rectifier below zero
EPS = 1e-6  # of layer normalisation
NYQUIST_MARGIN_HZ = 1.0  # a lower edge stays so far below half the sample rate


class SincNet(PooledFilters):
    """Real sinc filters, leaky rectifier, maximum over a window, layer normalisation over the filters of each frame.

    The waveform is used as given; up to the floor of 1e-5 its level does not matter. Frames lie as in `Leaf` with the
    flavour "audax" (quirk `pooling-phase`). The original divides by zero when a lower edge reaches half the sample
    rate, and one such filter makes every channel NaN; here edges stay 1 Hz below (quirk `sinc-nyquist`). Parameters:
    `filters` [n_filters, 2], lower edge and bandwidth in Hz, less 50 Hz each; `norm.weight`, `norm.bias` [n_filters].

    Args:
        n_filters: 64 in every recipe.
        window_samples: length of the filters and of the pooling, odd; 25 ms and one sample.
        hop_samples: from one frame to the next, 10 ms.
        sample_rate: in Hz, above 200.
        init: how edges are drawn from 50 Hz to 100 Hz below half the sample rate: "mel", equally spaced in mel;
            "uniform" and "truncated_normal" in mel, "uniform_hz" and "truncated_normal_hz" in Hz, sorted.
        rng: of the random ones; None: a generator of its own with seed 0. The global random state is never used.
        domain: in which the filters are applied, see `filtering.block_samples`.
    """

    degree = 1
    outside = -math.inf

    def __init__(
        self,
        n_filters: int = 64,
        window_samples: int = 401,
        hop_samples: int = 160,
        *,
        sample_rate: int = 16_000,
        init: str = "mel",
        rng: torch.Generator | None = None,
        domain: Domain = "auto",
    ) -> None:
        super().__init__()
        check_sizes(n_filters, window_samples, hop_samples, sample_rate)
        if sample_rate / 2 - LOWEST_HZ - NARROWEST_HZ <= LOWEST_HZ:
            raise UsageError(f"sample_rate is {sample_rate}. Give more than 300 Hz.")
        self.n_filters = n_filters
        self.window_samples = window_samples
        self.hop_samples = hop_samples
        self.sample_rate = sample_rate
        self.domain = domain
        self.filters = nn.Parameter(torch.empty(n_filters, 2))
        self.norm = nn.LayerNorm(n_filters, eps=EPS)
        self.draw_filters(init, rng)

    def draw_filters(self, init: str = "mel", rng: torch.Generator | None = None) -> None:
        """Set `filters` as a new front end has them; arguments as above."""
        check_init(init, INITS)
        with torch.no_grad(), torch.device("cpu"):
            edge_hz = draw_edges(self.n_filters + 1, self.sample_rate, init, rng or torch.Generator().manual_seed(0))
            self.filters.copy_(torch.stack([edge_hz[:-1], edge_hz.diff()], dim=1))

    # ------------------------------------------------------------------ frequencies

    @property
    def band_hz(self) -> Tensor:
        """Centre of every filter in Hz, [n_filters], in the order of the channels."""
        return self.constrained().mean(1)

    @property
    def bandwidth_hz(self) -> Tensor:
        """Upper less lower edge of every filter in Hz, [n_filters]."""
        low, high = self.constrained().unbind(1)
        return high - low

    # ------------------------------------------------------------------ the stages

    def constrained(self) -> Tensor:
        """Lower and upper edge of every filter in Hz, [n_filters, 2].

        Both constants are added to filters that begin at 50 Hz already: they lie 50 Hz higher and are 50 Hz wider than
        the mel scale would have them, as in the original.
        """
        nyquist = self.sample_rate / 2
        lower, width = self.filters.abs().unbind(1)
        low = LOWEST_HZ + lower
        high = (low + NARROWEST_HZ + width).clamp(LOWEST_HZ, nyquist)
        return torch.stack([low.clamp(max=nyquist - NYQUIST_MARGIN_HZ), high], dim=1)

    def sincs(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The filters in time, [n_filters, window_samples]: peak 1, then a symmetric Hamming window.

        A narrow band far up is the difference of two nearly equal terms: float32 leaves 2e-5 of it, whatever the order
        of the operations. This order rounds as the original does.
        """
        low, high = self.constrained().to(dtype)[:, :, None].unbind(1)  # [n_filters, 1]
        t = torch.arange(1, self.window_samples // 2 + 1, dtype=dtype, device=low.device) / self.sample_rate

        def sinc(edge: Tensor) -> Tensor:
            angle = 2 * math.pi * edge * t
            return 2 * edge * torch.sin(angle) / angle

        right = sinc(high) - sinc(low)  # [n_filters, window_samples // 2]
        band = torch.cat([right.flip(1), 2 * high - 2 * low, right], dim=1)
        window = torch.hamming_window(self.window_samples, periodic=False, dtype=dtype, device=low.device)
        return band / band.amax(1, keepdim=True) * window

    def kernels(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """`sincs`."""
        return self.sincs(dtype)

    def rectify(self, responses: Tensor) -> Tensor:
        """A leaky rectifier."""
        return leaky_relu(responses, LEAK)

    def pooling(self, dtype: torch.dtype = torch.float32) -> Pool:
        """Maxima."""

        def pool(rectified: Tensor, first: int, last: int) -> Tensor:
            if last - first == self.window_samples:
                return max_pool1d(rectified, last - first, self.hop_samples)
            return rectified.unfold(2, last - first, self.hop_samples).amax(3)  # max_pool1d would copy them first

        return pool

    def join(self, one: Tensor, other: Tensor) -> Tensor:
        """The larger."""
        return torch.maximum(one, other)

    def compress(self, pooled: Tensor) -> Tensor:
        """Largest responses before the floor → the output, frame by frame."""
        with torch.autocast(pooled.device.type, enabled=False):
            weight, bias = self.norm.weight.to(pooled.dtype), self.norm.bias.to(pooled.dtype)
            return layer_norm(pooled.clamp_min(FLOOR), (self.n_filters,), weight, bias, EPS)


def draw_edges(n: int, sample_rate: int, init: str, rng: torch.Generator) -> Tensor:
    """[n] rising frequencies in Hz from 50 to 100 below half the sample rate; `init` as in SincNet."""
    lowest, highest = LOWEST_HZ, sample_rate / 2 - (LOWEST_HZ + NARROWEST_HZ)
    in_hz = init.endswith("_hz")
    if not in_hz:
        lowest, highest = htk_mel(lowest), htk_mel(highest)
    if init == "mel":
        return from_mel(torch.linspace(lowest, highest, n))
    u = half_normal(n, rng) if init.startswith("truncated_normal") else torch.rand(n, generator=rng)
    drawn = lowest + (highest - lowest) * u.sort().values
    return drawn if in_hz else from_mel(drawn)


def from_mel(mel: Tensor) -> Tensor:
    """HTK mel → Hz."""
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
