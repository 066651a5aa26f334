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
from hear_models.checkpoints.mapping import Facts, Official, Rule, Shapes, Source, SourceArray
from hear_models.errors import CheckpointError, UsageError
from hear_models.frontends.logmel import LogMel
from hear_models.layers.attention import Attention
from hear_models.layers.init import materialise
from hear_models.layers.masked import MaskedDecoder, Reconstruction, reconstruct_patches
from hear_models.layers.patches import PatchEmbed, cut_patches_by_band, sincos_1d_interleaved, sincos_2d_by_band
from hear_models.layers.transformer import LAYER_NORM_EPS, Block
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.model import POOLINGS, HearModel
from hear_models.pipeline.normalise import Standardise
from hear_models.pipeline.plan import Plan, Purpose, Unit, centre_times

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
    training_pad: str = (
        "raw-zero"  # a short training clip: "raw-zero" log-mel of 0 (official), or "zero" after normalising
    )
    scene_pooling: str = "mean"  # steps → scene: "mean" (the paper's), or "mean+std" with twice the dimensions

    def __post_init__(self) -> None:
        """Refuse sizes that give no network, with a UsageError that names them."""
        for name in ("width", "depth", "heads", "patch_frames", "patch_bands", "decoder_width", "decoder_heads"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}. Give at least 1.")
        for name, known in {
            "normalize": NORMALIZE,
            "tail": TAILS,
            "training_pad": ("raw-zero", "zero"),
            "decoder_positions": ("1d", "2d"),
            "scene_pooling": POOLINGS,
            "sample_rate": tuple(SAMPLE_RATES),
        }.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name} is {getattr(self, name)!r}. Use one of {', '.join(map(str, known))}.")
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


