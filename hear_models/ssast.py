"""SSAST: the transformer baseline of the Audio Mamba paper (Yadav & Tan, Interspeech 2024, arXiv 2406.02178).

A plain ViT on log-mel patches, pretrained by putting a mask token in the place of half of them; it shares the name, and
no weights, with the SSAST of Gong et al. (2022). A unit is 200 log-mel frames (2 s) x 80 bands; with patches of 4
frames x 16 bands it gives 50 steps of 40 ms, each the concatenation of 5 tokens: 5 x 768 = 3840 dimensions for base.
Which 5: the official code reads the tokens, which run over time first, as if they ran over bands first, so that
`layout="official"` scrambles the time axis within a unit; `"corrected"` puts the bands of one step side by side.
Here too stands what `hear_models.audio_mamba` has in common with it: all but the blocks. Code: Apache-2.0. The authors'
weights carry no licence of their own; fetch and convert them yourself (`hear-models convert ssast`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import init

from hear_models import zoo
from hear_models.checkpoints.facts import GIVEN, SETTINGS, SHAPES, Facts, patch_encoder
from hear_models.checkpoints.mapping import Official, Rule, Shapes
from hear_models.errors import CheckpointError, UsageError
from hear_models.fields import at_least_one, one_of
from hear_models.frontends.logmel import LogMel
from hear_models.layers.attention import Attention
from hear_models.layers.init import materialise, torch_default_
from hear_models.layers.masked import MaskedHead, Reconstruction
from hear_models.layers.patches import sincos_2d
from hear_models.layers.transformer import LAYER_NORM_EPS, Block
from hear_models.pipeline.capabilities import reconstruct
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.model import HearModel
from hear_models.pipeline.normalise import Standardise
from hear_models.pipeline.patch_model import POOLINGS, Grid, PatchModel

__all__ = ["Config", "Model", "get_scene_embeddings", "get_timestamp_embeddings", "load_model", "reconstruct"]

LAYOUTS = ("official", "corrected")
STATISTICS_EPS = 1e-8  # added to the clip's standard deviation


@dataclass(frozen=True)
class CommonConfig:
    """What the authors' three encoders have in common; the defaults are those of all published models."""

    width: int = 768  # of a token
    depth: int = 12  # blocks
    patch_frames: int = 4  # log-mel frames in a patch
    patch_bands: int = 16  # mel bands in a patch
    frames_per_unit: int = 200  # log-mel frames in a unit, 10 ms each
    n_mels: int = 80  # mel bands
    class_token: bool = True  # a class token in front of the patches, dropped from the embeddings
    layout: str = "official"  # which tokens make a step: "official" (scrambled), "corrected" (all bands of its time)
    mask_ratio: float = 0.5  # share of the patches that pretraining replaces
    mask_before_pos: bool = False  # the mask token replaces before positions are added, so that it has one
    loss_on: str = "all"  # pretraining loss: "all" patches, visible ones too (as published), or "masked" ones alone
    norm_pix_loss: bool = False  # pretraining target: each patch normalised by its own mean and variance
    training_pad: str = "repeat"  # a short training clip: "repeat" it, or "zero" behind it as at inference
    scene_pooling: str = "mean"  # steps → scene: "mean" (the paper's), or "mean+std" with twice the dimensions

    def __post_init__(self) -> None:
        """Refuse sizes that give no network, with a UsageError that names them."""
        at_least_one(self, "width", "depth", "patch_frames", "patch_bands", "frames_per_unit", "n_mels")
        one_of(self, layout=LAYOUTS, loss_on=("all", "masked"), training_pad=("repeat", "zero"), scene_pooling=POOLINGS)
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


@dataclass(frozen=True)
class Config(CommonConfig):
    """ssast_base_200_16x4; tiny and small differ in `width` and `heads`."""

    heads: int = 12  # attention heads
    mlp_ratio: float = 4.0  # hidden width of an MLP / token width

    def __post_init__(self) -> None:
        """Refuse sizes that give no network, with a UsageError that names them."""
        super().__post_init__()
        if self.heads < 1 or self.width % self.heads:
            raise UsageError(
                f"{self.heads} heads do not divide the width {self.width}. Choose another number of heads."
            )


