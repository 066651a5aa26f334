"""Patches of a spectrogram: cutting, embedding, position tables, random masking."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


def cut_patches(units: Tensor, patch_frames: int, patch_bands: int) -> Tensor:
    """[units, frames, bands] → [units, tokens, patch_frames * patch_bands].

    Tokens run over time first: token = t * bands_per_grid + f. Inside a patch the order is (frame, band).
    """
    n_units, frames, bands = units.shape
    grid = units.reshape(n_units, frames // patch_frames, patch_frames, bands // patch_bands, patch_bands)
    return grid.transpose(2, 3).reshape(n_units, -1, patch_frames * patch_bands)


def cut_patches_by_band(units: Tensor, patch_frames: int, patch_bands: int) -> Tensor:
    """[units, frames, bands] → [units, tokens, patch_bands * patch_frames], the order of images [bands, frames].

    Tokens run over bands first: token = f * frames_per_grid + t. Inside a patch the order is (band, frame).
    """
    return cut_patches(units.transpose(1, 2), patch_bands, patch_frames)


class PatchEmbed(nn.Module):
    """A convolution whose stride is its kernel [rows, columns], done as one matrix product over cut patches."""

    def __init__(self, rows: int, columns: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, 1, rows, columns))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, patches: Tensor) -> Tensor:
        """Cut patches [units, tokens, pixels] → tokens [units, tokens, width]."""
        return linear(patches, self.weight.flatten(1), self.bias)


def sincos_1d(width: int, positions: Tensor) -> Tensor:
    """[positions] → [positions, width], float32: sines, then cosines, of position * 10000^(-k / (width / 2))."""
    omega = 10_000.0 ** -(torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angle = positions.double()[:, None] * omega
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def sincos_2d(width: int, grid_frames: int, grid_bands: int) -> Tensor:
    """[grid_frames * grid_bands, width]: half of the width encodes the band, the other half the time, band first."""
    frame = torch.arange(grid_frames).repeat_interleave(grid_bands)
    band = torch.arange(grid_bands).repeat(grid_frames)
    return torch.cat([sincos_1d(width // 2, band), sincos_1d(width // 2, frame)], dim=1)


def sincos_1d_interleaved(width: int, positions: Tensor) -> Tensor:
    """[positions] → [positions, width], float32: as `sincos_1d`, but sine and cosine of a frequency side by side."""
    halves = sincos_1d(width, positions)
    return torch.stack([halves[:, : width // 2], halves[:, width // 2 :]], dim=2).flatten(1)


def sincos_2d_by_band(width: int, grid_frames: int, grid_bands: int) -> Tensor:
    """[grid_bands * grid_frames, width], rows band by band: half of the width encodes the time, the other the band."""
    frame = torch.arange(grid_frames).repeat(grid_bands)
    band = torch.arange(grid_bands).repeat_interleave(grid_frames)
    return torch.cat([sincos_1d(width // 2, frame), sincos_1d(width // 2, band)], dim=1)


def random_masking(noise: Tensor, mask_ratio: float, n_keep: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Which tokens stay visible: those with the smallest noise, in the order of their noise.

    Args:
        noise: [units, tokens], one number a token; ties go to the lower index (stable sort).
        mask_ratio: share of the tokens to remove, in (0, 1); `int(tokens * (100 - 100 * mask_ratio) / 100)` stay.
        n_keep: how many stay, instead.

    Returns:
        ids_keep [units, kept], mask [units, tokens] (0 visible, 1 removed, float32), ids_restore [units, tokens].
    """
    n_tokens = noise.shape[1]
    if n_keep is None:
        n_keep = int(n_tokens * (100 - 100 * mask_ratio) / 100)
    ids_shuffle = noise.argsort(dim=1, stable=True)
    ids_restore = ids_shuffle.argsort(dim=1)
    mask = (ids_restore >= n_keep).float()
    return ids_shuffle[:, :n_keep], mask, ids_restore
