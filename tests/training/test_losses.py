"""Losses and mixup of supervised training are those of the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_inputs import GOLDEN

from hear_models.errors import UsageError
from hear_models.training.losses import (
    LOSSES,
    mix,
    mixed_class_loss,
    mixup_shares,
    official_mixup_shares,
)

REFERENCE = {name: torch.from_numpy(array) for name, array in np.load(GOLDEN / "gise51" / "losses_aug.npz").items()}


@pytest.mark.parametrize("name", ["bce", "focal"])
def test_loss_and_gradient_are_those_of_the_authors(name):
    """With soft targets, and with logits of ±100, where a loss of probabilities would be infinite."""
    logits = REFERENCE["focal_logits"].clone().requires_grad_()
    assert logits.abs().max() == 100
    loss = LOSSES[name](logits, REFERENCE["focal_targets"])
    loss.backward()
    torch.testing.assert_close(loss.detach(), REFERENCE[f"{name}_loss"], rtol=1e-6, atol=0)
    torch.testing.assert_close(logits.grad, REFERENCE[f"{name}_grad"], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("size", [2, 4, 64])
def test_the_authors_shares_of_mixup_are_known(size):
    np.testing.assert_array_equal(official_mixup_shares(size), REFERENCE[f"lam_b{size}"].numpy())


def test_our_shares_differ_from_batch_to_batch():
    rng = np.random.default_rng(0)
    first, second = mixup_shares(64, rng), mixup_shares(64, rng)
    assert not np.array_equal(first, second)
    assert 0 <= first.min() < 0.1 and 0.9 < first.max() <= 1  # Beta(1, 1)


def test_mixed_clips_and_targets_are_those_of_the_authors():
    shares, partners = REFERENCE["lam_b4"], REFERENCE["mix_perm"]
    torch.testing.assert_close(mix(REFERENCE["mix_x"], shares, partners), REFERENCE["mix_xo"], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(mix(REFERENCE["mix_y"], shares, partners), REFERENCE["mix_yo"], rtol=1e-6, atol=1e-7)


def test_mixup_of_one_class_per_clip_is_that_of_the_authors():
    shares, partners = REFERENCE["mc_lam"], REFERENCE["mc_perm"]
    loss = mixed_class_loss(REFERENCE["mc_logits"], REFERENCE["mc_y"], shares, partners)
    torch.testing.assert_close(loss, REFERENCE["mc_loss"], rtol=1e-6, atol=0)
    torch.testing.assert_close(mix(REFERENCE["mix_x"], shares, partners), REFERENCE["mc_xo"], rtol=1e-6, atol=1e-7)


def test_shares_that_do_not_fit_the_batch_are_refused():
    with pytest.raises(UsageError, match="do not fit"):
        mix(torch.zeros(4, 2), torch.zeros(3), torch.arange(4))
