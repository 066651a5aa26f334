"""COLA on log-mel: an EfficientNet that tells segments of one recording from others (Saeed et al. 2021).

The contrast is of arXiv 2010.10915; this form, its sizes and its weights are the baseline of Yadav and Zeghidour 2022
(arXiv 2203.15519, code base audax), who replace the log-mel by `hear_models.leaf` and `hear_models.sincnet`. All three
share what stands here. A unit is a window of 0.96 s around a timestamp, one every 50 ms, with zeros beyond the ends of
the clip; its own level is taken away, then it goes through the front end and the network, whose last map is averaged:
1280 dimensions, before the projection in which segments are compared. A scene is the mean of its timestamps. Nobody but
this project says that these networks become HEAR embeddings so.
Code: BSD 2-Clause. The authors' weights state no licence of their own: convert them yourself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hear_models import zoo
from hear_models.checkpoints.facts import GIVEN, SETTINGS, SHAPES, Facts
from hear_models.checkpoints.mapping import Official, Rule, Shapes, Source
from hear_models.errors import CheckpointError, UsageError
from hear_models.fields import at_least_one, one_of
from hear_models.frontends.uncentred_logmel import UncentredLogMel
from hear_models.frontends.windows import Windows
from hear_models.layers.contrastive import BilinearHead, Contrast, contrastive_loss, initialise_head
from hear_models.layers.efficientnet import (
    AUDAX,
    LEAF_PYTORCH,
    EfficientNet,
    block_widths,
    factors_of,
    initialise_efficientnet,
)
from hear_models.layers.init import lecun_normal_, materialise
from hear_models.pipeline.capabilities import contrast
from hear_models.pipeline.fill import cut
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.model import HearModel
from hear_models.pipeline.normalise import Standardise, Statistics
from hear_models.pipeline.plan import Plan, Purpose, Unit

__all__ = ["Config", "Model", "contrast", "get_scene_embeddings", "get_timestamp_embeddings", "load_model"]

LEVELS = ("window", "peak", "none")
LEAST_SQUARES = 1e-9  # a window whose squares sum up to less counts as that loud: silence stays finite


@dataclass(frozen=True)
class Config:
    """EfficientNet-B0 on 64 bands, the sizes of the paper."""

    n_filters: int = 64  # bands of the front end
    width_factor: float = 1.0  # channels / those of EfficientNet-B0
    depth_factor: float = 1.0  # blocks / those of EfficientNet-B0
    projection: int = 512  # dimensions in which COLA compares segments; 0 with a classifier
    classes: int = 0  # of a classifier; 0: the head is COLA's
    drop: float = 0.2  # chance in training that the last block's branch is dropped; earlier ones less, linearly
    # what is done about a clip's level: "window" divides each window by its root of the sum of squares; "peak" the clip
    # by its peak, if that is above 1; "none" nothing
    level: str = "window"
    window_samples: int = 15_360  # that an embedding sees, 0.96 s: the segments of pretraining
    hop_samples: int = 800  # from one timestamp to the next, 50 ms

    def __post_init__(self) -> None:
        """Refuse what gives no network, with a UsageError that says what would."""
        at_least_one(self, "n_filters", "window_samples", "hop_samples")
        one_of(self, level=LEVELS)
        if bool(self.projection > 0) == bool(self.classes > 0) or min(self.projection, self.classes) < 0:
            raise UsageError("a network has COLA's projection or classes. Set one of the two, and the other to 0.")
        if min(self.width_factor, self.depth_factor) <= 0:
            raise UsageError("width_factor and depth_factor are above 0. Give for instance 1.0, EfficientNet-B0.")
        if not 0 <= self.drop < 1:
            raise UsageError(f"drop is {self.drop}. Give a chance from 0 to below 1.")


class FrontEnd(Protocol):
    """What a front end has, so that windows that overlap share their frames."""

    hop_samples: int

    def pooled_windows(self, audio: Tensor, length: int, step: int) -> Iterator[Windows]:
        """Windows of one clip [samples]; see `frontends/pooled_filters.py`."""

    def of_unit_norm(self, pooled: Tensor, squares: Tensor) -> Tensor:
        """The same for windows divided by their root of the sum of squares [windows]."""

    def compress(self, pooled: Tensor) -> Tensor:
        """From pooled values [windows, frames, bands] to features."""


class Model(HearModel):
    """Front end, EfficientNet and head behind the HEAR API; `leaf.Model` and `sincnet.Model` bring other front ends.

    Args:
        config: sizes, head, level.
        timestamps: "centres" or "official": the same here, as nothing is official.
        seed: seeds the random weights; None leaves them unallocated for a checkpoint to fill.

    Attributes:
        head: COLA's, or the classifier of a supervised file; `model.head(embedding)` are then its logits.
    """

    family = "logmel_cola"
    config: Config
    encoder: EfficientNet
    head: BilinearHead | nn.Linear

    def __init__(self, config: Config | None = None, *, timestamps: str = "centres", seed: int | None = 0) -> None:
        super().__init__(timestamps)
        self.build(config or Config(), UncentredLogMel(n_mels=(config or Config()).n_filters), seed)
        self.normalise = Standardise(ddof=0, eps=1e-7, along=(-2, -1), double=False)

    def build(self, config: Config, frontend: nn.Module, seed: int | None, filters_first: bool = False) -> None:
        """Everything but the front end, which comes ready; `filters_first`: images as leaf-pytorch has them."""
        self.config = config
        self.frontend = frontend
        self.sample_rate = 16_000
        self.min_samples = 1
        self.filters_first = filters_first
        hop = int(frontend.hop_samples)  # type: ignore[arg-type]
        if config.window_samples % hop or config.hop_samples % hop:
            raise UsageError(f"window_samples and hop_samples are not multiples of {hop}. Give some that are.")
        form = LEAF_PYTORCH if filters_first else AUDAX
        with torch.device("meta"):
            self.encoder = EfficientNet(
                config.depth_factor, None, width_factor=config.width_factor, form=form, drop=config.drop
            )
            width = self.encoder.width
            self.head = nn.Linear(width, config.classes) if config.classes else BilinearHead(width, config.projection)
        self.scene_embedding_size = self.timestamp_embedding_size = width
        self.register_load_state_dict_post_hook(encoder_channels_last)  # no lambda: models are pickled
        if seed is not None:
            materialise(self)
            rng = torch.Generator().manual_seed(seed)
            initialise_efficientnet(self.encoder, rng, "uniform" if filters_first else "he")
            if isinstance(self.head, BilinearHead):
                initialise_head(self.head, rng)
            else:
                lecun_normal_(self.head.weight, width, rng)
            channels_last(self.encoder)

    # ------------------------------------------------------------------ what happens to a clip

    def plan(self, n_samples: int, purpose: Purpose) -> Plan:
        """A window around every 50 ms, the first around sample 0; scenes and timestamps alike."""
        c = self.config
        middles = np.arange(0, n_samples, c.hop_samples)
        units = tuple(Unit(int(middle) - c.window_samples // 2, c.window_samples, 1) for middle in middles)
        times = middles * (1000.0 / self.sample_rate)
        return Plan(n_samples, units, len(units), times, fill="zeros", domain="samples")

    def prepare_clip(self, clip: Tensor) -> Tensor:
        """[samples] → the same; of level "peak" divided by its peak, if it is too loud."""
        clip = clip.float()
        return clip / clip.abs().amax().clamp_min(1.0) if self.config.level == "peak" else clip

    def prepare_window(self, window: Tensor) -> Tensor:
        """[samples] → the same; of level "window" with a sum of squares of 1."""
        if self.config.level != "window":
            return window
        return (window / window.double().square().sum().clamp_min(LEAST_SQUARES).sqrt()).float()

    def spectrogram(self, clip: Tensor) -> Tensor:
        """[samples] → features [frames, bands]."""
        features: Tensor = self.frontend(clip[None])[0]
        return features

    def window_features(self, windows: Tensor) -> Tensor:
        """Prepared windows [units, samples] → what the encoder sees, [units, frames, bands]."""
        return self._normalised(self.frontend(windows))

    def _normalised(self, features: Tensor) -> Tensor:
        return features if self.normalise is None else self.normalise(features)

    def units(self, clip: Tensor, plan: Plan, statistics: Statistics | None = None) -> Iterator[Tensor]:
        """The features [frames, bands] of every window: as `window_features` of each, but frames are shared.

        What is pooled grows with a power of the audio's level, so a window's own level can be taken away afterwards.
        """
        c, frontend = self.config, self._frontend()
        first, last = plan.units[0], plan.units[-1]
        samples = cut(self.prepare_clip(clip)[:, None], first.start, last.start + last.length, plan.fill)[:, 0]
        for pooled, squares in frontend.pooled_windows(samples, c.window_samples, c.hop_samples):
            if c.level == "window":
                pooled = frontend.of_unit_norm(pooled, squares.clamp_min(LEAST_SQUARES))
            yield from self._normalised(frontend.compress(pooled))

    def _frontend(self) -> FrontEnd:
        return self.frontend  # type: ignore[return-value]  # torch says that any attribute of a module may be a tensor

    # ------------------------------------------------------------------ the network

    def network(self, units: Tensor) -> Tensor:
        """[units, frames, bands] → [units, 1, width]: the mean of the last map."""
        images = units.to(self.compute_dtype)
        if self.filters_first:
            images = images.transpose(1, 2)
        return self.encoder(images[:, None]).float().mean((2, 3))[:, None]

    @property
    def crop_samples(self) -> int:
        """Samples of a segment of pretraining: a window."""
        return self.config.window_samples

    def contrast(self, anchors: Tensor, positives: Tensor, hide: Callable[[Tensor], Tensor] | None = None) -> Contrast:
        """COLA's loss of segments [n, samples] each, and the logits [n, n]; batch normalisation sees all 2 n.

        Segments go into the front end as they are: level and noise are the caller's. `hide` masks the features of the
        positives.
        """
        if not isinstance(self.head, BilinearHead):
            raise UsageError("this network has a classifier instead of COLA's head. Take one without classes.")
        features = self.window_features(torch.cat([anchors, positives]))
        if hide is not None:
            features = torch.cat([features[: len(anchors)], hide(features[len(anchors) :])])
        embeddings = self.network(features)[:, 0].to(self.compute_dtype)
        logits = self.head(embeddings[: len(anchors)], embeddings[len(anchors) :])
        return Contrast(contrastive_loss(logits), logits)


def encoder_channels_last(model: nn.Module, _: object) -> None:
    """`channels_last` of a model's encoder, after its weights were loaded."""
    channels_last(model.encoder)  # type: ignore[arg-type]


