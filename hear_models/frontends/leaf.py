"""LEAF, a learnable front end (Zeghidour et al. 2021, arXiv 2101.08596); usable alone in anybody's network."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d

from hear_models.errors import UsageError
from hear_models.frontends.filterbanks import mel_filter_bank
from hear_models.frontends.filtering import Domain, Framing, block_samples
from hear_models.frontends.pcen import PCEN
from hear_models.frontends.pooled_filters import Pool, PooledFilters
from hear_models.frontends.pooled_squares import PooledSquares, squares
from hear_models.frontends.waveform import check_init, check_sizes, check_waveform, half_normal

Flavour = Literal["audax", "leaf-pytorch"]
FLAVOURS = ("audax", "leaf-pytorch")
INITS = ("mel", "uniform", "truncated_normal")

ENERGY_FLOOR = 1e-5  # below it, energies count as it: silence is a constant
PCEN_FLOOR = 1e-12  # the energies have a floor already
FWHM = math.sqrt(2 * math.log(2))  # half the width of a Gaussian at half its height / standard deviation
MEL_FFT_SAMPLES = 512  # grid of the mel triangles that the first filters imitate
MEL_HZ = (60.0, 7800.0)  # their lowest and highest edge
LOWPASS_WIDTH = 0.4  # initial standard deviation of the pooling / half a window


class Leaf(PooledFilters):
    """Complex Gabor filters, squared modulus, Gaussian pooling, PCEN; every stage has learned parameters.

    Two published code bases differ in the pooling, and weights of one are wrong in the other:

    - "audax" pads as Flax does, in dependence on the clip's length (quirk `pooling-phase`): for a multiple of the hop,
      frame i is centred on sample `i * hop + hop / 2`;
    - "leaf-pytorch" centres frame i on sample `i * hop`, and adds a learned bias to the energies that begins at 1
      (quirk `pooling-bias`): it dominates quiet input.

    The waveform is used as given. Its level matters, because energies have a floor of 1e-5 (quirk `energy-floor`): at
    amplitudes of 0.001 or less the output is that of silence. Parameters: `filters` [n_filters, 2], centre in radians
    per sample and standard deviation of the envelope in samples; `lowpass` [n_filters], standard deviation of the
    pooling / half a window; `lowpass_bias` [n_filters] with leaf-pytorch only; `pcen`. Filters and widths are held in
    their range when they are used, beyond it their gradient is zero.

    Args:
        n_filters: 64 in every recipe of audax, 40 in the weights of leaf-pytorch.
        window_samples: length of the filters and of the pooling, odd; 25 ms and one sample.
        hop_samples: from one frame to the next, 10 ms.
        flavour: "audax" or "leaf-pytorch".
        sample_rate: in Hz.
        init: "mel", filters as wide as the triangles of a mel bank from 60 to 7800 Hz; "uniform", or
            "truncated_normal", whose centres crowd at low frequencies. With both random ones the lowest filter is the
            one with the longest envelope, as centres rise and envelopes shorten with the index.
        rng: of the random ones; None: a generator of its own with seed 0. The global random state is never used.
        domain: in which the filters are applied, see `filtering.block_samples`.
    """

    degree = 2
    outside = 0.0
    lowpass_bias: nn.Parameter | None

    def __init__(
        self,
        n_filters: int = 64,
        window_samples: int = 401,
        hop_samples: int = 160,
        flavour: Flavour = "audax",
        *,
        sample_rate: int = 16_000,
        init: str = "mel",
        rng: torch.Generator | None = None,
        domain: Domain = "auto",
    ) -> None:
        super().__init__()
        check_sizes(n_filters, window_samples, hop_samples, sample_rate)
        if flavour not in FLAVOURS:
            raise UsageError(f"flavour is {flavour!r}. Use one of {', '.join(FLAVOURS)}.")
        self.n_filters = n_filters
        self.window_samples = window_samples
        self.hop_samples = hop_samples
        self.flavour = flavour
        self.sample_rate = sample_rate
        self.domain = domain
        self.filters = nn.Parameter(torch.empty(n_filters, 2))
        self.lowpass = nn.Parameter(torch.full((n_filters,), LOWPASS_WIDTH))
        bias = nn.Parameter(torch.ones(n_filters)) if flavour == "leaf-pytorch" else None
        self.register_parameter("lowpass_bias", bias)
        self.pcen = PCEN(n_filters, floor=PCEN_FLOOR)
        self.draw_filters(init, rng)

    def draw_filters(self, init: str = "mel", rng: torch.Generator | None = None) -> None:
        """Set `filters` as a new front end has them; arguments as above."""
        check_init(init, INITS)
        with torch.no_grad(), torch.device("cpu"):
            if init == "mel":
                drawn = mel_gabors(self.n_filters, self.sample_rate)
            else:
                rng = rng or torch.Generator().manual_seed(0)
                n = self.n_filters
                u = torch.rand(n, generator=rng) if init == "uniform" else half_normal(n, rng)
                u = u.sort().values  # for both (quirk `one-draw`)
                shortest, longest = self.sigma_range
                drawn = torch.stack([math.pi * u, shortest + (longest - shortest) * u.flip(0)], dim=1)
            self.filters.copy_(drawn)

    # ------------------------------------------------------------------ sizes and frequencies

    def framing(self, n_samples: int) -> Framing:
        """The windows that are pooled to frames, in a clip of `n_samples`."""
        if self.flavour == "leaf-pytorch":
            return Framing(self.window_samples, self.hop_samples, self.window_samples // 2)
        return super().framing(n_samples)

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Shortest and longest envelope in samples: a magnitude response of pi / 2 and of 2 pi / window radians."""
        return 4 * FWHM / math.pi, self.window_samples * FWHM / math.pi

    @property
    def band_hz(self) -> Tensor:
        """Centre of every filter in Hz, [n_filters], in the order of the channels."""
        return self.constrained()[:, 0] * (self.sample_rate / (2 * math.pi))

    @property
    def bandwidth_hz(self) -> Tensor:
        """Full width of every filter's magnitude response at half its height in Hz, [n_filters]."""
        return FWHM * self.sample_rate / (math.pi * self.constrained()[:, 1])

    # ------------------------------------------------------------------ the stages

    def constrained(self) -> Tensor:
        """`filters` within their range, [n_filters, 2]: centres in [0, pi], envelopes in `sigma_range`."""
        mu, sigma = self.filters.unbind(1)
        return torch.stack([mu.clamp(0, math.pi), sigma.clamp(*self.sigma_range)], dim=1)

    def gabors(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The filters in time, complex [n_filters, window_samples]; the area below an envelope is 1."""
        mu, sigma = self.constrained().to(dtype)[:, :, None].unbind(1)  # [n_filters, 1]
        half = self.window_samples // 2
        t = torch.arange(-half, half + 1, dtype=dtype, device=mu.device)
        envelope = torch.exp(-t.square() / (2 * sigma.square())) / (math.sqrt(2 * math.pi) * sigma)
        return torch.complex(envelope * torch.cos(mu * t), envelope * torch.sin(mu * t))

    def lowpasses(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The Gaussians that pool energies, [n_filters, window_samples], peak 1: they sum, they do not average."""
        window = self.window_samples
        width = self.lowpass.to(dtype).clamp(2 / window, 0.5)[:, None]
        middle = (window - 1) / 2
        j = torch.arange(window, dtype=dtype, device=width.device)
        return torch.exp(-0.5 * ((j - middle) / (width * middle)).square())

    def pooled(self, audio: Tensor) -> Tensor:
        """Audio [clips, samples] → energies [clips, frames, n_filters] before bias and floor.

        Where only the parameters learn, on a CPU, no response is kept for the gradient: see `PooledSquares`.
        """
        audio = check_waveform(audio)
        learns = torch.is_grad_enabled() and (self.filters.requires_grad or self.lowpass.requires_grad)
        framing = self.framing(audio.shape[1])
        block = block_samples(audio.shape[1], self.window_samples, self.domain)
        if not learns or audio.requires_grad or not block or audio.device.type != "cpu":
            return super().pooled(audio)
        with torch.autocast(audio.device.type, enabled=False):
            kernels, lowpasses = self.kernels(audio.dtype), self.lowpasses(audio.dtype)
            pooled: Tensor = PooledSquares.apply(audio, kernels, lowpasses, framing)
            return pooled

    def kernels(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """`gabors`."""
        return self.gabors(dtype)

    def rectify(self, responses: Tensor) -> Tensor:
        """Complex responses → energies: the squared modulus."""
        return squares(responses)

    def pooling(self, dtype: torch.dtype = torch.float32) -> Pool:
        """Sums of energies, weighted by `lowpasses`."""
        lowpasses = self.lowpasses(dtype)[:, None]

        def pool(energies: Tensor, first: int, last: int) -> Tensor:
            if last - first == self.window_samples:
                return conv1d(energies, lowpasses, stride=self.hop_samples, groups=self.n_filters)
            parts = energies.unfold(2, last - first, self.hop_samples)  # a convolution would copy the energies first
            return (parts * lowpasses[..., first:last]).sum(3)

        return pool

    def join(self, one: Tensor, other: Tensor) -> Tensor:
        """A sum."""
        return one + other

    def compress(self, pooled: Tensor) -> Tensor:
        """Energies before bias and floor → the output; the running mean of PCEN begins at frame 0."""
        if self.lowpass_bias is not None:
            pooled = pooled + self.lowpass_bias
        return self.pcen(pooled.clamp_min(ENERGY_FLOOR))


def mel_gabors(n_filters: int, sample_rate: int) -> Tensor:
    """Gabors that imitate a mel bank, [n_filters, 2]: peak and width of the square root of each triangle.

    The magnitude response is as wide at half its height as the root of the triangle, counted in whole FFT bins.

    Raises:
        UsageError: so many filters that a triangle lies between two bins.
    """
    edges_hz = (MEL_HZ[0], min(MEL_HZ[1], sample_rate / 2))
    roots = mel_filter_bank(MEL_FFT_SAMPLES, sample_rate, n_filters, *edges_hz).sqrt()  # [bins, n_filters]
    peaks = roots.amax(0)
    if not bool((peaks > 0).all()):
        raise UsageError(f'{n_filters} filters are too many for init="mel". Give fewer, or init="uniform".')
    centre_bins = roots.argmax(0)
    width_bins = (roots >= peaks / 2).sum(0)
    mu = centre_bins * (2 * math.pi / MEL_FFT_SAMPLES)
    sigma = FWHM * MEL_FFT_SAMPLES / (math.pi * width_bins)
    return torch.stack([mu, sigma], dim=1)
