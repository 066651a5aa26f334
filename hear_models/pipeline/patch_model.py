"""What patch encoders share: a grid of patches over a unit of log-mel frames, plan, positions, class token, folding.

A family built on this supplies its Config, its blocks and their initial values, and its official mapping. One level of
subclassing: `hear_models.mwmae` is the pattern.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hear_models.errors import UsageError
from hear_models.frontends.logmel import LogMel
from hear_models.layers.masked import (
    MaskedDecoder,
    MaskedHead,
    Reconstruction,
    pixel_loss,
    pixel_target,
    reconstruct_patches,
)
from hear_models.layers.patches import PatchEmbed, cut_patches, cut_patches_by_band, random_masking
from hear_models.pipeline.fill import Fill
from hear_models.pipeline.model import HearModel
from hear_models.pipeline.plan import Plan, Purpose, Unit, centre_times

POOLINGS = ("mean", "mean+std")


@dataclass(frozen=True)
class Grid:
    """The patches of a unit [frames, bands]; what is left over at its end belongs to no patch.

    Tokens run over time first (token = column * rows + row), or, `by_band`, over bands first (row * columns + column).
    """

    frames: int
    bands: int
    patch_frames: int
    patch_bands: int
    by_band: bool = False

    @property
    def columns(self) -> int:
        """Patches over time: the steps of a unit."""
        return self.frames // max(1, self.patch_frames)

    @property
    def rows(self) -> int:
        """Patches over bands: what is put side by side in a step."""
        return self.bands // max(1, self.patch_bands)

    @property
    def tokens(self) -> int:
        """Patches of a unit."""
        return self.columns * self.rows

    @property
    def pixels(self) -> int:
        """Values of a patch."""
        return self.patch_frames * self.patch_bands

    def cut(self, units: Tensor) -> Tensor:
        """[units, frames, bands] → patches [units, tokens, pixels]."""
        return (cut_patches_by_band if self.by_band else cut_patches)(units, self.patch_frames, self.patch_bands)

    def rows_of(self, tokens: Tensor) -> Tensor:
        """[units, tokens, width] → [units, columns, rows, width]; fewer columns than a unit's are fine."""
        if self.by_band:
            by_row: Tensor = tokens.unflatten(1, (self.rows, -1))
            return by_row.transpose(1, 2)
        by_column: Tensor = tokens.unflatten(1, (-1, self.rows))
        return by_column


