"""What the encoders of one code base have in common, that of SSAST, Audio Mamba, AxLSTM and AudioMAE++.

Front end, units, patches, fixed positions, statistics, training crops, and the layout of the steps: the official code
reads its tokens, which run over time first, as if they ran over bands first (`layout="official"`, quirk
`scrambled-time`); `"corrected"` puts the bands of one step side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn import init

from hear_models.errors import UsageError
from hear_models.fields import a_share, at_least_one, one_of
from hear_models.frontends.logmel import LogMel
from hear_models.layers.init import materialise, xavier_
from hear_models.layers.patches import sincos_2d
from hear_models.layers.transformer import LAYER_NORM_EPS
from hear_models.pipeline.normalise import CONSTANT_BELOW, Standardise
from hear_models.pipeline.patch_model import POOLINGS, Grid, PatchModel

LAYOUTS = ("official", "corrected")
STATISTICS_EPS = 1e-8  # added to the clip's standard deviation


@dataclass(frozen=True)
class LayoutConfig:
    """Sizes and choices; the defaults are those of all published models."""

    width: int = 768  # of a token
    depth: int = 12  # blocks
    patch_frames: int = 4  # log-mel frames in a patch
    patch_bands: int = 16  # mel bands in a patch
    frames_per_unit: int = 200  # log-mel frames in a unit, 10 ms each
    n_mels: int = 80  # mel bands
    class_token: bool = True  # a class token in front of the patches, dropped from the embeddings
    layout: str = "official"  # which tokens make a step: "official" (scrambled), "corrected" (all bands of its time)
    mask_ratio: float = 0.5  # share of the patches that pretraining hides
    norm_pix_loss: bool = False  # pretraining target: each patch normalised by its own mean and variance
    training_pad: str = "repeat"  # a short training clip: "repeat" it, or "zero" behind it as at inference
    scene_pooling: str = "mean"  # steps → scene: "mean" (the paper's), or "mean+std" with twice the dimensions

    def __post_init__(self) -> None:
        """Refuse sizes that give no network, with a UsageError that names them."""
        at_least_one(self, "width", "depth", "patch_frames", "patch_bands", "frames_per_unit", "n_mels")
        a_share(self, "mask_ratio")
        one_of(self, layout=LAYOUTS, training_pad=("repeat", "zero"), scene_pooling=POOLINGS)
        for whole, piece in (("frames_per_unit", "patch_frames"), ("n_mels", "patch_bands")):
            if getattr(self, whole) % getattr(self, piece):
                raise UsageError(
                    f"{whole}={getattr(self, whole)} is no multiple of {piece}={getattr(self, piece)}. Correct one."
                )
        if self.width % 4:
            raise UsageError(f"width={self.width} is no multiple of 4, as the position table needs. Change it.")

    @property
    def grid(self) -> Grid:
        """Patches of a unit; tokens run over time first."""
        return Grid(self.frames_per_unit, self.n_mels, self.patch_frames, self.patch_bands)

    @property
    def pixel_ddof(self) -> int | None:
        """How the target of pretraining is normalised, as `reconstruct_patches` takes it."""
        return 1 if self.norm_pix_loss else None


def check_heads(width: int, heads: int, of: str = "heads") -> None:
    """UsageError unless attention heads divide the width."""
    if heads < 1 or width % heads:
        raise UsageError(f"{heads} {of} do not divide the width {width}. Choose another number of heads.")


class LayoutModel(PatchModel):
    """The encoder behind the HEAR API but for its blocks; a family says those, and what they begin with.

    Args:
        config: sizes; None: those of `config_class` as they stand there.
        layout: None = as the checkpoint says; "official" or "corrected", see `LayoutConfig`.
        timestamps: "centres" (true centres inside the clip) or "official" (every step, i * duration / steps); None: the
            one that goes with the layout.
        seed: seeds the random weights; None leaves them unallocated for a checkpoint to fill.
        decoder: build what pretraining adds too.
    """

    config: LayoutConfig
    config_class: type[LayoutConfig]  # a family's
    silent_below = CONSTANT_BELOW  # deviation of a clip's log-mel that counts as none

    def __init__(
        self,
        config: LayoutConfig | None = None,
        *,
        layout: str | None = None,
        timestamps: str | None = None,
        seed: int | None = 0,
        decoder: bool = False,
    ) -> None:
        c = config or self.config_class()
        layout = c.layout if layout is None else layout
        if layout not in LAYOUTS:
            raise UsageError(f"layout={layout!r} is unknown. Use one of {', '.join(LAYOUTS)}.")
        if timestamps is None:
            timestamps = "official" if layout == "official" else "centres"
        super().__init__(
            c,
            LogMel(n_mels=c.n_mels),
            c.grid,
            c.width,
            class_token=c.class_token,
            timestamps=timestamps,
            scene_pooling=c.scene_pooling,
            fill="zeros",
            folded_as=replace(c.grid, by_band=layout == "official"),  # quirk `scrambled-time`
        )
        self.layout = layout
        self.normalise = Standardise(ddof=1, eps=STATISTICS_EPS, constant_below=self.silent_below)
        with torch.device("meta"):
            norm = nn.LayerNorm(c.width, eps=LAYER_NORM_EPS)
            self.build((self.new_block(i) for i in range(c.depth)), norm, self.new_decoder() if decoder else None)
        if seed is not None:
            self.initialise(torch.Generator().manual_seed(seed))

    def new_block(self, i: int) -> nn.Module:
        """Block i; called on the meta device, with `config` in place."""
        raise NotImplementedError

    def new_decoder(self) -> nn.Module:
        """What pretraining adds; called on the meta device, with `config` in place."""
        raise NotImplementedError

    def initialise(self, rng: torch.Generator) -> None:
        """Random weights as the authors' pretraining draws them; the global random state is not touched."""
        c = self.config
        materialise(self)
        limit = (6 / (self.grid.pixels * (1 + c.width))) ** 0.5  # Xavier's; a convolution's fan_out is pixels * width
        init.uniform_(self.patch_embed.weight, -limit, limit, generator=rng)
        self.pos_embed.data[0, self.class_rows :] = sincos_2d(c.width, self.grid.columns, self.grid.rows)
        if c.class_token:
            init.normal_(self.cls_token, std=0.02, generator=rng)
        self.initialise_blocks(rng)
        init.ones_(self.norm.weight)  # type: ignore[arg-type]
        if self.decoder is not None:
            self.initialise_decoder(rng)

    def initialise_blocks(self, rng: torch.Generator) -> None:
        """Random weights of the blocks; everything in them is zero so far. Xavier's, unless a family knows better."""
        xavier_(self.blocks, rng)

    def initialise_decoder(self, rng: torch.Generator) -> None:
        """Random weights of what pretraining adds; everything in it is zero so far."""
        raise NotImplementedError

    # ------------------------------------------------------------------ pretraining

    def training_view(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A crop for pretraining: log-mel [frames, bands], standardised over the clip, cut at random.

        The last possible start is never drawn, as in the official code. float32 [frames_per_unit, bands].
        """
        frames = self.config.frames_per_unit
        mean, std = clip.mean(dtype=np.float64), clip.std(dtype=np.float64)
        start = int(rng.integers(0, len(clip) - frames)) if len(clip) > frames else 0
        crop = ((clip[start : start + frames] - mean) / (std + STATISTICS_EPS)).astype(np.float32)
        missing = ((0, frames - len(crop)), (0, 0))
        return np.pad(crop, missing) if self.config.training_pad == "zero" else np.pad(crop, missing, mode="wrap")

    def trained_config(self) -> LayoutConfig:
        """What we train has its steps in the order of time."""
        return replace(self.config, layout="corrected")

    def decays(self, name: str, parameter: torch.Tensor) -> bool:
        """Weight decay spares biases and everything of one dimension; class and mask token it does not."""
        return parameter.ndim > 1 and not name.endswith(".bias")
