"""Dropout masks drawn by our own kernel are torch's: otherwise every score of a large task would be another one."""

from __future__ import annotations

import pytest
import torch

from hear_models.evaluation.judges import masks


@pytest.mark.parametrize("keep", [0.9, 0.75, 1 / 3])
@pytest.mark.parametrize("drawn", [0, 1, 623, 624, 1300])
def test_a_mask_and_the_numbers_after_it_are_torchs(keep, drawn):
    """From any place in a block, and with an odd word left over at its end."""
    pytest.importorskip("numba")
    assert masks.bits_are_torchs(), "the kernel does not fit this torch; the judge is right but slower"
    ours, theirs = (torch.Generator().manual_seed(5) for _ in range(2))
    for generator in (ours, theirs):
        torch.empty(drawn, dtype=torch.int32).random_(generator=generator)
    for rows in (132, 131, 140):
        found, expected = torch.empty(2, rows, 1024)
        masks.fill_mask(found, keep, ours)
        assert found.numel() >= masks.WORTHWHILE
        expected.bernoulli_(keep, generator=theirs).div_(keep)
        assert torch.equal(found, expected)
        assert torch.equal(torch.empty(9).normal_(generator=ours), torch.empty(9).normal_(generator=theirs))
    assert torch.equal(ours.get_state(), theirs.get_state())


def test_another_torch_draws_its_own_masks(monkeypatch):
    monkeypatch.setattr(masks, "bits_are_torchs", lambda: False)
    monkeypatch.setattr(masks, "_fill", lambda *arguments: pytest.fail("the kernel was used"))
    mask = torch.zeros(200, 1024)
    masks.fill_mask(mask, 0.9, torch.Generator().manual_seed(0))
    assert abs(float((mask > 0).float().mean()) - 0.9) < 0.01
    assert torch.equal(mask[mask > 0].unique(), torch.tensor([1 / 0.9]))