class PatchModel(HearModel):
    """A patch encoder behind the HEAR API.

    Args:
        config: the family's.
        frontend: of the log-mel.
        grid: patches of a unit.
        width: of a token.
        class_token: whether a learned token stands in front of the patches; it is dropped from the embeddings.
        timestamps: "centres" (true centres inside the clip) or "official" (every step, i * duration / steps).
        scene_pooling: "mean" or "mean+std".
        fill: what stands behind a clip that ends before its last unit does.
        trim: True cuts the last unit after its last patch, instead of filling it.
        folded_as: the grid by whose order `fold_steps` reads the tokens, if an official release reads them by another
            than they are in; None: `grid`.
    """

    frontend: LogMel
    decoder: nn.Module | None  # what pretraining adds

    def __init__(
        self,
        config: object,
        frontend: LogMel,
        grid: Grid,
        width: int,
        *,
        class_token: bool,
        timestamps: str = "centres",
        scene_pooling: str = "mean",
        fill: Fill = "reflect",
        trim: bool = False,
        folded_as: Grid | None = None,
    ) -> None:
        super().__init__(timestamps)
        if min(width, grid.patch_frames, grid.patch_bands) < 1 or grid.tokens < 1:
            raise UsageError(
                f"tokens of width {width} and patches of {grid.patch_frames} frames x {grid.patch_bands} bands do not "
                f"make a grid over {grid.frames} x {grid.bands}. Change one of them."
            )
        self.config = config  # type: ignore[assignment]  # families declare their own type
        self.frontend = frontend
        self.grid, self.width, self.class_rows = grid, width, int(class_token)
        self.fill, self.trim = fill, trim
        self.folded_as = folded_as or grid
        self.unit_frames = grid.frames  # of a unit at inference
        self.sample_rate = frontend.sample_rate
        self.min_samples = frontend.min_samples
        self.timestamp_embedding_size = grid.rows * width
        self.scene_pooling = scene_pooling
        self.scene_embedding_size = self.timestamp_embedding_size * (2 if scene_pooling == "mean+std" else 1)

    def build(
        self,
        blocks: Iterable[nn.Module],
        norm: nn.Module,
        decoder: nn.Module | None = None,
        *,
        trained_positions: bool = False,
    ) -> None:
        """Add the network; to be called on the meta device, in the order in which random weights are drawn."""
        patch = (self.grid.patch_frames, self.grid.patch_bands)
        self.patch_embed = PatchEmbed(*(patch[::-1] if self.grid.by_band else patch), self.width)
        if self.class_rows:
            self.cls_token = nn.Parameter(torch.empty(1, 1, self.width))
        positions = torch.empty(1, self.class_rows + self.grid.tokens, self.width)
        self.pos_embed = nn.Parameter(positions, trained_positions)
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.decoder = decoder

    # ------------------------------------------------------------------ what happens to a clip

    def n_steps(self, n_frames: int) -> int:
        """Steps that belong to a clip of `n_frames`: those of patches with any real frame."""
        units = math.ceil(n_frames / self.unit_frames)
        per_unit = self.unit_frames // self.grid.patch_frames
        missing = units * self.unit_frames - n_frames
        return units * per_unit - per_unit * missing // self.unit_frames

    def plan(self, n_samples: int, purpose: Purpose) -> Plan:
        """Consecutive units; the last of them is filled, or cut after its last patch."""
        patch, hop = self.grid.patch_frames, self.frontend.hop_samples
        n_steps = self.n_steps(self.frontend.n_frames(max(n_samples, self.min_samples)))
        per_unit = self.unit_frames // patch
        units = []
        for first in range(0, n_steps, per_unit):
            kept = min(per_unit, n_steps - first)
            length = kept * patch if self.trim else self.unit_frames
            units.append(Unit(first // per_unit * self.unit_frames, length, kept))
        if self.timestamps == "official":
            times = np.arange(n_steps) * (1000.0 * n_samples / self.sample_rate / n_steps)
        else:
            times = centre_times(hop * patch, hop * (patch - 1) / 2, n_steps, n_samples, self.sample_rate)
        return Plan(n_samples, tuple(units), n_steps, times, fill=self.fill)

    def spectrogram(self, clip: Tensor) -> Tensor:
        """[samples] → log-mel [frames, n_mels]."""
        log_mel: Tensor = self.frontend(clip[None])[0]
        return log_mel

    # ------------------------------------------------------------------ the network

    def network(self, units: Tensor) -> Tensor:
        """[units, frames, bands] → steps [units, steps, rows * width]."""
        return self.fold_steps(self.through_blocks(self.embed(units.to(self.compute_dtype)))[-1])

    def layers(self, units: Tensor) -> list[Tensor]:
        """[units, frames, bands] → the steps of every block, the last after the final norm."""
        return [self.fold_steps(tokens) for tokens in self.through_blocks(self.embed(units.to(self.compute_dtype)))]

    def embed(self, units: Tensor) -> Tensor:
        """[units, frames, bands] → tokens with positions [units, class + tokens, width]."""
        return self.embed_patches(self.grid.cut(units))

    def embed_patches(self, patches: Tensor, ids: Tensor | None = None) -> Tensor:
        """Patches [units, tokens, pixels], at grid positions `ids` [units, tokens] (None: all in order) → tokens."""
        if ids is None:
            position = self.positions(patches.shape[1] // self.grid.rows)
        else:
            position = self.pos_embed[0, self.class_rows :][ids]
        return self.with_class_token(self.patch_embed(patches) + position)

    def positions(self, columns: int) -> Tensor:
        """The table's rows of the patches of the first `columns` steps, [rows * columns, width]."""
        table = self.pos_embed[0, self.class_rows :]
        if columns == self.grid.columns:
            return table
        if not self.grid.by_band:
            return table[: columns * self.grid.rows]
        by_row: Tensor = table.unflatten(0, (self.grid.rows, -1))
        return by_row[:, :columns].flatten(0, 1)

    def with_class_token(self, tokens: Tensor) -> Tensor:
        """The class token, if there is one, with its position in front of `tokens` [units, tokens, width]."""
        if not self.class_rows:
            return tokens
        class_token = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
        return torch.cat([class_token.to(tokens.dtype), tokens], dim=1)

    def through_blocks(self, tokens: Tensor) -> list[Tensor]:
        """Outputs of every block [units, tokens, width], the last one after the final norm."""
        outputs = []
        for block in self.blocks:
            tokens = block(tokens)
            outputs.append(tokens)
        return [*outputs[:-1], self.norm(outputs[-1])]

    def fold_steps(self, tokens: Tensor) -> Tensor:
        """Drop the class token; put the tokens of a time step side by side, low band first: [units, steps, dim]."""
        return self.folded_as.rows_of(tokens[:, self.class_rows :]).flatten(2)

    # ------------------------------------------------------------------ pretraining

    @property
    def n_tokens(self) -> int:
        """Patches of a crop."""
        return self.grid.tokens

    @property
    def crop_frames(self) -> int:
        """Frames of a crop: of a unit."""
        return self.grid.frames

    def reconstruct_dropped(
        self,
        units: Tensor,
        noise: Tensor,
        target_units: Tensor | None,
        mask_ratio: float,
        *,
        n_keep: int | None = None,
        pixel_ddof: int | None = None,
    ) -> Reconstruction:
        """Encode the visible patches only, predict all by the decoder (He et al. 2022); see `reconstruct_patches`."""
        if not isinstance(self.decoder, MaskedDecoder):
            raise UsageError(f"pretraining {self.family} needs its decoder. Load the model with decoder=True.")
        patches = self.grid.cut(units)
        return reconstruct_patches(
            lambda visible, ids: self.through_blocks(self.embed_patches(visible, ids))[-1],
            self.decoder,
            patches,
            patches if target_units is None else self.grid.cut(target_units),
            noise,
            mask_ratio,
            n_keep=n_keep,
            pixel_ddof=pixel_ddof,
        )

    def reconstruct_replaced(
        self,
        units: Tensor,
        noise: Tensor,
        target_units: Tensor | None,
        mask_ratio: float,
        *,
        loss_on_all: bool = False,
        before_positions: bool = True,
        pixel_ddof: int | None = None,
    ) -> Reconstruction:
        """Put a learned token in the place of masked ones, encode all, predict all from the encoder's own tokens.

        Args:
            units, noise, target_units: as for `capabilities.Reconstructs`.
            mask_ratio: as in `random_masking`.
            loss_on_all: the loss is over all patches, visible ones too, not over the masked ones alone.
            before_positions: False replaces tokens that have their position already, so that it is lost.
            pixel_ddof: as in `reconstruct_patches`.
        """
        head = self.decoder
        if not isinstance(head, MaskedHead):
            raise UsageError(f"pretraining {self.family} needs its decoder. Load the model with decoder=True.")
        _, mask, ids_restore = random_masking(noise, mask_ratio)
        target = pixel_target(self.grid.cut(units if target_units is None else target_units), pixel_ddof)
        tokens, positions = self.patch_embed(self.grid.cut(units)), self.positions(self.grid.columns)
        tokens = head.replace(tokens, mask) + positions if before_positions else head.replace(tokens + positions, mask)
        encoded = self.through_blocks(self.with_class_token(tokens))[-1]
        pred = head(encoded[:, self.class_rows :]).float()
        return Reconstruction(pixel_loss(pred, target, None if loss_on_all else mask), pred, target, mask, ids_restore)
