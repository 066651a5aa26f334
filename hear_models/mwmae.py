"""MW-MAE: masked autoencoders with multi-window local-global attention (Yadav et al., ICLR 2024, arXiv 2306.00561).

A plain ViT encoder on log-mel patches; what is peculiar stands in the decoder, where every attention head has a
non-overlapping window of its own. The MAE baseline (`hear_models.mae`) is the same network with plain decoder attention
and a class token. A unit is 200 log-mel frames (2 s) x 80 bands; with patches of 4 frames x 16 bands it gives 50 steps
of 40 ms, each the concatenation of its 5 band tokens, low band first: 5 x 768 = 3840 dimensions for the base model.
Code: Apache-2.0. The authors' weights carry no licence of their own; fetch and convert them yourself
(`hear-models convert mwmae`), and do not redistribute them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import init

from hear_models import zoo
from hear_models.checkpoints.facts import GIVEN, SETTINGS, SHAPES, Facts, check_positions, masked_decoder, patch_encoder
from hear_models.checkpoints.mapping import Official, Rule, Shapes
from hear_models.errors import CheckpointError, UsageError
from hear_models.fields import a_share, at_least_one, check_fields, one_of
from hear_models.frontends.logmel import LogMel
from hear_models.layers.attention import Attention, MultiWindowAttention
from hear_models.layers.init import lecun_normal_, materialise
from hear_models.layers.masked import MaskedDecoder, Reconstruction
from hear_models.layers.patches import sincos_1d, sincos_2d
from hear_models.layers.transformer import LAYER_NORM_EPS, Block
from hear_models.pipeline.capabilities import reconstruct
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.model import HearModel
from hear_models.pipeline.normalise import Standardise
from hear_models.pipeline.patch_model import POOLINGS, Grid, PatchModel

__all__ = [
    "Config",
    "Model",
    "get_scene_embeddings",
    "get_timestamp_embeddings",
    "load_model",
    "reconstruct",
    "window_rule",
]

STATISTICS_EPS = 1e-8  # added to the clip's standard deviation


@dataclass(frozen=True)
class Config:
    """MW-MAE-B-4x16-4l, the published default."""

    encoder_width: int = 768  # token width of the encoder
    encoder_depth: int = 12  # encoder blocks
    encoder_heads: int = 12  # attention heads of an encoder block
    mlp_ratio: float = 4.0  # hidden width of an MLP / token width
    patch_frames: int = 4  # log-mel frames in a patch
    patch_bands: int = 16  # mel bands in a patch
    frames_per_unit: int = 200  # log-mel frames in a unit, 10 ms each
    n_mels: int = 80  # mel bands
    decoder_width: int = 384  # token width of the decoder
    decoder_depth: int = 4  # decoder blocks
    decoder_windows: tuple[int, ...] = (2, 5, 10, 25, 50, 125, 0, 0)  # tokens each decoder head sees, 0 = all
    decoder_shift_windows: bool = False  # roll the windows of odd decoder blocks by half (in no published model)
    class_token: bool = False  # a class token in front of the patches (MAE only)
    mask_ratio: float = 0.8  # share of the patches that pretraining removes
    norm_pix_loss: bool = False  # pretraining target: each patch normalised by its own mean and variance
    scene_pooling: str = "mean"  # steps → scene: "mean" (the paper's), or "mean+std" with twice the dimensions
    statistics_ddof: int = 1  # ddof of the clip's standard deviation: 1 official inference, 0 as in pretraining

    def __post_init__(self) -> None:
        """Refuse sizes that give no network, with a UsageError that names them."""
        at_least_one(self, "encoder_width", "encoder_depth", "patch_frames", "patch_bands", "decoder_width")
        a_share(self, "mask_ratio")
        one_of(self, scene_pooling=POOLINGS)
        for part, heads, width in (
            ("encoder", self.encoder_heads, self.encoder_width),
            ("decoder", len(self.decoder_windows), self.decoder_width),
        ):
            if heads < 1 or width % heads:
                raise UsageError(
                    f"{heads} {part} heads do not divide the width {width}. Choose another number of heads."
                )

    @property
    def grid(self) -> tuple[int, int]:
        """Patches of a unit over time and over bands."""
        return self.frames_per_unit // self.patch_frames, self.n_mels // self.patch_bands

    @property
    def tokens(self) -> int:
        """Patches of a unit."""
        return math.prod(self.grid)


def window_rule(tokens: int) -> tuple[int, ...]:
    """The paper's windows for `tokens` patches: its divisors above 1, rising, then the whole once more (whole = 0).

    250 patches give (2, 5, 10, 25, 50, 125, 0, 0).
    """
    proper = [d for d in range(2, tokens) if tokens % d == 0]
    return (*proper, 0, 0)


class Model(PatchModel):
    """The encoder behind the HEAR API; the decoder only when pretraining asks for it.

    Args:
        config: sizes.
        timestamps: "centres" (true centres inside the clip) or "official" (every step, i * duration / steps).
        seed: seeds the random weights; None leaves them unallocated for a checkpoint to fill.
        decoder: build the decoder too.
    """

    family = "mwmae"
    config: Config
    decoder: MaskedDecoder | None

    def __init__(
        self, config: Config | None = None, *, timestamps: str = "centres", seed: int | None = 0, decoder: bool = False
    ) -> None:
        c = config or Config()
        super().__init__(
            c,
            LogMel(n_mels=c.n_mels),
            Grid(c.frames_per_unit, c.n_mels, c.patch_frames, c.patch_bands),
            c.encoder_width,
            class_token=c.class_token,
            timestamps=timestamps,
            scene_pooling=c.scene_pooling,
        )
        self.normalise = Standardise(ddof=c.statistics_ddof, eps=STATISTICS_EPS)
        with torch.device("meta"):
            blocks = (
                Block(Attention(c.encoder_width, c.encoder_heads), c.encoder_width, c.mlp_ratio)
                for _ in range(c.encoder_depth)
            )
            norm = nn.LayerNorm(c.encoder_width, eps=LAYER_NORM_EPS)
            self.build(blocks, norm, build_decoder(c) if decoder else None, trained_positions=True)
        if seed is not None:
            initialise(self, seed)

    # ------------------------------------------------------------------ pretraining (section 3 of the paper)

    def training_view(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A crop for pretraining: log-mel [frames, bands], standardised over the clip, cut at random.

        A clip shorter than a unit is continued by reflection, as at inference. float32 [frames_per_unit, bands].
        """
        frames = self.config.frames_per_unit
        mean, std = clip.mean(dtype=np.float64), clip.std(dtype=np.float64)
        start = int(rng.integers(0, max(0, len(clip) - frames) + 1))
        crop = clip[start : start + frames]
        crop = np.pad(crop, ((0, frames - len(crop)), (0, 0)), mode="reflect")
        return ((crop - mean) / (std + STATISTICS_EPS)).astype(np.float32)

    def trained_config(self) -> Config:
        """Trained as it will be used: the divisor of `training_view` at inference too."""
        return replace(self.config, statistics_ddof=0)

    def reconstruct(self, units: Tensor, noise: Tensor, target_units: Tensor | None = None) -> Reconstruction:
        """Mean squared error of the pixels of removed patches; see `capabilities.Reconstructs`."""
        c = self.config
        return self.reconstruct_dropped(
            units, noise, target_units, c.mask_ratio, pixel_ddof=0 if c.norm_pix_loss else None
        )