class CommonModel(PatchModel):
    """The encoder behind the HEAR API but for its blocks; a family says those, and what they begin with.

    Args:
        config: sizes.
        block: makes block i; called on the meta device.
        layout: None = as the checkpoint says; "official" or "corrected", see `CommonConfig`.
        timestamps: "centres" (true centres inside the clip) or "official" (every step, i * duration / steps); None: the
            one that goes with the layout.
        seed: seeds the random weights; None leaves them unallocated for a checkpoint to fill.
        decoder: build what pretraining adds too: mask token and head.
    """

    config: CommonConfig
    decoder: MaskedHead | None

    def __init__(
        self,
        config: CommonConfig,
        block: Callable[[int], nn.Module],
        *,
        layout: str | None,
        timestamps: str | None,
        seed: int | None,
        decoder: bool,
    ) -> None:
        c = config
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
        self.normalise = Standardise(ddof=1, eps=STATISTICS_EPS)
        with torch.device("meta"):
            norm = nn.LayerNorm(c.width, eps=LAYER_NORM_EPS)
            head = MaskedHead(c.width, self.grid.pixels) if decoder else None
            self.build((block(i) for i in range(c.depth)), norm, head)
        if seed is not None:
            self.initialise(torch.Generator().manual_seed(seed))

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
            init.normal_(self.decoder.mask_token, std=0.02, generator=rng)
            for layer in (self.decoder.hidden, self.decoder.pred):
                torch_default_(layer.weight, layer.bias, rng)

    def initialise_blocks(self, rng: torch.Generator) -> None:
        """Random weights of the blocks; everything in them is zero so far."""
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

    def trained_config(self) -> CommonConfig:
        """What we train has its steps in the order of time."""
        return replace(self.config, layout="corrected")

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Weight decay spares biases and everything of one dimension; class and mask token it does not."""
        return parameter.ndim > 1 and not name.endswith(".bias")

    def reconstruct(self, units: Tensor, noise: Tensor, target_units: Tensor | None = None) -> Reconstruction:
        """Mean squared error of the pixels; see `capabilities.Reconstructs`."""
        c = self.config
        return self.reconstruct_replaced(
            units,
            noise,
            target_units,
            c.mask_ratio,
            loss_on_all=c.loss_on == "all",
            before_positions=c.mask_before_pos,
            pixel_ddof=1 if c.norm_pix_loss else None,
        )


class Model(CommonModel):
    """The encoder behind the HEAR API; arguments as `CommonModel`."""

    family = "ssast"
    config: Config

    def __init__(
        self,
        config: Config | None = None,
        *,
        layout: str | None = None,
        timestamps: str | None = None,
        seed: int | None = 0,
        decoder: bool = False,
    ) -> None:
        c = config or Config()
        super().__init__(
            c,
            lambda i: Block(Attention(c.width, c.heads), c.width, c.mlp_ratio, gelu="none"),
            layout=layout,
            timestamps=timestamps,
            seed=seed,
            decoder=decoder,
        )

    def initialise_blocks(self, rng: torch.Generator) -> None:
        """Xavier's weights, no biases."""
        for module in self.blocks.modules():
            if isinstance(module, nn.LayerNorm):
                init.ones_(module.weight)
            elif isinstance(module, nn.Linear):
                init.xavier_uniform_(module.weight, generator=rng)


COMMON_RULES = (
    Rule("cls_token", "cls_token"),
    Rule("pos_embed", "pos_embed"),
    Rule("patch_embed.proj.{tensor}", "patch_embed.{tensor}"),
    Rule("encoder_norm.{tensor}", "norm.{tensor}"),
    Rule("mask_token", "decoder.mask_token"),
    Rule("pred.0.{tensor}", "decoder.hidden.{tensor}"),
    Rule("pred.2.{tensor}", "decoder.pred.{tensor}"),
)
# family: part of a key that only its blocks have
TELLTALES = {"ssast": ".attn.qkv_layer.", "audio_mamba": ".mixer.A_log", "axlstm": ".mlstm_cell."}
HEADS = {192: 3, 384: 6, 512: 8, 768: 12, 1024: 16, 1280: 16}  # by width: the sizes that the official code knows


