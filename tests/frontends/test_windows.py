"""Overlapping windows share frames and yet give the numbers of each window alone, at any size and in both domains."""

from __future__ import annotations

import pytest
import torch

from hear_models.errors import UsageError
from hear_models.frontends import Leaf, SincNet, UncentredLogMel
from hear_models.frontends.filtering import smooth_length
from hear_models.frontends.windows import window_squares

FRONT_ENDS = {
    "leaf": lambda **kw: Leaf(6, **kw),
    "leaf-pytorch": lambda **kw: Leaf(6, flavour="leaf-pytorch", **kw),
    "sincnet": lambda **kw: SincNet(6, **kw),
    "logmel": lambda **kw: UncentredLogMel(n_mels=8),
}


def noise(n: int) -> torch.Tensor:
    return 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(n))


def joined(frontend, audio, length, step):
    pieces = list(frontend.pooled_windows(audio, length, step))
    return torch.cat([piece.pooled for piece in pieces]), torch.cat([piece.squares for piece in pieces])


@pytest.mark.parametrize("domain", ["frequency", "time"])
@pytest.mark.parametrize(
    ("length", "step", "windows"), [(3200, 160, 5), (1600, 320, 20), (4800, 4800, 2), (1600, 160, 1)]
)
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_windows_are_those_alone(name, length, step, windows, domain):
    frontend = FRONT_ENDS[name](domain=domain)
    audio = noise(length + (windows - 1) * step)
    with torch.no_grad():
        pooled, squares = joined(frontend, audio, length, step)
        alone = frontend.pooled(audio.unfold(0, length, step))
    assert pooled.shape == alone.shape
    torch.testing.assert_close(pooled, alone, rtol=1e-4, atol=2e-6 * float(alone.abs().max()))
    torch.testing.assert_close(squares, audio.unfold(0, length, step).double().square().sum(1))


def test_other_sizes_of_windows_and_hops_work_too():
    frontend = Leaf(5, window_samples=257, hop_samples=100)
    audio = noise(3000)
    with torch.no_grad():
        pooled, _ = joined(frontend, audio, 2000, 200)
        alone = frontend.pooled(audio.unfold(0, 2000, 200))
    torch.testing.assert_close(pooled, alone, rtol=1e-4, atol=1e-6 * float(alone.abs().max()))


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_the_level_of_a_window_can_be_taken_away_afterwards(name):
    frontend, audio = FRONT_ENDS[name](), 30 * noise(4800)
    windows = audio.unfold(0, 3200, 320)
    with torch.no_grad():
        found = frontend.of_unit_norm(*joined(frontend, audio, 3200, 320))
        alone = frontend.pooled(windows / windows.norm(dim=1, keepdim=True))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=2e-6 * float(alone.abs().max()))


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_gradients_are_those_of_every_window_alone(name):
    frontend = FRONT_ENDS[name]()

    def gradients(pooled_of) -> list[torch.Tensor]:
        audio = noise(3200).requires_grad_()
        pooled = pooled_of(audio)
        weights = torch.rand(pooled.shape, generator=torch.Generator().manual_seed(0))
        wanted = [audio, *(p for key, p in frontend.named_parameters() if key in ("filters", "lowpass"))]
        return list(torch.autograd.grad((pooled * weights).sum(), wanted))

    shared = gradients(lambda audio: joined(frontend, audio, 1600, 320)[0])
    alone = gradients(lambda audio: frontend.pooled(audio.unfold(0, 1600, 320)))
    for ours, theirs in zip(shared, alone, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


def test_log_mels_of_a_long_clip_are_made_in_pieces(monkeypatch):
    """Spectra of all frames at once would take half a gigabyte for twenty minutes."""
    rows, rfft = [], torch.fft.rfft

    def counted(frames, n):
        rows.append(frames.numel() // frames.shape[-1])
        return rfft(frames, n)

    monkeypatch.setattr(torch.fft, "rfft", counted)
    list(FRONT_ENDS["logmel"]().pooled_windows(noise(160_000), 3200, 800))
    assert max(rows) <= 16 * 7 and sum(rows) == 997 + 7 * 197


@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize(
    ("samples", "length", "step"),
    [(3300, 1600, 160), (3200, 1500, 160), (3200, 1600, 100), (800, 1600, 160), (640, 320, 160)],
)
def test_windows_that_do_not_suit_are_refused(name, samples, length, step):
    with pytest.raises(UsageError, match="do not suit"):
        list(FRONT_ENDS[name]().pooled_windows(noise(samples), length, step))


def test_sums_of_squares_of_quiet_windows_are_exact_beside_loud_ones():
    audio = torch.full((1600,), 1e-6)
    audio[:160] = 1e3
    sums = window_squares(audio, 320, 160, 160)
    assert float(sums[1]) == pytest.approx(320e-12, rel=1e-6) and float(sums[0]) > 1e8
    assert float(window_squares(audio, 320, 160, 160, beside=1)[1]) > 1e8


def test_smooth_lengths_have_small_factors_only():
    assert [smooth_length(n) for n in (1, 7, 11, 600, 601, 1201)] == [1, 8, 12, 600, 625, 1215]