def build_decoder(c: Config) -> MaskedDecoder:
    """Predicts the pixels of every patch from the encoded visible ones (section 3.1 of the paper)."""
    blocks = (
        Block(decoder_attention(c, shift=c.decoder_shift_windows and i % 2 == 1), c.decoder_width, c.mlp_ratio)
        for i in range(c.decoder_depth)
    )
    pixels = c.patch_frames * c.patch_bands
    return MaskedDecoder(c.encoder_width, c.decoder_width, blocks, c.tokens, pixels, int(c.class_token))


def decoder_attention(c: Config, shift: bool) -> Attention:
    """Plain attention when every head is global, multi-window attention otherwise."""
    if not any(c.decoder_windows):
        return Attention(c.decoder_width, len(c.decoder_windows))
    return MultiWindowAttention(c.decoder_width, c.decoder_windows, shift)


def initialise(model: Model, seed: int) -> None:
    """Random weights as the authors' pretraining draws them; the global random state is not touched."""
    c = model.config
    rng = torch.Generator().manual_seed(seed)
    materialise(model)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight, generator=rng)
        elif isinstance(module, MultiWindowAttention):
            for table in module.bias_tables.values():
                lecun_normal_(table, table.shape[0] / 0.02, rng)
    pixels = model.grid.pixels
    limit = math.sqrt(6 / (pixels + pixels * c.encoder_width))  # Flax counts fan_out of a convolution as pixels * width
    init.uniform_(model.patch_embed.weight, -limit, limit, generator=rng)
    model.pos_embed.data[0, model.class_rows :] = sincos_2d(c.encoder_width, *c.grid)
    if c.class_token:
        init.normal_(model.cls_token, std=0.02, generator=rng)
    if model.decoder is not None:
        lecun_normal_(model.decoder.embed.weight, c.encoder_width, rng)
        lecun_normal_(model.decoder.pred.weight, c.decoder_width, rng)
        init.normal_(model.decoder.mask_token, std=0.02, generator=rng)
        model.decoder.pos_embed.data[0, model.class_rows :] = sincos_1d(c.decoder_width, torch.arange(c.tokens))


