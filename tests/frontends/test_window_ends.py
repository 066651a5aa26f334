"""Responses at a window's ends by short FFTs are those of the filters over the window with silence around it."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import pad

from hear_models.frontends.filtering import FilterBank
from hear_models.frontends.window_ends import EndFilters


def random(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize(("half", "length"), [(1, 2), (1, 9), (7, 14), (11, 40), (20, 100)])
def test_ends_are_those_of_the_whole_window_in_time(half, length, dtype):
    filters, windows = random(3, 2 * half + 1, dtype=dtype), random(5, length)
    found = torch.cat(list(EndFilters(filters)(windows)))
    whole = FilterBank(filters, 0)(pad(windows, (half, half)))
    torch.testing.assert_close(found, torch.stack([whole[..., :half], whole[..., -half:]], dim=1))


def test_the_transforms_are_as_long_as_a_filter_and_no_longer():
    assert EndFilters(random(2, 401)).n_fft == 400


def test_a_window_of_one_call_is_the_same_in_another():
    ends, windows = EndFilters(random(4, 41, dtype=torch.complex64)), random(6, 90, dtype=torch.float32)
    windows[1] *= 1e6
    for i, found in enumerate(torch.cat(list(ends(windows)))):
        assert torch.equal(found, torch.cat(list(ends(windows[i : i + 1])))[0])