def official_family(keys: Collection[str]) -> str | None:
    """The blocks tell which of the authors' encoders it is."""
    return next((family for family, part in TELLTALES.items() if any(part in key for key in keys)), None)


def infer_config(
    config_class: type[CommonConfig],
    blocks: Callable[[Shapes, Facts], None],
    shapes: Shapes,
    trainer: Mapping[str, Any],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """The Config behind an official checkpoint: shapes first, then what the user set, then the trainer's settings.

    `blocks` adds what is the family's own. The trainer's settings are believed in what no shape tells: the bands and
    the ratio of masking. Values that contradict a shape, and those that stay unknown, are errors.
    """
    facts = Facts()
    facts.add_all(patch_encoder(shapes, "width", "depth"), SHAPES)
    facts.add_all(given, GIVEN)
    blocks(shapes, facts)
    arguments = trainer.get("args")
    saved = arguments.get("config") if isinstance(arguments, Mapping) else None
    settings = (trainer.get("model") or (saved or {}).get("model") or {}).get("model_args") or {}
    if settings.get("frequency_first"):
        raise CheckpointError(
            "the checkpoint was trained with frequency_first=true, where the official code mixes channels and bands. "
            "It is not supported; none was published."
        )
    v = facts.values
    if "mask_ratio" in settings and "mask_ratio" not in v:
        facts.add("mask_ratio", settings["mask_ratio"], SETTINGS)
    if "n_mels" not in v:
        image = settings.get("img_size") or (config_class.frames_per_unit, config_class.n_mels)
        facts.add("n_mels", image[1], SETTINGS)
    tokens = shapes.of("pos_embed", 3)[1] - v["class_token"]
    bands = v["n_mels"] // v["patch_bands"]
    if bands < 1 or tokens % bands:
        raise CheckpointError(
            f"pos_embed has {tokens} tokens, which {v['n_mels']} bands in patches of {v['patch_bands']} do not divide. "
            "Give --set n_mels=N."
        )
    facts.add("frames_per_unit", tokens // bands * v["patch_frames"], "the tokens of pos_embed")
    return asdict(config_class(**v))


def block_sizes(shapes: Shapes, facts: Facts) -> None:
    """Hidden width of the MLP, and heads: those are not in the weights and follow from the published widths."""
    width = facts.values["width"]
    facts.add("mlp_ratio", shapes.of("blocks.0.mlp.fc1.weight", 2)[0] / width, SHAPES)
    if "heads" not in facts.values:
        if width not in HEADS:
            raise CheckpointError(f"the weights (width {width}) do not tell the attention heads. Give --set heads=N.")
        facts.add("heads", HEADS[width], "the published size of that width")


OFFICIAL = Official(
    format="torch",
    rules=(
        *COMMON_RULES,
        Rule("blocks.{i}.attn.qkv_layer.{tensor}", "blocks.{i}.attn.qkv.{tensor}"),
        Rule("blocks.{i}.attn.proj_layer.{tensor}", "blocks.{i}.attn.proj.{tensor}"),
        Rule("blocks.{i}.mlp.layer{n}.{tensor}", "blocks.{i}.mlp.fc{n}.{tensor}"),
        Rule("blocks.{i}.norm{n}.{tensor}", "blocks.{i}.norm{n}.{tensor}"),
    ),
    recognise=official_family,
    infer=partial(infer_config, Config, block_sizes),
    settings_keys=("model",),
)


def load_model(model_file_path: str = "", **options: Any) -> HearModel:
    """HEAR 2021: the model behind a registry name, a converted checkpoint, or (no path) the default `ssast-nano`.

    Args:
        model_file_path: registry name or `.safetensors` file; "" for the family's default.
        options: `layout="official" | "corrected"`, `timestamps="centres" | "official"`, `dtype="float32" | "bfloat16"`.
    """
    return zoo.load_model(model_file_path, family="ssast", **options)