ENCODER_SIZES = {  # name: width, depth, heads (the paper's table 1)
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "medium": (512, 12, 8),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}


def block_rules(official: str, ours: str, qkv: str, proj: str) -> list[Rule]:
    """The tensors of a transformer block; Flax writes dense kernels [in, out], we keep [out, in]."""
    rules = []
    for theirs, name in (("LayerNorm_0", "norm1"), ("LayerNorm_1", "norm2")):
        rules.append(Rule(f"params/{official}/{theirs}/scale", f"{ours}.{name}.weight"))
        rules.append(Rule(f"params/{official}/{theirs}/bias", f"{ours}.{name}.bias"))
    dense = {qkv: "attn.qkv", proj: "attn.proj", "Mlp_0/Dense_0": "mlp.fc1", "Mlp_0/Dense_1": "mlp.fc2"}
    for theirs, name in dense.items():
        rules.append(Rule(f"params/{official}/{theirs}/kernel", f"{ours}.{name}.weight", "transpose"))
        rules.append(Rule(f"params/{official}/{theirs}/bias", f"{ours}.{name}.bias"))
    return rules


COMMON_RULES = (
    Rule("params/patch_embed/proj/kernel", "patch_embed.weight", "axes 3 2 0 1"),
    Rule("params/patch_embed/proj/bias", "patch_embed.bias"),
    Rule("params/pos_embed", "pos_embed"),
    *block_rules("encoder_block_{i:02}", "blocks.{i}", "Attention_0/Dense_0", "Attention_0/Dense_1"),
    Rule("params/encoder_norm/scale", "norm.weight"),
    Rule("params/encoder_norm/bias", "norm.bias"),
    Rule("params/decoder_embed/kernel", "decoder.embed.weight", "transpose"),
    Rule("params/decoder_embed/bias", "decoder.embed.bias"),
    Rule("params/mask_token", "decoder.mask_token"),
    Rule("params/decoder_pos_embed", "decoder.pos_embed"),
    Rule("params/decoder_norm/scale", "decoder.norm.weight"),
    Rule("params/decoder_norm/bias", "decoder.norm.bias"),
    Rule("params/decoder_pred/kernel", "decoder.pred.weight", "transpose"),
    Rule("params/decoder_pred/bias", "decoder.pred.bias"),
)


def official_family(keys: Collection[str]) -> str | None:
    """The class token tells an MAE, windowed attention in the decoder an MW-MAE."""
    if "params/cls_token" in keys:
        return "mae"
    return "mwmae" if any("decoder_block" in key and "wmha_block" in key for key in keys) else None


SETTINGS_NAMES: dict[str, str | tuple[str, str]] = {  # the trainer's → ours
    "patch_size": ("patch_frames", "patch_bands"),
    "img_size": ("frames_per_unit", "n_mels"),
    "mask_ratio": "mask_ratio",
    "shift_windows": "decoder_shift_windows",
}


