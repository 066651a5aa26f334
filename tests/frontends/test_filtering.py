"""Filters over raw audio: both domains compute the same thing, at every length, and a clip minds its own business."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv1d, max_pool1d

from hear_models.errors import UsageError
from hear_models.frontends.filtering import Framing, block_samples, pool_responses


def random(seed: int, *shape: int, complex_values: bool = False) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    dtype = torch.complex128 if complex_values else torch.float64
    return torch.randn(*shape, generator=rng, dtype=dtype)


def energies(framing: Framing, n_filters: int, seed: int):
    """A pooling as LEAF's: squares, then a filter with a stride."""
    weights = random(seed, n_filters, 1, framing.window_samples)
    return lambda r: conv1d((r * r.conj()).real, weights, stride=framing.hop_samples, groups=n_filters)


def maxima(framing: Framing):
    return lambda r: max_pool1d(r, framing.window_samples, framing.hop_samples)


@given(
    n_samples=st.integers(1, 400),
    half_taps=st.integers(0, 12),
    window=st.integers(1, 40),
    hop=st.integers(1, 30),
    seed=st.integers(0, 3),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_the_frequency_domain_is_the_time_domain_at_any_length(n_samples, half_taps, window, hop, seed, data):
    framing = Framing(window, hop, data.draw(st.integers(0, window - 1)))
    audio = random(seed, 2, n_samples)
    for complex_values in (True, False):
        filters = random(seed + 1, 3, 2 * half_taps + 1, complex_values=complex_values)
        pool, outside = (energies(framing, 3, seed), 0.0) if complex_values else (maxima(framing), -math.inf)
        frequency, time = (
            pool_responses(audio, filters, framing, pool, outside, domain=domain) for domain in ("frequency", "time")
        )
        assert time.shape == (2, math.ceil(n_samples / hop), 3)
        torch.testing.assert_close(frequency, time, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("domain", ["frequency", "time"])
@pytest.mark.parametrize("n_samples", [1, 7, 50, 333])
def test_a_frame_is_the_maximum_over_its_window_of_what_a_filter_correlates_to(domain, n_samples):
    """By loops: no flip, zeros around the clip for the filter, nothing around it for the maximum."""
    audio, filters, framing = random(0, 1, n_samples), random(1, 2, 9), Framing(12, 5, 4)
    found = pool_responses(audio, filters, framing, maxima(framing), -math.inf, domain=domain)
    padded = np.pad(audio[0].numpy(), 4)
    responses = np.array([[padded[i : i + 9] @ taps for i in range(n_samples)] for taps in filters.numpy()])
    frames = [responses[:, max(0, 5 * i - 4) : 5 * i + 8].max(1) for i in range(math.ceil(n_samples / 5))]
    np.testing.assert_allclose(found[0].numpy(), np.array(frames), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_samples", [40, 1000])
def test_gradients_do_not_depend_on_the_domain(n_samples):
    framing = Framing(21, 8, 10)
    found = []
    for domain in ("frequency", "time"):
        audio = random(0, 2, n_samples).requires_grad_()
        filters = random(1, 3, 11, complex_values=True).requires_grad_()
        pool_responses(audio, filters, framing, energies(framing, 3, 5), domain=domain).sin().sum().backward()
        found.append((audio.grad, filters.grad))
    for frequency, time in zip(*found, strict=True):
        torch.testing.assert_close(frequency, time, rtol=1e-8, atol=1e-8)


@given(n_samples=st.integers(1, 9000), neighbour=st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_frames_of_a_clip_do_not_depend_on_its_neighbours(n_samples, neighbour):
    """Bit for bit, where the frequency domain is chosen; to rounding, where it is not."""
    framing = Framing(401, 160, 200)
    clips = torch.stack([random(0, n_samples), 1000 * random(neighbour, n_samples)]).float()
    filters = random(2, 4, 401, complex_values=True).to(torch.complex64)

    def pool(r: Tensor) -> Tensor:
        return max_pool1d(r.real.square() + r.imag.square(), 401, 160)

    together = pool_responses(clips, filters, framing, pool)
    for i, clip in enumerate(clips):
        alone = pool_responses(clip[None], filters, framing, pool)[0]
        if block_samples(n_samples, 401):
            assert torch.equal(together[i], alone)
        else:
            torch.testing.assert_close(together[i], alone, rtol=1e-5, atol=1e-4)


def test_the_domain_is_chosen_by_length():
    assert block_samples(16_000, 401) == 4096
    assert block_samples(100_000_000, 401) == 4096, "memory would grow with the clip"
    assert block_samples(1000, 401) == 2048, "a short clip needs no long FFT"
    assert block_samples(100, 401) == 0 and block_samples(100, 401, "frequency") == 512
    assert block_samples(16_000, 25) == 0
    assert block_samples(16_000, 401, "time") == 0


def test_an_unknown_domain_is_refused():
    with pytest.raises(UsageError, match="Use one of auto, frequency, time"):
        block_samples(16_000, 401, "fast")
