"""What the front ends on raw audio share: the check of their input and of their sizes."""

from __future__ import annotations

import torch
from torch import Tensor

from hear_models.errors import UsageError


def check_waveform(audio: Tensor) -> Tensor:
    """Audio [clips, samples] → the same in float32, or in float64 if it was; anything else is a UsageError."""
    if audio.ndim != 2 or audio.shape[1] == 0 or not audio.is_floating_point():
        found = f"{audio.dtype} {list(audio.shape)}".removeprefix("torch.")
        raise UsageError(f"audio is {found}. Give floating point [clips, samples], at least one sample.")
    return audio.to(torch.promote_types(audio.dtype, torch.float32))


def check_sizes(n_filters: int, window_samples: int, hop_samples: int, sample_rate: int) -> None:
    """Refuse sizes that give no frames, with a UsageError that says what would."""
    for name, value in (("n_filters", n_filters), ("hop_samples", hop_samples), ("sample_rate", sample_rate)):
        if value < 1:
            raise UsageError(f"{name} is {value}. Give at least 1.")
    if window_samples < 3 or window_samples % 2 == 0:
        raise UsageError(f"window_samples is {window_samples}. Give an odd number from 3: its middle is a sample.")


def check_init(init: str, inits: tuple[str, ...]) -> None:
    """Refuse an unknown way to draw initial filters."""
    if init not in inits:
        raise UsageError(f"init is {init!r}. Use one of {', '.join(inits)}.")


def half_normal(n: int, rng: torch.Generator) -> Tensor:
    """[n] values in [0, 1]: the positive half of a normal distribution cut at one deviation, stretched to both ends."""
    if n < 2:
        raise UsageError('n_filters is too small to stretch. Give at least 2, or init="uniform".')
    drawn = torch.nn.init.trunc_normal_(torch.empty(n), a=0.0, b=1.0, generator=rng)
    return (drawn - drawn.min()) / (drawn.max() - drawn.min())
