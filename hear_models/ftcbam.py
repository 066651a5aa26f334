"""ft-CBAM: a ResNet with attention over frequency and time, for recognising speakers (Yadav and Rai, arXiv 1910.07364).

No official code and no weights exist, and of the paper only the abstract and one figure could be read. This is a
reconstruction: what they do not say is a field of `Config` with the reason for its value. Tests compare it with an
independent computation of the same reconstruction; that is self-consistency, not parity. The paper's figure, an EER of
2.031 % on VoxCeleb1, was not reproduced.

The input is a linear spectrogram of 257 bins, each standardised over the utterance. In every block of the ResNet
channels are weighed first, then frequencies and times, from the same map. A scene is cut into pieces of 30 s at most
and is the mean of their embeddings; a timestamp's embedding is that of the 1 s around it, every 50 ms: proposals of
this project. Dimensions: `embed_dim`, 512. Licence: the code's; there is nothing to convert but files of this
reconstruction.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from hear_models import zoo
from hear_models.checkpoints.facts import GIVEN, SETTINGS, SHAPES, Facts
from hear_models.checkpoints.mapping import Official, Rule, Shapes
from hear_models.errors import CheckpointError, UsageError
from hear_models.fields import at_least_one, one_of
from hear_models.frontends.spectrogram import SPECS, WINDOWS, Spectrogram
from hear_models.layers.cbam import MERGES, SQUEEZES, VARIANTS, Attention, initialise_attention
from hear_models.layers.init import materialise
from hear_models.layers.norm import BatchNorm, reset_norm
from hear_models.layers.pooling import average, ghost_vlad, self_attentive, statistics
from hear_models.layers.resnet import BasicBlock, Bottleneck, ConvNorm
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.model import HearModel
from hear_models.pipeline.normalise import Standardise
from hear_models.pipeline.plan import Plan, Purpose, Unit, centre_times

__all__ = ["Config", "Model", "get_scene_embeddings", "get_timestamp_embeddings", "load_model"]

BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}
HEADS = ("gap", "tap", "stats", "attentive", "gvlad")
PLACEMENTS = ("every_block", "last_block")
NORMS = {"freq": -2, "frame": -1, "none": None}  # the axis of [frames, bins] that is standardised
EXTENSIONS = ("none", "reverse")
MODES = ("windows", "map")
MAP_FRAMES, MAP_MARGIN = 1024, 128  # frames of a unit of "map" mode, and what it sees before and behind them


@dataclass(frozen=True)
class Config:
    """ResNet-34 with ft-CBAM in every block; brackets say where a value comes from that no source gives."""

    # the trunk (depth: not in what could be read; ResNet-34 and -50 are what VoxCeleb's papers of the time use)
    block: str = "basic"  # "basic" (ResNet-34) or "bottleneck" (ResNet-50)
    widths: tuple[int, ...] = (64, 128, 256, 512)  # channels of each stage; bottleneck blocks give four times as many
    depths: tuple[int, ...] = (3, 4, 6, 3)  # blocks of each stage
    stem_stride: int = 2  # of the first convolution (as ResNet)
    stem_pool: bool = True  # a maximum with stride 2 behind it (as ResNet)
    n_freq: int = 257  # bins; the heads' convolutions are as high as the last map, so a network is tied to them
    # attention: the figure shows the channel-refined map, its collapse, two maps of maximum and mean, 7 x 1, a sigmoid
    attention: str = "ft"  # "none", "c", "s", "f", "t", "ft": the paper's five systems, and channels alone
    channel_attention: bool = True  # False for ablation only
    channel_bias: bool = True  # biases in the layers over channels (public CBAM code)
    reduction: int = 16  # channels / hidden width over channels (CBAM's default)
    kernel: int = 7  # rows or columns of the gates' convolutions (the figure)
    gate_bn: bool = True  # batch normalisation in the gates (public CBAM code; not drawn in the figure)
    gate_bn_momentum: float = 0.01  # of its running statistics (public CBAM code)
    gate_bn_init_zero: bool = False  # starts gates at one half (public CBAM code does; their first step learns nothing)
    ft_merge: str = "mean"  # how both gates join; "mean" keeps the scale of one: see `layers/cbam.py`
    squeeze: str = "mean"  # how the other axis collapses; "max" is possible (the figure shows one collapse)
    placement: str = "every_block"  # before the addition of every block (CBAM), or of each stage's "last_block"
    # the head
    head: str = "tap"  # "gap", or a step for each column pooled by mean ("tap"), "stats", "attentive", "gvlad"
    local_dim: int = 512  # width of a step (VoxCeleb2's ResNets)
    embed_dim: int = 512  # width of the embedding (VoxCeleb's papers)
    embed_relu: bool = False  # ReLU on the embedding (public GhostVLAD code has it)
    clusters: int = 8  # kept by GhostVLAD (its published model)
    ghosts: int = 2  # and thrown away
    # the front end (VoxCeleb's papers: 25 ms every 10 ms, FFT of 512)
    window: str = "hamming"  # or "hann", both periodic
    center: bool = False  # True: frames are centred, with zeros beside the clip (librosa's way)
    spec: str = "magnitude"  # or "power", "log"
    norm: str = "freq"  # each bin over the utterance; "frame": each frame over its bins; "none"
    eval_extend: str = "none"  # "reverse": each piece is followed by its reversal (public GhostVLAD code's test)
    # from clips to embeddings (proposals of this project)
    chunk_samples: int = 480_000  # a scene is cut into equal pieces of at most 30 s
    window_samples: int = 16_000  # around a timestamp, 1 s; a shorter scene gets zeros behind it
    hop_samples: int = 800  # from one timestamp to the next, 50 ms
    timestamp_mode: str = "windows"  # "map": a step for each column of one pass, 320 ms apart, far cheaper

    def __post_init__(self) -> None:
        """Refuse what gives no network, with a UsageError that says what would."""
        one_of(
            self,
            block=BLOCKS,
            attention=VARIANTS,
            ft_merge=MERGES,
            squeeze=SQUEEZES,
            placement=PLACEMENTS,
            head=HEADS,
            window=WINDOWS,
            spec=SPECS,
            norm=NORMS,
            eval_extend=EXTENSIONS,
            timestamp_mode=MODES,
        )
        at_least_one(self, "stem_stride", "n_freq", "reduction", "kernel", "local_dim", "embed_dim", "clusters")
        at_least_one(self, "chunk_samples", "window_samples", "hop_samples")
        if len(self.widths) != len(self.depths) or not self.widths or min(*self.widths, *self.depths, 1) < 1:
            raise UsageError(f"widths {self.widths} and depths {self.depths}: give one of each a stage, 1 or more.")
        if self.kernel % 2 == 0 or self.ghosts < 0:
            raise UsageError(
                f"kernel={self.kernel}, ghosts={self.ghosts}: give an odd kernel, and ghosts of 0 or more."
            )

    @property
    def stride(self) -> int:
        """Frames behind a column of the last map."""
        return self.stem_stride * (2 if self.stem_pool else 1) * 2 ** (len(self.widths) - 1)

    @property
    def channels(self) -> int:
        """Channels of the last map."""
        return self.widths[-1] * BLOCKS[self.block].expansion

    @property
    def rows(self) -> int:
        """Rows of the last map."""
        return columns_of(self.n_freq, self)


def columns_of(n: int, c: Config) -> int:
    """Columns of the last map for n frames, or rows for n bins: every step with a stride rounds up."""
    for stride in (c.stem_stride, *([2] if c.stem_pool else []), *[2] * (len(c.widths) - 1)):
        n = (n - 1) // stride + 1
    return n


class Stem(ConvNorm):
    """7 x 7 convolution, batch normalisation, ReLU, and a maximum over 3 x 3."""

    def __init__(self, width: int, stride: int, pool: bool) -> None:
        super().__init__(1, width, 7, stride)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """[units, 1, bins, frames] → [units, width, rows, columns]."""
        x = relu(super().forward(x))
        return max_pool2d(x, 3, stride=2, padding=1) if self.pool else x


class Head(nn.Module):
    """From the last map to an embedding: steps of `local_dim`, pooled over time, and a linear layer."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.kind, self.clusters, self.relu = c.head, c.clusters, c.embed_relu
        width = c.channels
        if c.head != "gap":
            self.fc1 = nn.Conv2d(c.channels, c.local_dim, (c.rows, 1))
            width = c.local_dim
        if c.head == "stats":
            width = 2 * c.local_dim
        elif c.head == "attentive":  # Cai et al. 2018, equation 3
            self.attention = nn.Linear(c.local_dim, c.local_dim)
            self.context = nn.Parameter(torch.zeros(c.local_dim))
        elif c.head == "gvlad":
            self.assign = nn.Conv2d(c.channels, c.clusters + c.ghosts, (c.rows, 1))
            self.centers = nn.Parameter(torch.zeros(c.clusters + c.ghosts, c.local_dim))
            width = c.clusters * c.local_dim
        self.fc2 = nn.Linear(width, c.embed_dim)

    def local(self, x: Tensor) -> Tensor:
        """The map [units, channels, rows, columns] → steps [units, local_dim, columns]."""
        return relu(self.fc1(x))[:, :, 0]

    def pooled(self, x: Tensor) -> Tensor:
        """The map → what the last layer sees, [units, width]."""
        if self.kind == "gap":
            return x.mean((2, 3))
        local = self.local(x)
        if self.kind == "stats":
            return statistics(local)
        if self.kind == "attentive":
            return self_attentive(local, torch.tanh(self.attention(local.transpose(1, 2))) @ self.context)
        if self.kind == "gvlad":
            return ghost_vlad(local, self.assign(x)[:, :, 0], self.centers, self.clusters)
        return average(local)

    def forward(self, x: Tensor) -> Tensor:
        """The map [units, channels, rows, columns] → embeddings [units, embed_dim], of any length."""
        embedding: Tensor = self.fc2(self.pooled(x))
        return relu(embedding) if self.relu else embedding

    def each_column(self, x: Tensor) -> Tensor:
        """The map → an embedding of each column by itself, [units, columns, embed_dim]."""
        units, channels, rows, columns = x.shape
        alone = x.permute(0, 3, 1, 2).reshape(units * columns, channels, rows, 1)
        return self(alone).reshape(units, columns, -1)