def channels_last(encoder: EfficientNet) -> None:
    """Lay weights out as a CPU's convolutions are quick with: small networks are 3 times faster, B0 1.1 times."""
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


# ---------------------------------------------------------------------------- audax's files: COLA, classifiers, probes

NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}  # of batch normalisation


def unit_rules(official: str, conv: str, norm: str) -> Iterator[Rule]:
    """A convolution and the batch normalisation behind it."""
    yield Rule(f"{official}/Conv_0/kernel", f"{conv}.weight", "axes 3 2 0 1")
    for theirs, ours in NORM.items():
        yield Rule(f"{official}/BatchNorm_0/{theirs}", f"{norm}.{ours}")


def encoder_rules(at: str) -> Iterator[Rule]:
    """The encoder in one entry of a file's top level; a block counts its convolutions, and the first has none before
    its depthwise one."""
    yield from unit_rules(f"{at}/encoder/ConvNormActivation_0", "encoder.conv_stem", "encoder.bn_stem")
    yield from unit_rules(f"{at}/encoder/ConvNormActivation_1", "encoder.conv_head", "encoder.bn_head")
    for block, order in (("0", LAYERS[1:]), ("{i}", LAYERS)):
        theirs, ours = f"{at}/encoder/MBConv_{block}", f"encoder.blocks.{block}"
        for number, (conv, norm) in enumerate(order):
            yield from unit_rules(f"{theirs}/ConvNormActivation_{number}", f"{ours}.{conv}", f"{ours}.{norm}")
        for what in ("reduce", "expand"):
            kernel = f"{theirs}/SqueezeAndExcitation_0/{what}/kernel"
            yield Rule(kernel, f"{ours}.se_{what}.weight", "axes 3 2 0 1")


