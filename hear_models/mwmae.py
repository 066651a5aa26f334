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
from hear_models.checkpoints.mapping import Facts, Official, Rule, Shapes
from hear_models.errors import CheckpointError, UsageError
from hear_models.frontends.logmel import LogMel
from hear_models.layers.attention import Attention, MultiWindowAttention
from hear_models.layers.init import lecun_normal_, materialise
from hear_models.layers.masked import MaskedDecoder, Reconstruction, reconstruct_patches
from hear_models.layers.patches import PatchEmbed, cut_patches, sincos_1d, sincos_2d
from hear_models.layers.transformer import LAYER_NORM_EPS, Block
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.model import POOLINGS, HearModel
from hear_models.pipeline.normalise import Standardise
from hear_models.pipeline.plan import Plan, Purpose, Unit, centre_times

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
        for name in ("encoder_width", "encoder_depth", "patch_frames", "patch_bands", "decoder_width"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}. Give at least 1.")
        if self.scene_pooling not in POOLINGS:
            raise UsageError(f"scene_pooling is {self.scene_pooling!r}. Use one of {', '.join(POOLINGS)}.")
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


class Model(HearModel):
    """The encoder behind the HEAR API; the decoder only when pretraining asks for it.

    Args:
        config: sizes.
        timestamps: "centres" (true centres inside the clip) or "official" (every step, i * duration / steps).
        seed: seeds the random weights; None leaves them unallocated for a checkpoint to fill.
        decoder: build the decoder too.
    """

    family = "mwmae"

    def __init__(
        self, config: Config | None = None, *, timestamps: str = "centres", seed: int | None = 0, decoder: bool = False
    ) -> None:
        super().__init__(timestamps)
        self.config = c = config or Config()
        self.frontend = LogMel(n_mels=c.n_mels)
        self.normalise = Standardise(ddof=c.statistics_ddof, eps=STATISTICS_EPS)
        self.sample_rate = self.frontend.sample_rate
        self.min_samples = self.frontend.min_samples
        self.timestamp_embedding_size = c.grid[1] * c.encoder_width
        self.scene_pooling = c.scene_pooling
        self.scene_embedding_size = self.timestamp_embedding_size * (2 if c.scene_pooling == "mean+std" else 1)

        with torch.device("meta"):
            self.patch_embed = PatchEmbed(c.patch_frames, c.patch_bands, c.encoder_width)
            if c.class_token:
                self.cls_token = nn.Parameter(torch.empty(1, 1, c.encoder_width))
            self.pos_embed = nn.Parameter(torch.empty(1, c.tokens + c.class_token, c.encoder_width))
            self.blocks = nn.ModuleList(
                Block(Attention(c.encoder_width, c.encoder_heads), c.encoder_width, c.mlp_ratio)
                for _ in range(c.encoder_depth)
            )
            self.norm = nn.LayerNorm(c.encoder_width, eps=LAYER_NORM_EPS)
            self.decoder = build_decoder(c) if decoder else None
        if seed is not None:
            initialise(self, seed)

    def plan(self, n_samples: int, purpose: Purpose) -> Plan:
        """Consecutive units of `frames_per_unit`; steps with any real frame are kept, as in the official code."""
        c = self.config
        hop = self.frontend.hop_samples
        frames = self.frontend.n_frames(max(n_samples, self.min_samples))
        units = math.ceil(frames / c.frames_per_unit)
        pad = units * c.frames_per_unit - frames
        n_steps = units * c.grid[0] - c.grid[0] * pad // c.frames_per_unit
        step_samples = hop * c.patch_frames
        if self.timestamps == "official":
            times = torch.arange(n_steps, dtype=torch.float64).numpy() * (
                1000.0 * n_samples / self.sample_rate / n_steps
            )
        else:
            times = centre_times(step_samples, hop * (c.patch_frames - 1) / 2, n_steps, n_samples, self.sample_rate)
        return Plan(
            n_samples,
            tuple(Unit(u * c.frames_per_unit, c.frames_per_unit, c.grid[0]) for u in range(units)),
            n_steps,
            times,
        )

    def spectrogram(self, clip: Tensor) -> Tensor:
        """[samples] → log-mel [frames, n_mels] (section 3 of the specification)."""
        return self.frontend(clip[None])[0]

    def training_view(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A crop for pretraining (section 7): log-mel [frames, bands], standardised over the clip, cut at random.

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

    def embed(self, units: Tensor) -> Tensor:
        """[units, frames, bands] → tokens with positions, class token first if there is one."""
        return self.embed_patches(cut_patches(units, self.config.patch_frames, self.config.patch_bands))

    def embed_patches(self, patches: Tensor, ids: Tensor | None = None) -> Tensor:
        """Patches [units, tokens, pixels], at grid positions `ids` [units, tokens] (None: all in order) → tokens."""
        class_rows = int(self.config.class_token)
        position = self.pos_embed[:, class_rows:]
        tokens = self.patch_embed(patches) + (position if ids is None else position[0, ids])
        if class_rows:
            class_token = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
            tokens = torch.cat([class_token.to(tokens.dtype), tokens], dim=1)
        return tokens

    def through_blocks(self, tokens: Tensor) -> list[Tensor]:
        """Outputs of every encoder block [units, tokens, width], the last one after the final norm."""
        outputs = []
        for block in self.blocks:
            tokens = block(tokens)
            outputs.append(tokens)
        return [*outputs[:-1], self.norm(outputs[-1])]

    def fold_steps(self, tokens: Tensor) -> Tensor:
        """Drop the class token; put the band tokens of a time step side by side: [units, steps, bands * width]."""
        return tokens[:, int(self.config.class_token) :].unflatten(1, self.config.grid).flatten(2)


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


def reconstruct(model: Model, units: Tensor, noise: Tensor, target_units: Tensor | None = None) -> Reconstruction:
    """The masked objective: mean squared error of the pixels of removed patches (section 7 of the specification).

    Args:
        model: with its decoder.
        units: [units, frames, bands], normalised crops.
        noise: [units, tokens], uniform; the patches with the smallest noise stay visible.
        target_units: what to predict, [units, frames, bands], if `units` are a degraded view of it; None: `units`.

    Returns:
        loss (scalar), pred and target [units, tokens, pixels], mask [units, tokens] (1 = removed), ids_restore.
    """
    c = model.config
    assert model.decoder is not None, "pretraining needs Model(..., decoder=True)"
    patches = cut_patches(units, c.patch_frames, c.patch_bands)
    target = patches if target_units is None else cut_patches(target_units, c.patch_frames, c.patch_bands)
    return reconstruct_patches(
        lambda visible, ids: model.through_blocks(model.embed_patches(visible, ids))[-1],
        model.decoder,
        patches,
        target,
        noise,
        c.mask_ratio,
        pixel_ddof=0 if c.norm_pix_loss else None,
    )


def initialise(model: Model, seed: int) -> None:
    """Random weights as in pretraining (section 4 of the specification); the global random state is not touched."""
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
    pixels = c.patch_frames * c.patch_bands
    limit = math.sqrt(6 / (pixels + pixels * c.encoder_width))  # Flax counts fan_out of a convolution as pixels * width
    init.uniform_(model.patch_embed.weight, -limit, limit, generator=rng)
    positions = slice(int(c.class_token), None)
    model.pos_embed.data[0, positions] = sincos_2d(c.encoder_width, *c.grid)
    if c.class_token:
        init.normal_(model.cls_token, std=0.02, generator=rng)
    if model.decoder is not None:
        lecun_normal_(model.decoder.embed.weight, c.encoder_width, rng)
        lecun_normal_(model.decoder.pred.weight, c.decoder_width, rng)
        init.normal_(model.decoder.mask_token, std=0.02, generator=rng)
        model.decoder.pos_embed.data[0, positions] = sincos_1d(c.decoder_width, torch.arange(c.tokens))


ENCODER_SIZES = {  # name: width, depth, heads (section 2 of the specification)
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


def infer_config(
    config_class: type[Config], shapes: Shapes, trainer: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The Config behind an official checkpoint: shapes first, then the trainer's config.json, then what the user set.

    Head counts are not in the weights: the encoder's follows from the architecture's name or the width, the decoder's
    from the list of windows. Origins that contradict each other, and values that stay unknown, are errors.
    """
    facts, weights, file = Facts(), "the tensors' shapes", "the trainer's configuration"
    model = trainer.get("model", {})
    arguments = model.get("model_args") or {}
    width, _, patch_frames, patch_bands = shapes.of("patch_embed.weight", 4)
    facts.add("class_token", "cls_token" in shapes.shapes, weights)
    tokens = shapes.of("pos_embed", 3)[1] - facts.values["class_token"]
    for name, value in {
        "encoder_width": width,
        "encoder_depth": shapes.count("blocks."),
        "mlp_ratio": shapes.of("blocks.0.mlp.fc1.weight", 2)[0] / width,
        "patch_frames": patch_frames,
        "patch_bands": patch_bands,
    }.items():
        facts.add(name, value, weights)
    has_decoder = any(name.startswith("decoder.") for name in shapes.shapes)
    if has_decoder:
        facts.add("decoder_width", shapes.of("decoder.embed.weight", 2)[0], weights)
        facts.add("decoder_depth", shapes.count("decoder.blocks."), weights)

    size = ENCODER_SIZES.get(str(model.get("arch", "")).removeprefix("mw").removeprefix("mae_"))
    if size:
        for name, value in zip(("encoder_width", "encoder_depth", "encoder_heads"), size, strict=True):
            facts.add(name, value, file)
    for pair, theirs in ((("patch_frames", "patch_bands"), "patch_size"), (("frames_per_unit", "n_mels"), "img_size")):
        if isinstance(arguments.get(theirs), (list, tuple)) and len(arguments[theirs]) == 2:
            for name, value in zip(pair, arguments[theirs], strict=True):
                facts.add(name, value, file)
    fields_there = {"decoder_embed_dim": "decoder_width", "decoder_depth": "decoder_depth", "mask_ratio": "mask_ratio"}
    for theirs, name in fields_there.items():
        if theirs in arguments and (has_decoder or theirs == "mask_ratio"):
            facts.add(name, arguments[theirs], file)
    if "norm_pix_loss" in (trainer.get("opt") or {}):
        facts.add("norm_pix_loss", trainer["opt"]["norm_pix_loss"], file)
    if "shift_windows" in arguments:
        facts.add("decoder_shift_windows", arguments["shift_windows"], file)

    for name, value in given.items():
        facts.add(name, value, "--set")
    if has_decoder:
        facts.add("decoder_windows", decoder_windows(shapes, arguments, given), weights)
    by_width = {w: heads for w, _, heads in ENCODER_SIZES.values()}
    if "encoder_heads" not in facts.values and width in by_width:
        facts.add("encoder_heads", by_width[width], "the published size of that width")
    if "encoder_heads" not in facts.values:
        raise CheckpointError(
            f"the weights (width {width}) do not tell the encoder's heads. Give --set encoder_heads=N."
        )
    config = config_class(**facts.values)
    if config.tokens != tokens:
        raise CheckpointError(
            f"pos_embed has {tokens} tokens, but {config.frames_per_unit} frames x {config.n_mels} bands in patches of "
            f"{patch_frames} x {patch_bands} are {config.tokens}. Give --set frames_per_unit=N or --set n_mels=N."
        )
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
)


def load_model(model_file_path: str = "", **options: Any) -> HearModel:
    """HEAR 2021: the model behind a registry name, a converted checkpoint, or (no path) the bundled `mwmae-nano`.

    Args:
        model_file_path: registry name or `.safetensors` file; "" for the family's default.
        options: `timestamps="centres" | "official"`, `dtype="float32" | "bfloat16"`.
    """
    return zoo.load_model(model_file_path, family="mwmae", **options)