class Network(nn.Module):
    """Stem, stages of residual blocks with attention, head."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.stem = Stem(c.widths[0], c.stem_stride, c.stem_pool)
        self.layers = nn.ModuleList(stages(c))
        self.head = Head(c)

    def forward(self, x: Tensor) -> Tensor:
        """[units, 1, bins, frames] → the last map [units, channels, rows, columns]."""
        x = self.stem(x)
        for stage in self.layers:
            x = stage(x)
        return x


class Model(HearModel):
    """The network behind the HEAR API.

    Args:
        config: the network, the front end and the plans.
        timestamps: "centres" or "official": the same here, as nothing is official.
        timestamp_mode: "windows" runs the network on the 1 s around every timestamp; "map" runs it once, over units of
            10 s, and gives a step for each column of its map, 320 ms apart: about twenty times quicker, other numbers.
            Scenes are the same. None: as configured.
        seed: seeds the random weights; None leaves them unallocated for a checkpoint to fill.
    """

    family = "ftcbam"
    config: Config
    frontend: Spectrogram

    def __init__(
        self,
        config: Config | None = None,
        *,
        timestamps: str = "centres",
        timestamp_mode: str | None = None,
        seed: int | None = 0,
    ) -> None:
        super().__init__(timestamps)
        self.config = c = config or Config()
        self.timestamp_mode = c.timestamp_mode if timestamp_mode is None else timestamp_mode
        if self.timestamp_mode not in MODES:
            raise UsageError(f"timestamp_mode={self.timestamp_mode!r} is unknown. Use one of {', '.join(MODES)}.")
        if self.timestamp_mode == "map" and c.eval_extend != "none":
            raise UsageError(
                f"timestamp_mode='map' has no windows to extend (eval_extend={c.eval_extend!r}). Use 'windows'."
            )
        self.frontend = Spectrogram(c.window, c.center, c.spec)
        if c.norm != "none":
            self.normalise = Standardise(ddof=0, eps=1e-5, constant_below=0.0, along=NORMS[c.norm])
        self.sample_rate = self.frontend.sample_rate
        self.min_samples = c.window_samples
        self.scene_embedding_size = self.timestamp_embedding_size = c.embed_dim
        with torch.device("meta"):
            self.body = Network(c)
        if seed is not None:
            initialise(self, seed)

    # ------------------------------------------------------------------ what happens to a clip

    def plan(self, n_samples: int, purpose: Purpose) -> Plan:
        """Scenes: pieces with a normalisation of their own; timestamps: windows, or columns of the map."""
        if purpose == "scene":
            return self.scene_plan(n_samples)
        return self.map_plan(n_samples) if self.timestamp_mode == "map" else self.window_plan(n_samples)

    def scene_plan(self, n_samples: int) -> Plan:
        """Equal pieces of at most `chunk_samples`, one step each; below `window_samples` with zeros behind it."""
        pieces = math.ceil(n_samples / self.config.chunk_samples)
        edges = [piece * n_samples // pieces for piece in range(pieces + 1)]
        lengths = [max(self.min_samples, n_samples)] if pieces == 1 else [int(n) for n in np.diff(edges)]
        units = tuple(Unit(start, length, 1) for start, length in zip(edges, lengths, strict=False))
        centres = (np.array(edges[:-1]) + np.array(edges[1:])) / 2 * (1000.0 / self.sample_rate)
        return Plan(n_samples, units, pieces, centres, fill="zeros", domain="samples")

    def window_plan(self, n_samples: int) -> Plan:
        """A window around every `hop_samples`-th sample, the first at 0, with zeros beside the clip."""
        c = self.config
        steps = 1 + n_samples // c.hop_samples
        units = tuple(Unit(k * c.hop_samples - c.window_samples // 2, c.window_samples, 1) for k in range(steps))
        times = centre_times(c.hop_samples, 0, steps, n_samples, self.sample_rate)
        return Plan(n_samples, units, steps, times, fill="zeros", domain="samples")

    def map_plan(self, n_samples: int) -> Plan:
        """Columns of the map of the whole clip, computed in units that see a margin of it on both sides."""
        stride = self.config.stride
        frames = self.frontend.n_frames(max(n_samples, self.min_samples))
        columns, most, margin = columns_of(frames, self.config), MAP_FRAMES // stride, MAP_MARGIN // stride
        units = []
        for first in range(0, columns, most):
            last = min(columns, first + most)
            before, behind = max(0, first - margin), min(frames, (last + margin) * stride)
            units.append(Unit(before * stride, behind - before * stride, last - first, skip=1 + first - before))
        step = stride * self.frontend.hop_samples
        times = centre_times(step, self.frontend.first_centre, columns, n_samples, self.sample_rate)
        return Plan(n_samples, tuple(units), columns, times)

    def prepare_window(self, window: Tensor) -> Tensor:
        """The window, or the window and its reversal."""
        return torch.cat([window, window.flip(0)]) if self.config.eval_extend == "reverse" else window

    def window_features(self, windows: Tensor) -> Tensor:
        """[units, samples] → normalised spectrograms [units, frames, bins], each by its own statistics."""
        return self.features(windows)

    # ------------------------------------------------------------------ the network

    def spectrogram(self, clip: Tensor) -> Tensor:
        """[..., samples] → [..., frames, bins], not yet normalised."""
        if self.frontend.n_bins != self.config.n_freq:
            raise UsageError(
                f"this network takes {self.config.n_freq} bins, the front end gives {self.frontend.n_bins}: it has no "
                "embeddings of audio. Give it spectrograms of your own: model.encode(frames)."
            )
        return self.frontend(clip)

    def maps(self, units: Tensor) -> Tensor:
        """Units [units, frames, bins] → the last map [units, channels, rows, columns], low frequencies first."""
        x = units.to(self.compute_dtype) if units.dtype == torch.float32 else units
        images = x.transpose(1, 2)[:, None].contiguous(memory_format=torch.channels_last)
        found: Tensor = self.body(images)
        return found

    def network(self, units: Tensor) -> Tensor:
        """[units, frames, bins] → [units, 1, embed_dim]; in "map" mode one more step for each column of the map."""
        x = self.maps(units)
        whole = self.body.head(x)[:, None]
        return whole if self.timestamp_mode == "windows" else torch.cat([whole, self.body.head.each_column(x)], dim=1)

    # ------------------------------------------------------------------ learning speakers

    @property
    def n_bands(self) -> int:
        """Bins of the spectrogram."""
        return self.config.n_freq

    def voices(self, units: Tensor) -> Tensor:
        """Normalised units [units, frames, bins] → embeddings [units, embed_dim]; keeps gradients."""
        found: Tensor = self.body.head(self.maps(units))
        return found

    def training_crop(self, clip: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
        """A normalised crop float32 [frames, bins] of a clip's spectrogram; a short one is followed by silence."""
        first = int(rng.integers(0, max(1, len(clip) - frames + 1)))
        crop = clip[first : first + frames]
        silence = np.full((frames - len(crop), crop.shape[1]), self.frontend.silence, np.float32)
        unit = torch.from_numpy(np.concatenate([crop, silence]))
        normalised: np.ndarray = (unit if self.normalise is None else self.normalise(unit)).numpy()
        return normalised

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Weights of convolutions and linear layers (public GhostVLAD code); not those of normalisations, no biases."""
        return parameter.ndim > 1


def stages(c: Config) -> list[nn.Sequential]:
    """The stages of the trunk; each but the first halves frequency and time."""
    block_of = BLOCKS[c.block]
    channels = c.widths[0]
    found: list[nn.Sequential] = []
    for stage, (width, depth) in enumerate(zip(c.widths, c.depths, strict=True)):
        blocks: list[nn.Module] = []
        for block in range(depth):
            stride = 2 if stage > 0 and block == 0 else 1
            attention = None
            if c.attention != "none" and (c.placement == "every_block" or block == depth - 1):
                attention = Attention(
                    width * block_of.expansion,
                    c.attention,
                    reduction=c.reduction,
                    kernel=c.kernel,
                    gate_bn=c.gate_bn,
                    ft_merge=c.ft_merge,
                    channel_attention=c.channel_attention,
                    channel_bias=c.channel_bias,
                    squeeze=c.squeeze,
                    gate_bn_momentum=c.gate_bn_momentum,
                )
            blocks.append(block_of(channels, width, stride, "named", attention))
            channels = width * block_of.expansion
        found.append(nn.Sequential(*blocks))
    return found


def initialise(model: Model, seed: int) -> None:
    """Random weights as public CBAM code means them; the global random state is not touched."""
    rng = torch.Generator().manual_seed(seed)
    materialise(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, BatchNorm):
            reset_norm(module)
    for module in model.modules():
        if isinstance(module, Attention):
            initialise_attention(module, rng, model.config.gate_bn_init_zero)
    if model.config.head == "gvlad":
        nn.init.orthogonal_(model.body.head.centers, generator=rng)
    if model.config.head == "attentive":
        nn.init.normal_(model.body.head.context, std=model.config.local_dim**-0.5, generator=rng)


# ---------------------------------------------------------------------- files of this reconstruction

UNSEEN = {  # what the tensors do not tell, and of which networks it must be known
    "n_freq": lambda config: config["head"] != "gap",
    "stem_stride": lambda config: True,
    "stem_pool": lambda config: True,
    "reduction": lambda config: config["attention"] != "none" and config["channel_attention"],
    "ft_merge": lambda config: config["attention"] == "ft",
    "ghosts": lambda config: config["head"] == "gvlad",
}


def official_family(keys: Collection[str]) -> str | None:
    """The stem and the last layer, by name."""
    return "ftcbam" if {"stem.conv.weight", "head.fc2.weight"} <= set(keys) else None


def infer_config(shapes: Shapes, said: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The Config behind the weights: most of it by names and shapes, the rest must be said."""
    facts = Facts()
    facts.add_all(found_in(shapes), SHAPES)
    ours = {field.name: field.name for field in fields(Config)} | {"att": "attention"}
    for theirs, name in ours.items():
        if theirs in said:
            value = said[theirs]
            facts.add(
                name, tuple(value) if isinstance(value, list) and name in ("widths", "depths") else value, SETTINGS
            )
    facts.add_all(given, GIVEN)
    values = facts.values
    for name, needed in UNSEEN.items():
        if name not in values and needed(values):
            raise CheckpointError(
                f"the file does not say {name}. Add it to --config, or give --set {name}={getattr(Config, name)} if so."
            )
    if values["head"] == "gvlad":
        facts.add("clusters", shapes.of("body.head.centers", 2)[0] - values["ghosts"], SHAPES)
    return asdict(Config(**values))


