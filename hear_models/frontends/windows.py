"""Windows of a clip that overlap: what a front end gives for them, and how loud they are."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import pad

from hear_models.errors import UsageError

WINDOWS_AT_ONCE = 16  # are yielded together


class Windows(NamedTuple):
    """Some consecutive windows of a clip: frames before compression [windows, frames, filters], float64 [windows]."""

    pooled: Tensor
    squares: Tensor  # sum of squares of each window's samples


def check_windows(n_samples: int, length: int, step: int, hop: int, shortest: int) -> None:
    """Refuse windows whose frames do not coincide, or that do not tile the clip, with a UsageError."""
    if length % hop or step % hop or length < shortest or n_samples < length or (n_samples - length) % step:
        raise UsageError(
            f"windows of {length} samples every {step} do not suit {n_samples} samples in frames of {hop}. "
            f"Give multiples of {hop}, at least {shortest}, and pad the clip."
        )


def cut_windows(frames: Tensor, length: int, step: int) -> Tensor:
    """Frames [frames, filters] → a view of every `length` of them, `step` apart, [windows, length, filters]."""
    return frames.unfold(0, length, step).transpose(1, 2)


def window_squares(audio: Tensor, length: int, step: int, hop: int, beside: int = 0) -> Tensor:
    """Sum of squares of every window [k * step, k * step + length) of a clip [samples], float64 [windows].

    With `beside`, so many hops more on both sides. Sums of sums, so that quiet windows beside loud ones stay exact.
    """
    hops = audio.double().square().unflatten(0, (-1, hop)).sum(1)
    return pad(hops, (beside, beside)).unfold(0, length // hop + 2 * beside, step // hop).sum(1)