def infer_config(
    config_class: type[Config], shapes: Shapes, trainer: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The Config behind an official checkpoint: shapes first, then the trainer's config.json, then what the user set.

    Head counts are not in the weights: the encoder's follows from the architecture's name or the width, the decoder's
    from the list of windows. Origins that contradict each other, and values that stay unknown, are errors.
    """
    facts = Facts()
    model = trainer.get("model", {})
    arguments = model.get("model_args") or {}
    facts.add_all(patch_encoder(shapes, "encoder_width", "encoder_depth"), SHAPES)
    width = facts.values["encoder_width"]
    facts.add("mlp_ratio", shapes.of("blocks.0.mlp.fc1.weight", 2)[0] / width, SHAPES)
    decoder = masked_decoder(shapes)
    facts.add_all(decoder, SHAPES)

    size = ENCODER_SIZES.get(str(model.get("arch", "")).removeprefix("mw").removeprefix("mae_"), ())
    facts.add_all(dict(zip(("encoder_width", "encoder_depth", "encoder_heads"), size, strict=False)), SETTINGS)
    of_decoder = {"decoder_embed_dim": "decoder_width", "decoder_depth": "decoder_depth"} if decoder else {}
    facts.add_settings(arguments, {**SETTINGS_NAMES, **of_decoder})
    facts.add_settings(trainer.get("opt") or {}, {"norm_pix_loss": "norm_pix_loss"})
    facts.add_all(given, GIVEN)
    if decoder:
        facts.add("decoder_windows", decoder_windows(shapes, arguments, given), SHAPES)
    by_width = {w: heads for w, _, heads in ENCODER_SIZES.values()}
    if "encoder_heads" not in facts.values and width in by_width:
        facts.add("encoder_heads", by_width[width], "the published size of that width")
    if "encoder_heads" not in facts.values:
        raise CheckpointError(
            f"the weights (width {width}) do not tell the encoder's heads. Give --set encoder_heads=N."
        )
    config = config_class(**check_fields(config_class, facts.values))
    check_positions(shapes, config.class_token, config.tokens, "--set frames_per_unit=N or --set n_mels=N")
    return asdict(config)


def decoder_windows(shapes: Shapes, arguments: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[int, ...]:
    """Windows of all decoder heads: windowed ones have a bias table, so how many global ones there are must be told."""
    prefix = "decoder.blocks.0.attn.bias_tables."
    tables = {head: (shapes.of(f"{prefix}{head}", 2)[0] + 1) // 2 for head in shapes.numbered(prefix)}
    told = [tuple(value) for value in (given.get("decoder_windows"), arguments.get("decoder_window_sizes")) if value]
    heads = arguments.get("decoder_num_heads")
    if not told and not heads:
        example = ",".join(str(tables.get(head, 0)) for head in range(max(tables, default=5) + 3))
        raise CheckpointError(
            "the weights do not tell how many decoder heads there are. Give --config, or the windows of all heads "
            f"(0 for a global one), for instance --set decoder_windows={example}."
        )
    width = shapes.of("decoder.embed.weight", 2)[0]
    for n in [heads] if heads else [len(windows) for windows in told]:
        if not isinstance(n, int) or not 0 < n <= width or width % n:
            raise CheckpointError(f"{n!r} decoder heads do not divide the width {width}. Correct --config or --set.")
    windows = told[0] if told else tuple(tables.get(head, 0) for head in range(heads or 0))
    against = None
    if any(other != windows for other in told) or (heads and heads != len(windows)):
        against = "the trainer's configuration"
    elif {head: window for head, window in enumerate(windows) if window} != tables:
        against = f"the bias tables {[tables.get(head, 0) for head in range(max(tables, default=-1) + 1)]}"
    if against:
        raise CheckpointError(f"decoder windows {list(windows)} do not go with {against}. Correct --config or --set.")
    return windows


OFFICIAL = Official(
    format="flax",
    rules=(
        *COMMON_RULES,
        *block_rules("decoder_block_{i:02}", "decoder.blocks.{i}", "wmha_block/qkv", "wmha_block/proj"),
        Rule(
            "params/decoder_block_{i:02}/wmha_block/attn_heads_{h}/relative_position_bias_table",
            "decoder.blocks.{i}.attn.bias_tables.{h}",
        ),
    ),
    recognise=official_family,
    infer=partial(infer_config, Config),
    settings_keys=("model",),
)


def load_model(model_file_path: str = "", **options: Any) -> HearModel:
    """HEAR 2021: the model behind a registry name, a converted checkpoint, or (no path) the bundled `mwmae-nano`.

    Args:
        model_file_path: registry name or `.safetensors` file; "" for the family's default.
        options: `timestamps="centres" | "official"`, `dtype="float32" | "bfloat16"`.
    """
    return zoo.load_model(model_file_path, family="mwmae", **options)
