"""MSM-MAE: masked spectrogram modelling with masked autoencoders (Niizumi et al., PMLR 166, 2022, arXiv 2204.12260).

A ViT masked autoencoder on log-mel patches of 16 bands x 16 frames; both position tables are fixed. A unit is 208, 512
or 608 log-mel frames (10 ms) x 80 bands; every patch column gives a step of 160 ms, the concatenation of its 5 band
tokens, low band first: 5 x 768 = 3840 dimensions. The last unit is filled with zeros behind the normalised clip, which
are attended to, as in the official runtime (`tail="pad"`), or cut after its last patch, as in the M2D repository's
(`"trim"`). The official wrapper standardises by mean and deviation of the whole call (`normalize="official"`), so that
a clip's embedding depends on its neighbours; ours is the same arithmetic for each clip alone. Licence of the official
weights: NTT's, for evaluation only; a user may convert a copy of their own, nobody may pass one on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import init
from torch.nn.functional import interpolate

from hear_models import zoo
from hear_models.checkpoints.facts import GIVEN, SHAPES, Facts, check_positions, masked_decoder, patch_encoder
from hear_models.checkpoints.mapping import Official, Rule, Shapes, Source, SourceArray
from hear_models.errors import CheckpointError, UsageError
from hear_models.fields import a_share, at_least_one, check_fields, one_of
from hear_models.frontends.logmel import LogMel
from hear_models.layers.attention import Attention
from hear_models.layers.init import materialise
from hear_models.layers.masked import MaskedDecoder, Reconstruction
from hear_models.layers.patches import sincos_1d_interleaved, sincos_2d_by_band
from hear_models.layers.transformer import LAYER_NORM_EPS, Block
from hear_models.pipeline.capabilities import reconstruct
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.model import HearModel
from hear_models.pipeline.normalise import Standardise
from hear_models.pipeline.patch_model import POOLINGS, Grid, PatchModel

__all__ = ["Config", "Model", "get_scene_embeddings", "get_timestamp_embeddings", "load_model", "reconstruct"]

NORMALIZE = ("clip", "official", "fixed", "dataset")
TAILS = ("pad", "trim")
SILENT_BELOW = 1e-3  # a log-mel deviation that no clip with sound comes near: silence becomes zeros
SAMPLE_RATES = {16_000: 8_000.0, 32_000: 16_000.0}  # Hz: upper edge of the mel bands


@dataclass(frozen=True)
class Config:
    """80x512p16x16, the paper's; 80x208 and 80x608 differ in `frames_per_unit`."""

    width: int = 768  # token width of the encoder
    depth: int = 12  # encoder blocks
    heads: int = 12  # attention heads of an encoder block
    mlp_ratio: float = 4.0  # hidden width of an MLP / token width
    patch_bands: int = 16  # mel bands in a patch
    patch_frames: int = 16  # log-mel frames in a patch
    n_mels: int = 80  # mel bands
    frames_per_unit: int = 512  # log-mel frames in a unit, 10 ms each
    sample_rate: int = 16_000  # Hz; the M2D repository knows 32,000 too
    class_token: bool = True  # a class token in front of the patches, dropped from the embeddings
    decoder_width: int = 384  # token width of the decoder
    decoder_depth: int = 4  # decoder blocks
    decoder_heads: int = 6  # attention heads of a decoder block
    decoder_positions: str = "1d"  # the decoder's table: "1d" over the flattened patches, or "2d" as the encoder's
    mask_ratio: float = 0.75  # share of the patches that pretraining removes
    norm_pix_loss: bool = False  # pretraining target: each patch normalised by its own mean and variance
    normalize: str = "clip"  # mean and deviation: "clip", "official" (of the whole call), "fixed" or "dataset" (given)
    norm_mean: float = -7.1  # of "fixed": AudioSet's log-mel, by the M2D repository
    norm_std: float = 4.2
    tail: str = "pad"  # the last unit: "pad" with zeros to its full length, "trim" after the last patch
    training_pad: str = "raw-zero"  # a short training clip: log-mel of 0 (official), or "zero" after normalising
    scene_pooling: str = "mean"  # steps → scene: "mean" (the paper's), or "mean+std" with twice the dimensions

    def __post_init__(self) -> None:
        """Refuse sizes that give no network, with a UsageError that names them."""
        at_least_one(self, "width", "depth", "heads", "patch_frames", "patch_bands", "decoder_width", "decoder_heads")
        one_of(self, normalize=NORMALIZE, tail=TAILS, training_pad=("raw-zero", "zero"), decoder_positions=("1d", "2d"))
        a_share(self, "mask_ratio")
        one_of(self, scene_pooling=POOLINGS, sample_rate=SAMPLE_RATES)
        for whole, piece in (("frames_per_unit", "patch_frames"), ("n_mels", "patch_bands")):
            if getattr(self, whole) < 1 or getattr(self, whole) % getattr(self, piece):
                raise UsageError(
                    f"{whole}={getattr(self, whole)} is no multiple of {piece}={getattr(self, piece)}: the official "
                    "code would drop the rest silently. Correct one of them."
                )
        for heads, width in (("heads", "width"), ("decoder_heads", "decoder_width")):
            if getattr(self, width) % getattr(self, heads) or getattr(self, width) % 4:
                raise UsageError(
                    f"{width}={getattr(self, width)} is no multiple of 4 and of {heads}. Change one of them."
                )
        if not (math.isfinite(self.norm_mean) and math.isfinite(self.norm_std) and self.norm_std > 0):
            raise UsageError(f"norm_mean={self.norm_mean}, norm_std={self.norm_std} are no statistics of a log-mel.")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches of a unit over bands and over time."""
        return self.n_mels // self.patch_bands, self.frames_per_unit // self.patch_frames

    @property
    def tokens(self) -> int:
        """Patches of a unit."""
        return math.prod(self.grid)


class Model(PatchModel):
    """The encoder behind the HEAR API; the decoder only when pretraining asks for it.

    Args:
        config: sizes.
        timestamps: "centres" (true centres inside the clip) or "official" (every step, i * duration / steps).
        normalize: None = as the checkpoint says; "clip", each clip by its own mean and deviation; "official", all clips
            of a call together (`batch_dependent` is then True); "fixed" or "dataset", by given ones.
        statistics: (mean, deviation) of "fixed" or "dataset": of a data set's log-mel, as `model.statistics` measures
            them. "fixed" without it takes the checkpoint's.
        tail: None = as the checkpoint says; "pad" or "trim", see `Config`.
        dur_frames: units of this many frames instead, a multiple of a patch; the position table is stretched (bicubic)
            or cut to it, and frames behind the last whole patch are dropped (the M2D repository's option).
        flat_features: mean of a step's band tokens instead of their concatenation (the M2D repository's option).
        seed: seeds the random weights; None leaves them unallocated for a checkpoint to fill.
        decoder: build the decoder too.
    """

    family = "msm_mae"
    config: Config
    decoder: MaskedDecoder | None

    def __init__(
        self,
        config: Config | None = None,
        *,
        timestamps: str = "centres",
        normalize: str | None = None,
        statistics: tuple[float, float] | None = None,
        tail: str | None = None,
        dur_frames: int | None = None,
        flat_features: bool = False,
        seed: int | None = 0,
        decoder: bool = False,
    ) -> None:
        c = config or Config()
        tail = c.tail if tail is None else tail
        if tail not in TAILS:
            raise UsageError(f"tail={tail!r} is unknown. Use one of {', '.join(TAILS)}.")
        if dur_frames is not None and (type(dur_frames) is not int or dur_frames < 1 or dur_frames % c.patch_frames):
            raise UsageError(f"dur_frames={dur_frames!r} is no multiple of {c.patch_frames} frames, a patch. Give one.")
        scale = c.sample_rate // 16_000
        super().__init__(
            c,
            LogMel(
                c.sample_rate, 400 * scale, 160 * scale, c.n_mels, f_max=SAMPLE_RATES[c.sample_rate], filters="slaney"
            ),
            Grid(c.frames_per_unit, c.n_mels, c.patch_frames, c.patch_bands, by_band=True),
            c.width,
            class_token=c.class_token,
            timestamps=timestamps,
            scene_pooling=c.scene_pooling,
            fill="zeros",
            trim=tail == "trim" or dur_frames is not None,
        )
        self.normalise = normaliser(c, normalize or c.normalize, statistics)
        self.batch_dependent = self.normalise.scope == "call"
        self.tail, self.dur_frames, self.flat_features = tail, dur_frames, flat_features
        self.unit_frames = dur_frames or c.frames_per_unit
        if flat_features:
            self.timestamp_embedding_size //= self.grid.rows
            self.scene_embedding_size //= self.grid.rows
        with torch.device("meta"):
            blocks = (Block(Attention(c.width, c.heads), c.width, c.mlp_ratio, gelu="none") for _ in range(c.depth))
            self.build(blocks, nn.LayerNorm(c.width, eps=LAYER_NORM_EPS), build_decoder(c) if decoder else None)
        if seed is not None:
            initialise(self, seed)

    def n_steps(self, n_frames: int) -> int:
        """Steps of patches with any real frame; with `dur_frames` of whole patches only, as the M2D repository."""
        return max(1, n_frames // self.grid.patch_frames) if self.dur_frames else super().n_steps(n_frames)

    def positions(self, columns: int) -> Tensor:
        """The table's rows of the first `columns` patches of every band; stretched if `dur_frames` are more than it."""
        table = self.pos_embed[0, self.class_rows :]
        wanted = self.unit_frames // self.grid.patch_frames
        if wanted > self.grid.columns:
            image = (
                table.unflatten(0, (self.grid.rows, -1)).permute(2, 0, 1)[None].float()
            )  # [1, width, bands, columns]
            image = interpolate(image, size=(self.grid.rows, wanted), mode="bicubic", align_corners=False)
            return image[0].permute(1, 2, 0).to(table.dtype)[:, :columns].flatten(0, 1)
        return super().positions(columns)

    def fold_steps(self, tokens: Tensor) -> Tensor:
        """Put the band tokens of a step side by side, or, with `flat_features`, take their mean."""
        if self.flat_features:
            return tokens[:, self.class_rows :].unflatten(1, (self.grid.rows, -1)).mean(dim=1)
        return super().fold_steps(tokens)

    # ------------------------------------------------------------------ pretraining (section 3 of the paper)

    def training_view(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A crop for pretraining: log-mel [frames, bands] → float32 [frames_per_unit, bands], normalised.

        The last possible start is never drawn, as in the official code. Statistics that are not given are the clip's.
        """
        c, n = self.config, self.normalise
        assert n is not None
        start = int(rng.integers(0, len(clip) - c.frames_per_unit)) if len(clip) > c.frames_per_unit else 0
        crop = clip[start : start + c.frames_per_unit]
        missing = ((0, c.frames_per_unit - len(crop)), (0, 0))
        if n.scope == "fixed":
            mean, std = n.mean, n.std
        else:
            mean, std = float(clip.mean(dtype=np.float64)), float(clip.std(dtype=np.float64, ddof=n.ddof))
        if c.training_pad == "raw-zero":  # quirk `raw-zero`: far louder than silence
            crop, missing = np.pad(crop, missing), ((0, 0), (0, 0))
        normal = (crop - mean) / std if std >= n.constant_below else np.zeros_like(crop)
        return np.pad(normal, missing).astype(np.float32)

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Weight decay spares biases and everything of one dimension; class and mask token it does not."""
        return parameter.ndim > 1 and not name.endswith(".bias")

    def reconstruct(self, units: Tensor, noise: Tensor, target_units: Tensor | None = None) -> Reconstruction:
        """Mean squared error of the pixels of removed patches; see `capabilities.Reconstructs`."""
        c = self.config
        return self.reconstruct_dropped(
            units,
            noise,
            target_units,
            c.mask_ratio,
            n_keep=int(c.tokens * (1 - c.mask_ratio)),
            pixel_ddof=1 if c.norm_pix_loss else None,
        )


def normaliser(c: Config, normalize: str, statistics: tuple[float, float] | None) -> Standardise:
    """The arithmetic behind `normalize`."""
    if normalize not in NORMALIZE:
        raise UsageError(f"normalize={normalize!r} is unknown. Use one of {', '.join(NORMALIZE)}.")
    if normalize in ("clip", "official"):
        if statistics is not None:
            raise UsageError(f"statistics go with normalize='fixed' or 'dataset', not with {normalize!r}.")
        scope = "clip" if normalize == "clip" else "call"
        return Standardise(ddof=1, scope=scope, constant_below=SILENT_BELOW)
    if statistics is None:
        if normalize == "dataset":
            raise UsageError(
                "normalize='dataset' needs the data's own statistics=(mean, deviation). Measure them over up to 5000 "
                "training clips: s = model.statistics(clips); statistics=(float(s.mean), float(s.std(1)))."
            )
        statistics = (c.norm_mean, c.norm_std)
    return Standardise.fixed(statistics)


def build_decoder(c: Config) -> MaskedDecoder:
    """Predicts the pixels of every patch from the encoded visible ones; its position table is fixed."""
    blocks = (
        Block(Attention(c.decoder_width, c.decoder_heads), c.decoder_width, c.mlp_ratio, gelu="none")
        for _ in range(c.decoder_depth)
    )
    pixels = c.patch_frames * c.patch_bands
    return MaskedDecoder(
        c.width, c.decoder_width, blocks, c.tokens, pixels, int(c.class_token), trained_positions=False
    )


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
    with torch.no_grad():
        init.xavier_uniform_(model.patch_embed.weight.view(c.width, -1), generator=rng)
    limit = 1 / math.sqrt(c.patch_bands * c.patch_frames)  # Conv2d's own bias
    init.uniform_(model.patch_embed.bias, -limit, limit, generator=rng)
    patches = slice(int(c.class_token), None)
    model.pos_embed.data[0, patches] = encoder_positions(c)
    if c.class_token:
        init.normal_(model.cls_token, std=0.02, generator=rng)
    if model.decoder is not None:
        init.normal_(model.decoder.mask_token, std=0.02, generator=rng)
        model.decoder.pos_embed.data[0, patches] = decoder_positions(c, c.decoder_positions)


def encoder_positions(c: Config) -> Tensor:
    """The fixed table of the encoder without the class token's zeros, [tokens, width]; time stands in front."""
    return sincos_2d_by_band(c.width, c.grid[1], c.grid[0])


def decoder_positions(c: Config, kind: str) -> Tensor:
    """The fixed table of the decoder, [tokens, decoder_width]."""
    if kind == "2d":
        return sincos_2d_by_band(c.decoder_width, c.grid[1], c.grid[0])
    return sincos_1d_interleaved(c.decoder_width, torch.arange(c.tokens))


BACKBONE = ("module.ar.runtime.backbone.", "ar.runtime.backbone.")  # in front of the keys of EVAR's fine-tuned files


def official_arrays(source: Source) -> dict[str, SourceArray]:
    """The network's arrays: of a fine-tuned file the backbone alone, its prefix taken away."""
    for prefix in BACKBONE:
        inside = {key.removeprefix(prefix): a for key, a in source.arrays.items() if key.startswith(prefix)}
        if inside:
            return inside
    return dict(source.arrays)


def join_biases(source: Source) -> dict[str, SourceArray]:
    """Query and value biases of the msm-mae repository → one of queries, keys and values; its key bias is zero."""
    arrays = official_arrays(source)
    arrays.pop("norm_stats", None)
    for key in [key for key in arrays if key.endswith(".attn.q_bias")]:
        stem = key.removesuffix("q_bias")
        if f"{stem}v_bias" in arrays:
            query, value = arrays.pop(key), arrays.pop(f"{stem}v_bias")
            joined = np.concatenate([query.values, np.zeros_like(query.values), value.values])
            arrays[f"{stem}qkv.bias"] = SourceArray(joined, query.dtype)
    return arrays


def observe(source: Source) -> dict[str, Any]:
    """What `infer_config` must know of the values: whose layout it is, statistics, position tables."""
    arrays = official_arrays(source)
    found: dict[str, Any] = {"m2d": "blocks.0.attn.qkv.bias" in arrays}
    for key in ("norm_stats", "pos_embed", "decoder_pos_embed"):
        if key in arrays:
            found[f"{key} values"] = arrays[key].values
    return found


def named_geometry(names: Collection[str]) -> dict[str, int]:
    """Mel bands, frames of a unit and sample rate from a release's folder or file name, or nothing.

    80x208p16x16_0422, msm_mae_vit_base-80x608p16x16-220924-mr75, msm_mae_vit_base-80x608p16x16p32k.
    """
    for name in reversed(list(names)):
        match = re.search(r"(?:^|-)(\d+)x(\d+)p\d+x\d+(?:p(16|32)k)?(?=$|[-_.])", name)
        if match:
            rate = {"sample_rate": 1000 * int(match[3])} if match[3] else {}
            return {"n_mels": int(match[1]), "frames_per_unit": int(match[2]), **rate}
    return {}


def infer_config(shapes: Shapes, trainer: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The Config behind an official checkpoint: shapes, what the trainer saved, what the user set, then the names.

    Heads are not in the weights: 64 dimensions each is the published rule. Origins that contradict each other, values
    that stay unknown, and an encoder table that is not the formula's are errors.
    """
    facts = Facts()
    facts.add_all(patch_encoder(shapes, "width", "depth", by_band=True), SHAPES)
    facts.add("mlp_ratio", shapes.of("blocks.0.mlp.fc1.weight", 2)[0] / facts.values["width"], SHAPES)
    facts.add_all(masked_decoder(shapes), SHAPES)
    arguments = trainer.get("args") if isinstance(trainer.get("args"), Mapping) else trainer
    assert isinstance(arguments, Mapping)
    pairs = {"input_size": ("n_mels", "frames_per_unit"), "patch_size": ("patch_bands", "patch_frames")}
    facts.add_settings(arguments, {**pairs, "mask_ratio": "mask_ratio", "norm_pix_loss": "norm_pix_loss"})
    facts.add_all(given, GIVEN)
    for name, value in named_geometry(trainer.get("names", ())).items():
        if name not in facts.values:
            facts.add(name, value, "the name of its folder or file")

    statistics = trainer.get("norm_stats values", arguments.get("norm_stats"))
    if statistics is not None and len(statistics) == 2:
        facts.values = {"norm_mean": float(statistics[0]), "norm_std": float(statistics[1])} | facts.values
    if trainer.get("m2d"):  # the defaults of that repository's runtime
        facts.values = {"normalize": "fixed", "tail": "trim"} | facts.values
    for heads, of in (("heads", "width"), ("decoder_heads", "decoder_width")):
        if heads in facts.values or of not in facts.values:
            continue
        if facts.values[of] % 64:
            raise CheckpointError(
                f"the weights ({of} {facts.values[of]}) do not tell {heads}, and heads of 64 do not divide it. "
                f"Give --set {heads}=N."
            )
        facts.add(heads, facts.values[of] // 64, "the published size of a head")
    return asdict(checked_tables(facts.values, shapes, trainer))


def checked_tables(values: dict[str, Any], shapes: Shapes, trainer: Mapping[str, Any]) -> Config:
    """The Config, if the position tables in the file are those of its grid."""
    rows = shapes.of("pos_embed", 3)[1] - values["class_token"]
    bands = values.setdefault("n_mels", 80) // values["patch_bands"]
    if "frames_per_unit" not in values:
        values["frames_per_unit"] = rows // max(1, bands) * values["patch_frames"]
    config = Config(**check_fields(Config, values))
    flags = "--set frames_per_unit=N and --set n_mels=N"
    check_positions(shapes, config.class_token, config.tokens, flags)
    first = int(config.class_token)
    stored = np.asarray(trainer["pos_embed values"], np.float32)[0, first:]
    apart = np.abs(stored - encoder_positions(config).numpy()).max() if stored.shape[1] == config.width else 0.0
    if apart >= rounding(stored):
        raise CheckpointError(
            f"pos_embed is not the fixed table of {config.grid[0]} x {config.grid[1]} patches, so the bands or frames "
            f"of a unit are others. Give {flags}."
        )
    decoder = trainer.get("decoder_pos_embed values")
    if decoder is not None and np.shape(decoder)[1:] == (first + rows, config.decoder_width):
        apart = {
            k: float(np.abs(decoder[0, first:] - decoder_positions(config, k).numpy()).max()) for k in ("1d", "2d")
        }
        config = replace(config, decoder_positions=min(apart, key=lambda kind: apart[kind]))
    return config


def rounding(table: np.ndarray) -> float:
    """How far numbers in [-1, 1] may lie from the exact ones, by the precision that they ever went through."""
    if not (np.ascontiguousarray(table).view(np.uint32) & 0xFFFF).any():  # bfloat16: the upper half of a float32
        return 2.0**-7
    if np.array_equal(table, table.astype(np.float16)):
        return 2.0**-10
    return 1e-5


OFFICIAL = Official(
    format="torch",
    rules=(
        Rule("cls_token", "cls_token"),
        Rule("pos_embed", "pos_embed"),
        Rule("patch_embed.proj.{tensor}", "patch_embed.{tensor}"),
        Rule("blocks.{i}.{tensor}", "blocks.{i}.{tensor}"),
        Rule("norm.{tensor}", "norm.{tensor}"),
        Rule("mask_token", "decoder.mask_token"),
        Rule("decoder_pos_embed", "decoder.pos_embed"),
        Rule("decoder_embed.{tensor}", "decoder.embed.{tensor}"),
        Rule("decoder_blocks.{i}.{tensor}", "decoder.blocks.{i}.{tensor}"),
        Rule("decoder_norm.{tensor}", "decoder.norm.{tensor}"),
        Rule("decoder_pred.{tensor}", "decoder.pred.{tensor}"),
    ),
    recognise=lambda keys: None,  # the keys of a ViT do not tell whose it is
    infer=infer_config,
    licence="NTT evaluation licence",
    prepare=join_biases,
    observe=observe,
)


def load_model(model_file_path: str = "", **options: Any) -> HearModel:
    """HEAR 2021: the model behind a registry name, a converted checkpoint, or (no path) the default `msm-mae-nano`.

    Args:
        model_file_path: registry name or `.safetensors` file; "" for the family's default.
        options: those of `Model`: `normalize`, `statistics`, `tail`, `timestamps`, ...; `dtype="float32" | "bfloat16"`.
    """
    return zoo.load_model(model_file_path, family="msm_mae", **options)
