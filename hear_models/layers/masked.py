"""Masked pretraining of a patch encoder: what predicts removed or replaced patches, and the loss on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from hear_models.layers.patches import random_masking
from hear_models.layers.transformer import LAYER_NORM_EPS


class MaskedDecoder(nn.Module):
    """Predicts the pixels of every patch from the encoded visible ones.

    Args:
        encoder_width, width: of the encoder's tokens and of the decoder's.
        blocks: of the decoder.
        tokens: patches of a unit.
        pixels: of a patch.
        class_rows: rows in front of the patches, 1 with a class token, else 0.
        trained_positions: whether the position table is trained.
    """

    def __init__(
        self,
        encoder_width: int,
        width: int,
        blocks: Iterable[nn.Module],
        tokens: int,
        pixels: int,
        class_rows: int,
        trained_positions: bool = True,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, tokens + class_rows, width), trained_positions)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.pred = nn.Linear(width, pixels)
        self.class_rows = class_rows

    def forward(self, encoded: Tensor, ids_restore: Tensor) -> Tensor:
        """Encoded visible tokens [units, class + kept, width], order [units, tokens] → [units, tokens, pixels]."""
        x = self.embed(encoded)
        class_token, visible = x[:, : self.class_rows], x[:, self.class_rows :]
        masked = self.mask_token.to(x.dtype).expand(x.shape[0], ids_restore.shape[1] - visible.shape[1], -1)
        order = ids_restore[:, :, None].expand(-1, -1, x.shape[2])
        x = torch.cat([class_token, torch.cat([visible, masked], dim=1).gather(1, order)], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.pred(self.norm(x))[:, self.class_rows :]


class MaskedHead(nn.Module):
    """A learned token in the place of masked ones, and the pixels of every patch from the encoder's own tokens.

    Args:
        width: of the encoder's tokens.
        pixels: of a patch.
    """

    def __init__(self, width: int, pixels: int) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.hidden = nn.Linear(width, width)
        self.pred = nn.Linear(width, pixels)

    def replace(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens [units, tokens, width] with the mask token where `mask` [units, tokens] is 1."""
        return torch.where(mask[:, :, None] > 0, self.mask_token.to(tokens.dtype), tokens)

    def forward(self, encoded: Tensor) -> Tensor:
        """Encoded tokens [units, tokens, width] → [units, tokens, pixels]."""
        return self.pred(gelu(self.hidden(encoded)))


class Reconstruction(NamedTuple):
    """What one pretraining step computes; shapes in `reconstruct_patches`."""

    loss: Tensor
    pred: Tensor
    target: Tensor
    mask: Tensor
    ids_restore: Tensor


def reconstruct_patches(
    encode: Callable[[Tensor, Tensor], Tensor],
    decode: Callable[[Tensor, Tensor], Tensor],
    patches: Tensor,
    target: Tensor,
    noise: Tensor,
    mask_ratio: float,
    n_keep: int | None = None,
    pixel_ddof: int | None = None,
) -> Reconstruction:
    """Hide patches, encode the others, predict all: the mean squared error of the pixels of the hidden ones.

    Args:
        encode: (visible patches [units, kept, pixels], their grid positions [units, kept]) → encoded tokens.
        decode: (encoded tokens, ids_restore [units, tokens]) → pixels [units, tokens, pixels].
        patches: [units, tokens, pixels], what the network sees.
        target: the same shape, what it predicts.
        noise: [units, tokens], uniform; the patches with the smallest noise stay visible.
        mask_ratio, n_keep: as in `random_masking`.
        pixel_ddof: None, or each target patch is normalised by its own mean and variance with this ddof.

    Returns:
        loss (scalar), pred and target [units, tokens, pixels], mask [units, tokens] (1 = removed), ids_restore.
    """
    ids_keep, mask, ids_restore = random_masking(noise, mask_ratio, n_keep)
    visible = patches.gather(1, ids_keep[:, :, None].expand(-1, -1, patches.shape[2]))
    pred = decode(encode(visible, ids_keep), ids_restore).float()
    target = pixel_target(target, pixel_ddof)
    return Reconstruction(pixel_loss(pred, target, mask), pred, target, mask, ids_restore)


def pixel_target(patches: Tensor, pixel_ddof: int | None) -> Tensor:
    """Patches [..., pixels] as they are predicted: each normalised by its own mean and variance, or (None) as is."""
    if pixel_ddof is None:
        return patches
    var, mean = torch.var_mean(patches, dim=-1, keepdim=True, correction=pixel_ddof)
    return (patches - mean) / (var + 1e-6).sqrt()


def pixel_loss(pred: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    """Mean squared error of [units, tokens, pixels]: of patches where `mask` [units, tokens] is 1; None: of all."""
    per_patch = (pred - target).square().mean(dim=-1)
    return per_patch.mean() if mask is None else (per_patch * mask).sum() / mask.sum()