def found_in(shapes: Shapes) -> dict[str, Any]:
    """What the tensors tell."""
    stages = shapes.count("body.layers.")
    depths = tuple(shapes.count(f"body.layers.{stage}.") for stage in range(stages))
    bottleneck = "body.layers.0.0.conv3.weight" in shapes.shapes
    widths = tuple(shapes.of(f"body.layers.{stage}.0.conv1.weight", 4)[0] for stage in range(stages))
    found: dict[str, Any] = {"block": "bottleneck" if bottleneck else "basic", "widths": widths, "depths": depths}
    last = f"body.layers.0.{depths[0] - 1}.att." if stages and depths[0] else "body.layers.0.0.att."
    gates = [gate for gate in ("spatial", "freq", "time") if f"{last}{gate}.conv.weight" in shapes.shapes]
    channel = f"{last}channel.fc1.weight" in shapes.shapes
    found["attention"] = "".join(gate[0] for gate in gates) or ("c" if channel else "none")
    if found["attention"] != "none":
        found["channel_attention"] = channel
        if depths[0] > 1:
            everywhere = any(name.startswith("body.layers.0.0.att.") for name in shapes.shapes)
            found["placement"] = "every_block" if everywhere else "last_block"
    if channel:
        found["channel_bias"] = f"{last}channel.fc1.bias" in shapes.shapes
    if gates:
        found["kernel"] = max(shapes.of(f"{last}{gates[0]}.conv.weight", 4)[2:])
        found["gate_bn"] = f"{last}{gates[0]}.bn.weight" in shapes.shapes
    found["embed_dim"], pooled = shapes.of("body.head.fc2.weight", 2)
    if "body.head.centers" in shapes.shapes:
        found["head"] = "gvlad"
    elif "body.head.context" in shapes.shapes:
        found["head"] = "attentive"
    elif "body.head.fc1.weight" in shapes.shapes:
        found["head"] = "stats" if pooled == 2 * shapes.of("body.head.fc1.weight", 4)[0] else "tap"
    else:
        found["head"] = "gap"
    if found["head"] != "gap":
        found["local_dim"] = shapes.of("body.head.fc1.weight", 4)[0]
    return found


OFFICIAL = Official(
    format="torch",
    rules=(Rule("{path}", "body.{path}"),),
    recognise=official_family,
    infer=infer_config,
    drop=(r".*\.num_batches_tracked", r"classifier\..*"),
)


def load_model(model_file_path: str = "", **options: Any) -> HearModel:
    """HEAR 2021: the model behind a registry name, a converted or trained file, or (no path) `ftcbam-nano`.

    Args:
        model_file_path: registry name or `.safetensors` file; "" for the family's default.
        options: `timestamp_mode="windows" | "map"`, `dtype="float32" | "bfloat16"`.
    """
    return zoo.load_model(model_file_path, family="ftcbam", **options)