LAYERS = (("expand_conv", "bn0"), ("depthwise_conv", "bn1"), ("project_conv", "bn2"))

AUDAX_RULES = (
    *(rule for at in ("params", "frozen_params", "batch_stats") for rule in encoder_rules(at)),
    Rule("params/embedding_fc/kernel", "head.projection.weight", "transpose"),
    Rule("params/bilinear_layernorm/scale", "head.norm.weight"),
    Rule("params/bilinear_layernorm/bias", "head.norm.bias"),
    Rule("params/similarity_layer/bilinear_product_weight", "head.bilinear"),
    Rule("params/fc/kernel", "head.weight", "transpose"),
    Rule("params/fc/bias", "head.bias"),
)


def audax_family(keys: Collection[str]) -> str | None:
    """The front end of a Flax file by its filters; without one the network was trained on log-mels."""
    bare = {key.partition("/")[2] for key in keys}
    if "frontend/complex_conv/gabor_kernel" in bare:
        return "leaf"
    if "frontend/complex_conv/sinc_kernel" in bare:
        return "sincnet"
    return "logmel_cola" if "encoder/ConvNormActivation_0/Conv_0/kernel" in bare else None


def what_is_frozen(source: Source) -> dict[str, Any]:
    """Whether the encoder was kept as it came from pretraining: then the file is a probe of it."""
    return {"probe": any(key.startswith("frozen_params/encoder/") for key in source.arrays)}


