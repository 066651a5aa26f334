"""GISE-51: convolutional networks that tag sound events (Yadav and Foster 2021, arXiv 2103.12306).

Classifiers of 51 kinds of sound events, trained on synthetic soundscapes of 5 s; the embedding is what their linear
head sees. The input is not log-mel but a linear spectrogram in dB, 221 bins x one frame every 220 samples at 22,050 Hz,
less its mean over the clip. A scene is cut into chunks of 10 s with features of their own; its embedding is the mean
over chunks; a timestamp's is that of the 1 s around it, every 49.9 ms. Nothing official says how these networks become
HEAR embeddings: both plans are proposals of this project. Dimensions: 128 (CIFAR form), 512 or 2048 (ResNet), 1280
(EfficientNet), 1024 (DenseNet).
Code: MIT. The authors' weights (Zenodo 4593514) are said to be CC BY 4.0; they were learned from FSD50K, whose clips
have licences of their own, some non-commercial. Convert them yourself (`hear-models convert gise51`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from hear_models import zoo
from hear_models.checkpoints.facts import GIVEN, SETTINGS, SHAPES, Facts
from hear_models.checkpoints.mapping import Official, Rule, Shapes, Source, SourceArray
from hear_models.errors import CheckpointError, UsageError
from hear_models.fields import at_least_one, check_fields, one_of
from hear_models.frontends.log_spectrogram import LogSpectrogram
from hear_models.layers.densenet import DenseNet, initialise_densenet
from hear_models.layers.efficientnet import EfficientNet, initialise_efficientnet
from hear_models.layers.init import materialise
from hear_models.layers.resnet import ResNet, initialise_resnet
from hear_models.pipeline.fill import cut
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.model import HearModel, check_clip
from hear_models.pipeline.normalise import Standardise
from hear_models.pipeline.plan import Plan, Purpose, Unit
from hear_models.resources import resource

__all__ = [
    "ARCHITECTURES",
    "CLASSES",
    "Config",
    "Model",
    "class_names",
    "fit_frames",
    "get_scene_embeddings",
    "get_timestamp_embeddings",
    "load_model",
]


def class_names(data_set: str) -> tuple[str, ...]:
    """Names in the order of the logits: "gise51" (51), "audioset527", "vggsound309" or "esc50".

    All but ESC-50 are in ASCII order of the display names, which is not the order of AudioSet's own table.
    """
    return tuple(json.loads((resource("weights") / "labels" / f"{data_set}.json").read_text("utf-8")))


CLASSES = class_names("gise51")
DATA_SETS = {51: "gise51", 527: "audioset527", 309: "vggsound309", 50: "esc50"}  # by the number of classes
EXCLUSIVE = (309, 50)  # one class a clip


class Architecture(NamedTuple):
    """How a network is built, how its random weights are drawn, and what training adds to its head."""

    build: Callable[[], ResNet | DenseNet | EfficientNet]
    initialise: Callable[[Any, torch.Generator], None]
    dropout: float = 0.0  # before the head, in training


def resnet(depths: tuple[int, ...], bottleneck: bool = False) -> Architecture:
    """The ImageNet form: four stages of 64, 128, 256 and 512 channels."""
    return Architecture(
        lambda: ResNet(depths, (64, 128, 256, 512), bottleneck=bottleneck),
        lambda network, rng: initialise_resnet(network, rng, "fan_out"),
    )


def cifar_resnet(blocks: int, width: int = 32, stages: int = 3) -> Architecture:
    """The form for small images, here twice as wide and with the ImageNet stem: three stages, shortcuts by padding."""
    return Architecture(
        lambda: ResNet((blocks,) * stages, tuple(width * 2**s for s in range(stages)), shortcut="pad"),
        lambda network, rng: initialise_resnet(network, rng, "fan_in"),
    )


def densenet(depths: tuple[int, ...], growth: int = 32, stem_width: int = 64) -> Architecture:
    """DenseNet-BC."""
    return Architecture(lambda: DenseNet(depths, growth, stem_width), initialise_densenet)


def efficientnet(depth_factor: float) -> Architecture:
    """Paddings as for an image of 221 x 221 (quirk `static-padding`)."""
    return Architecture(lambda: EfficientNet(depth_factor, LogSpectrogram().n_bins), initialise_efficientnet, 0.2)


ARCHITECTURES: dict[str, Architecture] = {
    "nano": cifar_resnet(1, 12),  # this project's two, in no paper
    "mini": cifar_resnet(1, 16, stages=4),
    **{f"cifar_resnet{6 * n + 2}": cifar_resnet(n) for n in (3, 5, 7, 9, 18)},
    "resnet18": resnet((2, 2, 2, 2)),
    "resnet34": resnet((3, 4, 6, 3)),
    "resnet50": resnet((3, 4, 6, 3), bottleneck=True),
    "resnet101": resnet((3, 4, 23, 3), bottleneck=True),
    "resnet152": resnet((3, 8, 36, 3), bottleneck=True),
    "densenet121": densenet((6, 12, 24, 16)),
    "densenet161": densenet((6, 12, 36, 24), 48, 96),
    "densenet169": densenet((6, 12, 32, 32)),
    "densenet201": densenet((6, 12, 48, 32)),
    "efficientnet-b0": efficientnet(1.0),
    "efficientnet-b1": efficientnet(1.1),
}


@dataclass(frozen=True)
class Config:
    """ResNet-18 with 51 classes, the network of the paper's comparisons of data."""

    architecture: str = "resnet18"  # a name of ARCHITECTURES
    classes: tuple[str, ...] = CLASSES  # names in the order of the logits
    chunk_samples: int = 220_500  # a scene is cut into chunks of 10 s, the longest clips that the authors evaluate
    tail_samples: int = 22_050  # a shorter tail (1 s) is joined to the chunk before it
    scene_frames: int = 501  # a chunk with fewer frames is repeated up to this (the authors' evaluation of 5 s)
    window_frames: int = 101  # frames around a timestamp that its embedding sees, 1.0 s
    hop_frames: int = 5  # frames of 220 samples from one timestamp to the next, 49.9 ms

    def __post_init__(self) -> None:
        """Refuse what gives no network, with a UsageError that says what would."""
        one_of(self, architecture=ARCHITECTURES)
        if not self.classes:
            raise UsageError("classes is empty. Name at least one class.")
        at_least_one(self, "chunk_samples", "tail_samples", "scene_frames", "window_frames", "hop_frames")
        if self.window_frames % 2 == 0:
            raise UsageError(
                f"window_frames is {self.window_frames}. Give an odd number, so that a frame is its middle."
            )


