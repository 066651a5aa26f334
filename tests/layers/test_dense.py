"""The fused linear layers must give what torch's own layers give, and step aside where they cannot."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu

from hear_models.layers import dense as room
from hear_models.layers.dense import dense, dense_add, dense_gelu

FUSED = bool(room._dtypes())
needs_fused = pytest.mark.skipif(
    not FUSED, reason="this CPU or this torch has no fused path: the plain one is all there is"
)


@pytest.fixture
def layer():
    torch.manual_seed(3)
    return nn.Linear(48, 80)


@pytest.fixture
def plain(monkeypatch):
    """Compute with torch's own layers."""

    def run(function, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(room, "_dtypes", frozenset)
            return function(*arguments)

    return run


@pytest.mark.parametrize("shape", [(48,), (7, 48), (2, 5, 48), (3, 1, 48)])
@torch.no_grad()
def test_fused_layers_equal_the_plain_ones(layer, plain, shape):
    x, residual = torch.randn(*shape), torch.randn(*shape[:-1], 80)
    for function, more in ((dense, ()), (dense_gelu, ()), (dense_add, (residual,))):
        before = (x.clone(), residual.clone())
        fused = function(x, layer, *more)
        torch.testing.assert_close(fused, plain(function, x, layer, *more), rtol=1e-5, atol=1e-5)
        assert torch.equal(x, before[0]) and torch.equal(residual, before[1]), "an input was overwritten"


@torch.no_grad()
def test_gelu_is_the_tanh_approximation_and_not_the_exact_one(layer):
    x = torch.linspace(-2, 2, 48)[None]
    hidden = x @ layer.weight.T + layer.bias
    exact, approximate = (gelu(hidden, approximate=kind) for kind in ("none", "tanh"))
    assert (exact - approximate).abs().max() > 1e-4  # else this test could not tell
    torch.testing.assert_close(dense_gelu(x, layer), approximate, rtol=1e-5, atol=2e-6)


def test_training_gets_gradients_of_every_weight_and_of_the_input(layer):
    x = torch.randn(4, 48, requires_grad=True)
    dense_add(gelu(dense(x, layer), approximate="tanh")[:, :48], layer, torch.zeros(4, 80)).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


def test_gradient_of_the_input_flows_through_frozen_weights(layer):
    layer.requires_grad_(False)
    x = torch.randn(4, 48, requires_grad=True)
    dense_gelu(x, layer).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


@needs_fused
def test_the_fused_path_is_taken_at_inference(layer, monkeypatch):
    calls = []
    fused = room._op()
    monkeypatch.setattr(room, "_op", lambda: calls.append(1) or fused)
    with torch.inference_mode():
        dense(torch.randn(2, 48), layer)
    dense(torch.randn(2, 48), layer)  # would need gradients
    assert len(calls) == 1


@needs_fused
@torch.no_grad()
def test_rows_do_not_depend_on_how_many_share_a_product(layer):
    x = torch.randn(500, 48)
    together = dense_gelu(x, layer)
    for n in (1, 7, 250):
        torch.testing.assert_close(dense_gelu(x[:n], layer), together[:n], rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_a_callers_autocast_still_decides_the_dtype(layer):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert dense(torch.randn(2, 48), layer).dtype == torch.bfloat16


@torch.no_grad()
def test_without_the_library_torchs_own_layers_do_it(layer, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    room._dtypes.cache_clear()
    try:
        assert room._dtypes() == frozenset()
        x = torch.randn(3, 48)
        torch.testing.assert_close(dense(x, layer), x @ layer.weight.T + layer.bias)
    finally:
        room._dtypes.cache_clear()