def encoder_facts(shapes: Shapes, trainer: Mapping[str, Any], given: Mapping[str, Any]) -> Facts:
    """Sizes of encoder, head and front end that the tensors tell, checked against what the trainer and the user say."""
    facts = Facts()
    n_blocks = shapes.count("encoder.blocks.")
    blocks = [f"encoder.blocks.{i}.project_conv" for i in range(n_blocks)]
    widths = [shapes.of(f"{layer}.weight", 4)[0] for layer in ("encoder.conv_stem", *blocks)]
    model = trainer.get("model") or {}
    arguments = model.get("model_args") or {}
    depth = given.get("depth_factor", arguments.get("depth_mult"))
    width = given.get("width_factor", arguments.get("width_mult"))
    if depth is not None and width is not None and block_widths(depth, width) == widths:
        sizes = depth, width  # other factors may round to the same network; what the trainer says names it
    elif (found := factors_of(widths)) is not None:
        sizes = found
    else:
        raise CheckpointError(f"no EfficientNet has blocks of {widths} channels. Is it one of the published files?")
    facts.add_all({"depth_factor": sizes[0], "width_factor": sizes[1]}, SHAPES)
    if "head.weight" in shapes.shapes:
        facts.add_all({"classes": shapes.of("head.weight", 2)[0], "projection": 0}, SHAPES)
    else:
        facts.add_all({"classes": 0, "projection": shapes.of("head.projection.weight", 2)[0]}, SHAPES)
    if "frontend.filters" in shapes.shapes:
        facts.add("n_filters", shapes.of("frontend.filters", 2)[0], SHAPES)
    facts.add_settings(arguments, {"drop_path_prob": "drop"})
    facts.add_settings(model.get("frontend_args") or {}, {"n_filters": "n_filters"})
    if facts.values["projection"]:
        facts.add_settings(model, {"embedding_dim": "projection"})
    return facts


def infer_config(
    config_class: type[Config],
    raw_classifier: bool,
    shapes: Shapes,
    trainer: Mapping[str, Any],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """The Config behind a Flax file: sizes from its tensors, the level from the trainer's config.json.

    Without one, COLA and its probes divide each window by its norm; classifiers trained as a whole (`raw_classifier`)
    heard the audio as it is.
    """
    facts = encoder_facts(shapes, trainer, given)
    facts.add_all(given, GIVEN)
    if "level" not in facts.values:
        audio = trainer.get("audio_config")
        supervised = bool(facts.values["classes"]) and not trainer.get("probe")
        norm = not (supervised and raw_classifier)
        if isinstance(audio, Mapping):
            norm = bool(audio.get("normalize_waveform"))
        facts.add("level", "window" if norm else "none", SETTINGS)
    return asdict(config_class(**facts.values))


def audax(config_class: type[Config], rules: Collection[Rule] = (), raw_classifier: bool = False) -> Official:
    """How Flax files of audax are read, with the `rules` of a front end."""
    return Official(
        format="flax",
        rules=(*AUDAX_RULES, *rules),
        recognise=audax_family,
        infer=partial(infer_config, config_class, raw_classifier),
        observe=what_is_frozen,
        collections=("params", "frozen_params", "batch_stats"),
        settings_keys=("model",),
    )


OFFICIAL = audax(Config)


def load_model(model_file_path: str = "", **options: Any) -> HearModel:
    """HEAR 2021: the model behind a registry name, a converted checkpoint, or (no path) `logmel-cola-nano`.

    Args:
        model_file_path: registry name or `.safetensors` file; "" for the family's default.
        options: `dtype="float32" | "bfloat16"`.
    """
    return zoo.load_model(model_file_path, family="logmel_cola", **options)
