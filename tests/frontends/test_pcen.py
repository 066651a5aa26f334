"""PCEN alone: its formula, its running mean, and what holds its coefficients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hear_models.errors import UsageError
from hear_models.frontends import PCEN


def by_loops(energies: np.ndarray, alpha: float, delta: float, root: float, smooth: float, floor: float) -> np.ndarray:
    mean, rows = energies[:, 0].copy(), []
    for i in range(energies.shape[1]):
        mean = smooth * energies[:, i] + (1 - smooth) * mean
        rows.append((energies[:, i] / (floor + mean) ** alpha + delta) ** (1 / root) - delta ** (1 / root))
    return np.stack(rows, 1)


@pytest.mark.parametrize("floor", [1e-6, 1e-12])
def test_the_formula_of_the_paper(floor):
    rng = np.random.default_rng(0)
    energies = rng.random((2, 9, 3)) ** 8  # down to 1e-6, where the floor tells
    pcen = PCEN(3, alpha=0.8, delta=1.5, root=3.0, smooth=0.3, floor=floor).double()
    found = pcen(torch.from_numpy(energies)).detach().numpy()
    np.testing.assert_allclose(found, by_loops(energies, 0.8, 1.5, 3.0, 0.3, floor), rtol=1e-6)


def test_defaults_are_those_of_the_paper_on_leaf():
    pcen = PCEN(2)
    values = {name: parameter.tolist() for name, parameter in pcen.named_parameters()}
    expected = {"alpha": 0.96, "delta": 2.0, "root": 2.0, "smooth": 0.04}
    assert {name: pytest.approx([value] * 2) for name, value in expected.items()} == values
    assert pcen.floor == 1e-6


def test_coefficients_beyond_their_range_count_as_its_end_and_get_no_gradient():
    energies = torch.rand(2, 6, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    beyond = PCEN(1, alpha=1.7, root=0.3, smooth=1.4).double()
    within = PCEN(1, alpha=1.0, root=1.0, smooth=1.0).double()
    y = beyond(energies)
    torch.testing.assert_close(y, within(energies))
    y.sum().backward()
    assert beyond.alpha.grad.item() == beyond.root.grad.item() == beyond.smooth.grad.item() == 0.0
    below = PCEN(1, smooth=-0.5).double()(energies)
    torch.testing.assert_close(below, PCEN(1, smooth=0.0).double()(energies))


def test_a_constant_sound_gives_a_constant_from_the_first_frame():
    """The running mean begins at the first frame, not at zero."""
    y = PCEN(4)(torch.full((1, 20, 4), 0.3))
    torch.testing.assert_close(y, y[:, :1].expand_as(y))


@pytest.mark.parametrize("shape", [(5, 3), (1, 0, 3), (1, 5, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(UsageError, match=r"Give \[clips, frames, 3\]"):
        PCEN(3)(torch.ones(shape))


def test_arguments_out_of_range_are_refused():
    with pytest.raises(UsageError, match="at least 1"):
        PCEN(0)
    with pytest.raises(UsageError, match="small positive"):
        PCEN(2, floor=0.0)