class Model(HearModel):
    """The encoder behind the HEAR API; the decoder only when pretraining asks for it.

    Args:
        config: sizes.
        timestamps: "centres" (true centres inside the clip) or "official" (every step, i * duration / steps).
        normalize: None = as the checkpoint says; "clip", each clip by its own mean and deviation; "official", all clips
            of a call together (`batch_dependent` is then True); "fixed" or "dataset", by given ones.
        statistics: (mean, deviation) of "fixed" or "dataset": of the log-mel of a data set, as `statistics_of` measures
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
        super().__init__(timestamps)
        self.config = c = config or Config()
        scale = c.sample_rate // 16_000
        self.frontend = LogMel(
            c.sample_rate, 400 * scale, 160 * scale, c.n_mels, f_max=SAMPLE_RATES[c.sample_rate], filters="slaney"
        )
        self.normalise = normaliser(c, normalize or c.normalize, statistics)
        self.batch_dependent = self.normalise.scope == "call"
        self.tail = c.tail if tail is None else tail
        if self.tail not in TAILS:
            raise UsageError(f"tail={tail!r} is unknown. Use one of {', '.join(TAILS)}.")
        if dur_frames is not None and (type(dur_frames) is not int or dur_frames < 1 or dur_frames % c.patch_frames):
            raise UsageError(f"dur_frames={dur_frames!r} is no multiple of {c.patch_frames} frames, a patch. Give one.")
        self.dur_frames = dur_frames
        self.flat_features = flat_features
        self.sample_rate = c.sample_rate
        self.min_samples = self.frontend.min_samples
        self.timestamp_embedding_size = c.width * (1 if flat_features else c.grid[0])
        self.scene_pooling = c.scene_pooling
        self.scene_embedding_size = self.timestamp_embedding_size * (2 if c.scene_pooling == "mean+std" else 1)

        class_rows = int(c.class_token)
        with torch.device("meta"):
            self.patch_embed = PatchEmbed(c.patch_bands, c.patch_frames, c.width)
            if c.class_token:
                self.cls_token = nn.Parameter(torch.empty(1, 1, c.width))
            self.pos_embed = nn.Parameter(torch.empty(1, class_rows + c.tokens, c.width), requires_grad=False)
            self.blocks = nn.ModuleList(
                Block(Attention(c.width, c.heads), c.width, c.mlp_ratio, gelu="none") for _ in range(c.depth)
            )
            self.norm = nn.LayerNorm(c.width, eps=LAYER_NORM_EPS)
            self.decoder = build_decoder(c) if decoder else None
        if seed is not None:
            initialise(self, seed)

    def plan(self, n_samples: int, purpose: Purpose) -> Plan:
        """Consecutive units; steps with any real frame are kept, the last of them partly padded (section 6)."""
        c, hop = self.config, self.frontend.hop_samples
        frames = self.frontend.n_frames(max(n_samples, self.min_samples))
        whole, patch = self.dur_frames or c.frames_per_unit, c.patch_frames
        n_steps = max(1, frames // patch) if self.dur_frames else math.ceil(frames / patch)
        units = []
        for start in range(0, n_steps * patch, whole):
            kept = min(whole, n_steps * patch - start)
            length = whole if self.tail == "pad" and not self.dur_frames else kept
            units.append(Unit(start, length, kept // patch))
        if self.timestamps == "official":
            times = np.arange(n_steps) * (1000.0 * n_samples / self.sample_rate / n_steps)
        else:
            times = centre_times(hop * patch, hop * (patch - 1) / 2, n_steps, n_samples, self.sample_rate)
        return Plan(n_samples, tuple(units), n_steps, times, fill="zeros")

    def spectrogram(self, clip: Tensor) -> Tensor:
        """[samples] → log-mel [frames, n_mels] (section 3 of the specification)."""
        return self.frontend(clip[None])[0]

    def training_view(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A crop for pretraining: log-mel [frames, bands] → float32 [frames_per_unit, bands], normalised (section 9).

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
        """Weight decay spares biases and everything of one dimension; class and mask token it does not (section 9)."""
        return parameter.ndim > 1 and not name.endswith(".bias")

    def embed(self, units: Tensor) -> Tensor:
        """[units, frames, bands] → tokens with positions, class token first if there is one."""
        return self.embed_patches(cut_patches_by_band(units, self.config.patch_frames, self.config.patch_bands))

    def embed_patches(self, patches: Tensor, ids: Tensor | None = None) -> Tensor:
        """Patches [units, tokens, pixels], at grid positions `ids` [units, tokens] (None: all in order) → tokens."""
        class_rows = int(self.config.class_token)
        if ids is None:
            position = self.positions(patches.shape[1] // self.config.grid[0])
        else:
            position = self.pos_embed[0, class_rows:][ids]
        tokens = self.patch_embed(patches) + position
        if class_rows:
            class_token = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
            tokens = torch.cat([class_token.to(tokens.dtype), tokens], dim=1)
        return tokens

    def positions(self, columns: int) -> Tensor:
        """The table's rows of the first `columns` patches of every band, [bands * columns, width] (section 7)."""
        c = self.config
        table = self.pos_embed[0, int(c.class_token) :].unflatten(0, c.grid)  # [bands, columns, width]
        wanted = (self.dur_frames or c.frames_per_unit) // c.patch_frames
        if wanted > c.grid[1]:
            image = table.permute(2, 0, 1)[None].float()  # [1, width, bands, columns]
            image = interpolate(image, size=(c.grid[0], wanted), mode="bicubic", align_corners=False)
            table = image[0].permute(1, 2, 0).to(table.dtype)
        return table[:, :columns].flatten(0, 1)

    def through_blocks(self, tokens: Tensor) -> list[Tensor]:
        """Outputs of every encoder block [units, tokens, width], the last one after the final norm."""
        outputs = []
        for block in self.blocks:
            tokens = block(tokens)
            outputs.append(tokens)
        return [*outputs[:-1], self.norm(outputs[-1])]

    def fold_steps(self, tokens: Tensor) -> Tensor:
        """Drop the class token; put the band tokens of a step side by side: [units, steps, bands * width]."""
        bands = tokens[:, int(self.config.class_token) :].unflatten(1, (self.config.grid[0], -1))
        return bands.mean(dim=1) if self.flat_features else bands.transpose(1, 2).flatten(2)


def normaliser(c: Config, normalize: str, statistics: tuple[float, float] | None) -> Standardise:
    """The arithmetic behind `normalize` (section 4 of the specification)."""
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
                "normalize='dataset' needs the data's own statistics=(mean, deviation). Measure them: "
                "model.statistics_of(clips) over up to 5000 training clips."
            )
        statistics = (c.norm_mean, c.norm_std)
    good = isinstance(statistics, (tuple, list)) and len(statistics) == 2
    if not (good and all(isinstance(x, (int, float)) and math.isfinite(x) for x in statistics) and statistics[1] > 0):
        raise UsageError(f"statistics={statistics!r} are not (mean, deviation) of a log-mel, such as (-7.1, 4.2).")
    return Standardise(scope="fixed", mean=float(statistics[0]), std=float(statistics[1]))


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


