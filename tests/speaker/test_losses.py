"""Losses over speakers: values and gradients of the golden files; the far side of the margin; float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_inputs import GOLDEN

from hear_models.errors import UsageError
from hear_models.speaker.losses import class_logits, class_loss

ARRAYS = np.load(GOLDEN / "ftcbam" / "losses.npz")
KINDS = {
    "softmax": ("softmax", 1.0, 0.0),
    "am_s30_m035": ("am", 30.0, 0.35),
    "am_s15_m03": ("am", 15.0, 0.3),
    "aam_s30_m02": ("aam", 30.0, 0.2),
    "aam_s15_m03": ("aam", 15.0, 0.3),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_loss_and_gradients_match(name, dtype, allowed):
    embeddings, weight = (torch.tensor(ARRAYS[key], dtype=dtype, requires_grad=True) for key in ("emb", "weight"))
    labels = torch.from_numpy(ARRAYS["label"])
    loss = class_loss(embeddings, weight, labels, *KINDS[name])
    loss.backward()
    assert loss.item() == pytest.approx(float(ARRAYS[f"{name}/loss"]), abs=10 * allowed)
    for found, key in ((embeddings.grad, "grad_emb"), (weight.grad, "grad_weight")):
        np.testing.assert_allclose(found.numpy(), ARRAYS[f"{name}/{key}"], rtol=0, atol=allowed)


def test_the_margin_makes_the_own_class_harder_at_every_angle():
    angles = torch.linspace(0, torch.pi, 200, dtype=torch.float64)
    embeddings = torch.stack([angles.cos(), angles.sin()], 1)
    weight, labels = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=torch.float64), torch.zeros(200, dtype=torch.long)
    plain = class_logits(embeddings, weight, labels, "am", 1.0, 0.0)[:, 0]
    for kind in ("am", "aam"):
        own = class_logits(embeddings, weight, labels, kind, 1.0, 0.3)[:, 0]
        assert (own < plain).all() and (own.diff() < 0).all(), kind


def test_gradients_are_finite_where_a_clip_lies_on_its_class():
    embeddings = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    class_loss(embeddings, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]), "aam").backward()
    assert torch.isfinite(embeddings.grad).all()


def test_an_unknown_loss_is_refused():
    with pytest.raises(UsageError, match="softmax, am, aam"):
        class_loss(torch.ones(1, 2), torch.ones(2, 2), torch.tensor([0]), "arcface")
