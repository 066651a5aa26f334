"""SpecAugment as COLA's code has it, and ours with independent draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learnable_inputs import golden

from hear_models.frontends.spec_augment import hidden, spec_augment


@pytest.mark.parametrize("i", [0, 1])
def test_coupled_draws_hide_what_the_original_hides(i):
    draws = torch.from_numpy(golden("specaugment_audax")[f"u_{i}"])[:, :, None].expand(-1, -1, 2, -1)
    np.testing.assert_array_equal(~hidden(draws, 96, 64).numpy(), golden("specaugment_audax")[f"mask_{i}"] != 0)


def test_hidden_elements_are_zero_and_the_others_untouched():
    state = torch.get_rng_state()
    features = 1 + torch.rand(50, 96, 64, generator=torch.Generator().manual_seed(0))
    found = spec_augment(features, torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found[found != 0], features[found != 0])
    bands, frames = (found == 0).all(1).sum(1), (found == 0).all(2).sum(1)
    assert 4 < float(bands.float().mean()) < 12 and int(bands.max()) <= 22
    assert 4 < float(frames.float().mean()) < 12 and int(frames.max()) <= 22


def test_wide_runs_lie_at_the_end_only_where_draws_are_coupled():
    features = torch.ones(400, 96, 64)
    last = {}
    for coupled in (False, True):
        masked = spec_augment(features, torch.Generator().manual_seed(0), rounds=1, coupled=coupled)
        hidden_frames = (masked == 0).all(2)
        wide = hidden_frames.sum(1) >= 8
        middles = (hidden_frames * torch.arange(96)).sum(1) / hidden_frames.sum(1).clamp(min=1)
        last[coupled] = float(middles[wide].mean())
    assert last[True] > 75 and 40 < last[False] < 56
