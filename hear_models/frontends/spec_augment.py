"""SpecAugment (Park et al. 2019) as COLA's pretraining has it: bands and frames of a spectrogram are hidden."""

from __future__ import annotations

import torch
from torch import Tensor


def hidden(draws: Tensor, frames: int, bands: int, most_bands: float = 10.0, most_frames: float = 10.0) -> Tensor:
    """Which elements are hidden: each round one run of bands and one of frames.

    Widths and places are real numbers; index j is hidden where start <= j < start + width.

    Args:
        draws: uniform in [0, 1), [rounds, 2, 2, clips]: bands or frames; width or place.
        frames, bands: of the spectrograms.
        most_bands, most_frames: the widest run.

    Returns:
        bool [clips, frames, bands].
    """
    hidden_bands = runs(draws[:, 0], bands, most_bands)  # [clips, bands]
    hidden_frames = runs(draws[:, 1], frames, most_frames)
    return hidden_frames[:, :, None] | hidden_bands[:, None, :]


def runs(draws: Tensor, size: int, most: float) -> Tensor:
    """Draws [rounds, 2, clips] → bool [clips, size]: in a run of any round."""
    width = draws[:, 0, :, None] * most
    start = draws[:, 1, :, None] * (size - width)
    index = torch.arange(size, device=draws.device)
    return ((start <= index) & (index < start + width)).any(0)


def spec_augment(features: Tensor, rng: torch.Generator, rounds: int = 2, coupled: bool = False) -> Tensor:
    """[clips, frames, bands] → the same with up to 10 bands and 10 frames zero in each round, drawn per clip.

    Args:
        features: the output of a front end.
        rng: where runs come from; the global random state is not touched.
        rounds: pairs of runs.
        coupled: one draw serves as width and as place, as in the original (quirk `coupled-masks`): wide runs lie at
            the end, narrow ones at the beginning. False draws both.
    """
    clips, frames, bands = features.shape
    draws = torch.rand(rounds, 2, 1 if coupled else 2, clips, generator=rng, device=rng.device).to(features.device)
    return features.masked_fill(hidden(draws.expand(-1, -1, 2, -1), frames, bands), 0.0)