def reconstruct(model: Model, units: Tensor, noise: Tensor, target_units: Tensor | None = None) -> Reconstruction:
    """The masked objective: mean squared error of the pixels of removed patches (section 9 of the specification).

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
    patches = cut_patches_by_band(units, c.patch_frames, c.patch_bands)
    target = patches if target_units is None else cut_patches_by_band(target_units, c.patch_frames, c.patch_bands)
    return reconstruct_patches(
        lambda visible, ids: model.through_blocks(model.embed_patches(visible, ids))[-1],
        model.decoder,
        patches,
        target,
        noise,
        c.mask_ratio,
        n_keep=int(c.tokens * (1 - c.mask_ratio)),
        pixel_ddof=1 if c.norm_pix_loss else None,
    )


def initialise(model: Model, seed: int) -> None:
    """Random weights as in pretraining (section 5 of the specification); the global random state is not touched."""
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
    """Mel bands, frames of a unit and sample rate from a release's folder or file name, or nothing (section 2).

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
    facts, weights = Facts(), "the tensors' shapes"
    width, _, patch_bands, patch_frames = shapes.of("patch_embed.weight", 4)
    has_decoder = any(name.startswith("decoder.") for name in shapes.shapes)
    for name, value in {
        "width": width,
        "patch_bands": patch_bands,
        "patch_frames": patch_frames,
        "depth": shapes.count("blocks."),
        "mlp_ratio": shapes.of("blocks.0.mlp.fc1.weight", 2)[0] / width,
        "class_token": "cls_token" in shapes.shapes,
    }.items():
        facts.add(name, value, weights)
    if has_decoder:
        facts.add("decoder_width", shapes.of("decoder.embed.weight", 2)[0], weights)
        facts.add("decoder_depth", shapes.count("decoder.blocks."), weights)

    arguments = trainer.get("args") if isinstance(trainer.get("args"), Mapping) else trainer
    assert isinstance(arguments, Mapping)
    for pair, theirs in (
        (("n_mels", "frames_per_unit"), "input_size"),
        (("patch_bands", "patch_frames"), "patch_size"),
    ):
        if isinstance(arguments.get(theirs), (list, tuple)) and len(arguments[theirs]) == 2:
            for name, value in zip(pair, arguments[theirs], strict=True):
                facts.add(name, value, "the trainer's arguments")
    for name in ("mask_ratio", "norm_pix_loss"):
        if name in arguments:
            facts.add(name, arguments[name], "the trainer's arguments")
    for name, value in given.items():
        facts.add(name, value, "--set")
    for name, value in named_geometry(trainer.get("names", ())).items():
        if name not in facts.values:
            facts.add(name, value, "the name of its folder or file")

    statistics = trainer.get("norm_stats values", arguments.get("norm_stats"))
    if statistics is not None and len(statistics) == 2:
        facts.values = {"norm_mean": float(statistics[0]), "norm_std": float(statistics[1])} | facts.values
    if trainer.get("m2d"):  # that repository's runtime: section 7
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
    config = Config(**values)
    advice = "Give --set frames_per_unit=N and --set n_mels=N."
    if config.tokens != rows:
        raise CheckpointError(
            f"pos_embed has {rows} tokens, but {config.n_mels} bands x {config.frames_per_unit} frames in patches of "
            f"{config.patch_bands} x {config.patch_frames} are {config.tokens}. {advice}"
        )
    first = int(config.class_token)
    stored = np.asarray(trainer["pos_embed values"], np.float32)[0, first:]
    if stored.shape[1] == config.width and np.abs(stored - encoder_positions(config).numpy()).max() >= 1e-5:
        raise CheckpointError(
            f"pos_embed is not the fixed table of {config.grid[0]} x {config.grid[1]} patches, so the bands or frames "
            f"of a unit are others. {advice}"
        )
    decoder = trainer.get("decoder_pos_embed values")
    if decoder is not None and np.shape(decoder)[1:] == (first + rows, config.decoder_width):
        apart = {
            k: float(np.abs(decoder[0, first:] - decoder_positions(config, k).numpy()).max()) for k in ("1d", "2d")
        }
        config = replace(config, decoder_positions=min(apart, key=lambda kind: apart[kind]))
    return config


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