MODES = ("windows", "fast")
FAST_FRAMES, FAST_MARGIN = 1024, 128  # frames of a unit of fast mode, and what it sees before and behind them


class Model(HearModel):
    """A network and its head behind the HEAR API.

    Args:
        config: architecture, classes and plans.
        timestamps: "centres" or "official": the same here, as nothing is official.
        mode: "windows" runs the network around every timestamp; "fast" runs it once over the clip and interpolates
            its map, whose columns are 16 or 32 frames apart: far quicker, other numbers. Scenes are the same.
        seed: seeds the random weights; None leaves them unallocated for a checkpoint to fill.
    """

    family = "gise51"
    config: Config
    frontend: LogSpectrogram

    def __init__(
        self,
        config: Config | None = None,
        *,
        timestamps: str = "centres",
        mode: str = "windows",
        seed: int | None = 0,
    ) -> None:
        super().__init__(timestamps)
        if mode not in MODES:
            raise UsageError(f"mode={mode!r} is unknown. Use one of {', '.join(MODES)}.")
        self.config = c = config or Config()
        self.mode = mode
        self.frontend = LogSpectrogram()
        self.normalise = Standardise(scale=False)
        self.sample_rate = self.frontend.sample_rate
        self.min_samples = self.frontend.window_samples
        self.short_clips = "repeat"
        with torch.device("meta"):
            self.body: ResNet | DenseNet | EfficientNet = ARCHITECTURES[c.architecture].build()
            self.head = nn.Linear(self.body.width, len(c.classes))
        self.scene_embedding_size = self.timestamp_embedding_size = self.body.width
        if seed is not None:
            initialise(self, seed)

    # ------------------------------------------------------------------ what a tagger tells of itself

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return self.config.classes

    @property
    def exclusive(self) -> bool:
        """Whether a clip has one class only: those of VGGSound and ESC-50 exclude each other."""
        n_classes = len(self.classes)
        return n_classes in EXCLUSIVE and self.classes == class_names(DATA_SETS[n_classes])

    @property
    def n_bands(self) -> int:
        """Bins of the spectrogram."""
        return self.frontend.n_bins

    @property
    def hop_ms(self) -> float:
        """Time from one frame of the spectrogram to the next, in ms."""
        return 1000 * self.frontend.hop_samples / self.sample_rate

    # ------------------------------------------------------------------ what happens to a clip

    def plan(self, n_samples: int, purpose: Purpose) -> Plan:
        """Scenes: chunks with features of their own; timestamps: windows, or the whole clip in long units (fast)."""
        if purpose == "scene":
            return self.scene_plan(n_samples)
        return self.fast_plan(n_samples) if self.mode == "fast" else self.window_plan(n_samples)

    def n_frames(self, n_samples: int) -> int:
        """Frames of a clip, which is repeated if it is shorter than a window of the STFT."""
        return self.frontend.n_frames(n_samples * math.ceil(max(1.0, self.min_samples / n_samples)))

    def scene_plan(self, n_samples: int) -> Plan:
        """One step a chunk, weighted by its frames; a chunk below `scene_frames` is repeated on both sides."""
        c = self.config
        starts = list(range(0, n_samples, c.chunk_samples))
        if len(starts) > 1 and n_samples - starts[-1] < c.tail_samples:
            starts.pop()
        chunks = list(zip(starts, [*starts[1:], n_samples], strict=True))
        frames = [self.n_frames(stop - start) for start, stop in chunks]
        units = tuple(
            Unit(-(max(0, c.scene_frames - n) // 2), max(n, c.scene_frames), 1, samples=chunk)
            for n, chunk in zip(frames, chunks, strict=True)
        )
        centres = np.array([(start + stop) / 2 for start, stop in chunks]) * (1000.0 / self.sample_rate)
        return Plan(n_samples, units, len(units), centres, np.array(frames, np.float64), "wrap")

    def window_plan(self, n_samples: int, hop_frames: int | None = None) -> Plan:
        """A window around every `hop_frames`-th frame (None: as configured); the clip is reflected at its ends."""
        c = self.config
        times, middles = self.grid(n_samples, hop_frames)
        units = tuple(Unit(int(middle) - c.window_frames // 2, c.window_frames, 1) for middle in middles)
        return Plan(n_samples, units, len(units), times)

    def fast_plan(self, n_samples: int) -> Plan:
        """Long units with a margin; steps are the columns of the map from the first to the last timestamp."""
        stride, first_centre = self.body.stride, self.body.first_centre
        times, middles = self.grid(n_samples)
        first = math.floor((0 - first_centre) / stride)
        last = max(first, math.ceil((int(middles[-1]) - first_centre) / stride))
        most, margin = FAST_FRAMES // stride, FAST_MARGIN // stride
        units = []
        for column in range(first, last + 1, most):
            steps = min(most, last + 1 - column)
            length = (steps + 2 * margin) * stride
            units.append(Unit((column - margin) * stride, length, steps, skip=1 + margin))
        columns = np.arange(first, last + 1)
        steps_ms = (columns * stride + first_centre) * (1000.0 * self.frontend.hop_samples / self.sample_rate)
        return Plan(n_samples, tuple(units), len(columns), times, steps_ms=steps_ms)

    def grid(self, n_samples: int, hop_frames: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Timestamps in ms, float64, and the frames that they are the centres of."""
        middles = np.arange(0, self.n_frames(n_samples), hop_frames or self.config.hop_frames)
        times = np.minimum(middles * self.frontend.hop_samples, n_samples) * (1000.0 / self.sample_rate)
        return times, middles

    # ------------------------------------------------------------------ the network

    def spectrogram(self, clip: Tensor) -> Tensor:
        """[samples] → dB [frames, bins]; the flow then takes the mean away."""
        return self.frontend(clip)

    def maps(self, units: Tensor) -> Tensor:
        """Units [units, frames, bins] → the network's last map [units, width, rows, columns], low frequencies first."""
        images = units.to(self.compute_dtype).transpose(1, 2)[:, None]
        return self.body(images.contiguous(memory_format=torch.channels_last))  # a CPU is 1.0 to 1.7 times faster so

    def network(self, units: Tensor) -> Tensor:
        """[units, frames, bins] → [units, 1 + columns, width]: the pooled embedding, then one for every column."""
        columns = self.maps(units).float().mean(2).transpose(1, 2)
        return torch.cat([columns.mean(1, keepdim=True), columns], dim=1)

    def classify(self, units: Tensor) -> Tensor:
        """Normalised units [units, frames, bins] → logits [units, classes]; keeps gradients; dropout in training."""
        pooled = self.maps(units).mean((2, 3))
        return self.head(dropout(pooled, ARCHITECTURES[self.config.architecture].dropout, self.training)).float()

    def logits(self, clip: Tensor, hop_frames: int | None = None) -> tuple[Tensor, Tensor]:
        """What the classifier hears, window by window (1 s each).

        Args:
            clip: [samples], floating point in [-1, 1], mono, at 22,050 Hz.
            hop_frames: frames of 220 samples from one window to the next; None: those of the configuration (49.9 ms).

        Returns:
            logits float32 [windows, classes] in the order of `config.classes` (probabilities are their sigmoid, for
            VGGSound and ESC-50 their softmax), and the windows' centres [windows] in ms.

        Logits of a whole clip are `model.head(model.get_scene_embeddings(audio))`.
        """
        check_clip(clip, 0)
        if hop_frames is not None and hop_frames < 1:
            raise UsageError(f"hop_frames is {hop_frames}. Give at least 1.")
        with self.evaluating(), torch.no_grad(), torch.autocast(clip.device.type, enabled=False):
            [(steps, plan)] = self._steps([clip], lambda n: self.window_plan(n, hop_frames), self.encode)
            logits = self.head(steps.to(self.head.weight.dtype)).float()
        return logits, torch.from_numpy(plan.times_ms).to(logits.device, torch.float32)


def fit_frames(features: Tensor, frames: int) -> Tensor:
    """The authors' evaluation: a spectrogram [n, bins] is repeated around its middle up to `frames`, or its middle cut.

    Reported figures are at 501 frames for GISE-51 mixtures and 1001 for AudioSet.
    """
    missing = frames - features.shape[0]
    start = -(missing // 2) if missing > 0 else -missing // 2
    return cut(features, start, start + frames, "wrap")


def initialise(model: Model, seed: int) -> None:
    """Random weights as the official code draws them for each architecture; the global random state is not touched."""
    rng = torch.Generator().manual_seed(seed)
    materialise(model)
    architecture = ARCHITECTURES[model.config.architecture]
    architecture.initialise(model.body, rng)
    limit = 1 / math.sqrt(model.body.width)  # torch's default of a linear layer
    nn.init.uniform_(model.head.weight, -limit, limit, generator=rng)
    nn.init.uniform_(model.head.bias, -limit, limit, generator=rng)
    if isinstance(model.body, DenseNet):
        nn.init.zeros_(model.head.bias)
    elif model.config.architecture.startswith("cifar"):
        nn.init.kaiming_normal_(model.head.weight, generator=rng)


# ---------------------------------------------------------------------- the authors' files

HEADS = ("fc", "linear", "classifier", "_fc")  # ResNet, its small form, DenseNet, EfficientNet


def official_family(keys: Collection[str]) -> str | None:
    """A head of one of the four kinds behind one of the four kinds of stem, with or without Lightning's "net."."""
    bare = {key.removeprefix("net.") for key in keys}
    stems = {"conv1.weight", "features.conv0.weight", "_conv_stem.weight"}
    return "gise51" if bare & stems and any(f"{head}.weight" in bare for head in HEADS) else None


def without_prefix(source: Source) -> Mapping[str, SourceArray]:
    """A Lightning checkpoint holds the network under "net."; what else it holds (weights of the loss) is not ours."""
    if not any(key.startswith("net.") for key in source.arrays):
        return source.arrays
    return {key.removeprefix("net."): array for key, array in source.arrays.items() if key.startswith("net.")}


def infer_config(shapes: Shapes, said: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The Config behind the weights: the architecture by names and shapes, the classes by how many there are."""
    facts = Facts()
    facts.add("architecture", find_architecture(shapes), SHAPES)
    model = ((said.get("hyper_parameters") or {}).get("cfg") or {}).get("model") or {}
    names = {f"{model.get('arch')}{sign}{model.get('model_depth')}" for sign in ("", "-")}
    for name in names & ARCHITECTURES.keys():
        facts.add("architecture", name, SETTINGS)
    facts.add_all(given, GIVEN)
    n_classes = shapes.of("head.weight", 2)[0]
    if "classes" not in facts.values:
        known = DATA_SETS.get(n_classes)
        names_of = class_names(known) if known else tuple(f"class {i}" for i in range(n_classes))
        facts.add("classes", names_of, "the number of classes")
    if len(facts.values["classes"]) != n_classes:
        raise CheckpointError(
            f"{len(facts.values['classes'])} class names are given, the head has {n_classes}. Correct --set classes."
        )
    return asdict(Config(**check_fields(Config, facts.values)))


def find_architecture(shapes: Shapes) -> str:
    """The name in ARCHITECTURES whose network has the same blocks as these tensors."""
    found = blocks_of(shapes.shapes)
    for name, architecture in ARCHITECTURES.items():
        with torch.device("meta"):
            if blocks_of(f"body.{key}" for key in architecture.build().state_dict()) == found:
                return name
    raise CheckpointError(
        f"no architecture has the {len(found)} blocks of this file. Known are: {', '.join(ARCHITECTURES)}."
    )


def blocks_of(names: Iterable[str]) -> set[str]:
    """What tells architectures apart in the names of their tensors: blocks, and which have a third convolution."""
    block = re.compile(r"body\.(layer\d|blocks|denseblock\d)\.\w+(\.conv3)?")
    return {match[0] for name in names if (match := block.match(name))}


OFFICIAL = Official(
    format="torch",
    rules=(
        *(Rule(f"{head}.{{path}}", "head.{path}") for head in HEADS),
        # ResNets
        Rule("conv1.{path}", "body.conv1.{path}"),
        Rule("bn1.{path}", "body.bn1.{path}"),
        Rule("layer{s}.{path}", "body.layer{s}.{path}"),
        # DenseNets
        Rule("features.conv0.{path}", "body.conv0.{path}"),
        Rule("features.norm{n}.{path}", "body.norm{n}.{path}"),
        Rule("features.denseblock{b}.{path}", "body.denseblock{b}.{path}"),
        Rule("features.transition{b}.{path}", "body.transition{b}.{path}"),
        # EfficientNets
        Rule("_conv_stem.{path}", "body.conv_stem.{path}"),
        Rule("_bn0.{path}", "body.bn_stem.{path}"),
        Rule("_blocks.{i}._{path}", "body.blocks.{i}.{path}"),
        Rule("_conv_head.{path}", "body.conv_head.{path}"),
        Rule("_bn1.{path}", "body.bn_head.{path}"),
    ),
    recognise=official_family,
    infer=infer_config,
    drop=(r".*\.num_batches_tracked",),
    prepare=without_prefix,
)


def load_model(model_file_path: str = "", **options: Any) -> HearModel:
    """HEAR 2021: the model behind a registry name, a converted checkpoint, or (no path) `gise51-nano`.

    Args:
        model_file_path: registry name or `.safetensors` file; "" for the family's default.
        options: `mode="windows" | "fast"`, `dtype="float32" | "bfloat16"`.
    """
    return zoo.load_model(model_file_path, family="gise51", **options)
