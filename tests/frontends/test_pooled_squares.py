"""The gradient that filters again is that of autograd, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv1d

from hear_models.frontends.filtering import Framing, pool_responses
from hear_models.frontends.leaf import Leaf
from hear_models.frontends.pooled_filters import PooledFilters
from hear_models.frontends.pooled_squares import PooledSquares


def random(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@given(
    n_samples=st.integers(1, 400),
    half_taps=st.integers(0, 12),
    window=st.integers(1, 40),
    hop=st.integers(1, 30),
    before=st.integers(0, 20),
    seed=st.integers(0, 3),
)
@settings(deadline=None, max_examples=60)
def test_values_and_gradients_are_those_of_autograd(n_samples, half_taps, window, hop, before, seed):
    framing = Framing(window, hop, min(before, window - 1))
    n_taps = 2 * half_taps + 1
    audio = random(seed, 2, n_samples)
    filters = random(seed + 1, 3, n_taps, dtype=torch.complex128).requires_grad_()
    weights = random(seed + 2, 3, window).requires_grad_()

    def usual() -> Tensor:
        def pool(responses: Tensor) -> Tensor:
            return conv1d((responses * responses.conj()).real, weights[:, None], stride=hop, groups=3)

        return pool_responses(audio, filters, framing, pool, domain="frequency")

    def again() -> Tensor:
        return PooledSquares.apply(audio, filters, weights, framing)

    one, other = usual(), again()
    assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)
    factors = random(seed + 3, *one.shape)
    for mine, theirs in zip(
        torch.autograd.grad((other * factors).sum(), (filters, weights)),
        torch.autograd.grad((one * factors).sum(), (filters, weights)),
        strict=True,
    ):
        assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-9 * float(theirs.abs().max()))


@pytest.mark.parametrize("flavour", ["audax", "leaf-pytorch"])
@pytest.mark.parametrize("n", [1_234, 5_000, 15_360])
def test_leaf_learns_the_same_with_fewer_responses_in_memory(flavour, n):
    leaf = Leaf(8, flavour=flavour)
    audio = 0.1 * random(0, 2, n, dtype=torch.float32)
    found = []
    for pooled in (PooledFilters.pooled, Leaf.pooled):
        leaf.zero_grad()
        kept = 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            energies = pooled(leaf, audio)
        (energies * random(1, *energies.shape, dtype=torch.float32)).sum().backward()
        found.append((kept, energies.detach(), leaf.filters.grad, leaf.lowpass.grad))
    assert found[0][0] - found[1][0] > leaf.n_filters * audio.numel()
    assert torch.equal(found[0][1], found[1][1])
    for mine, theirs in zip(found[1][2:], found[0][2:], strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def test_audio_keeps_its_gradient():
    leaf, audio = Leaf(8), 0.1 * random(0, 1, 2_000, dtype=torch.float32)
    audio.requires_grad_()
    leaf(audio).sum().backward()
    assert float(audio.grad.abs().sum()) > 0 and float(leaf.filters.grad.abs().sum()) > 0


def test_a_front_end_that_is_fixed_makes_no_graph():
    leaf = Leaf(8).requires_grad_(False)
    assert not leaf.pooled(random(0, 1, 2_000, dtype=torch.float32)).requires_grad
