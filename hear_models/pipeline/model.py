"""The one flow from clips to embeddings, owned here for every family: checks, units, batching, merging, times."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from hear_models.errors import InputError, UsageError
from hear_models.pipeline.batching import units_per_forward
from hear_models.pipeline.fill import cut
from hear_models.pipeline.hub_methods import HubMethods
from hear_models.pipeline.normalise import Standardise, Statistics
from hear_models.pipeline.plan import Plan, Purpose, Unit
from hear_models.pipeline.streaming import LOOKS_AHEAD

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from typing_extensions import Self

    from hear_models.pipeline.stream import Stream

TIMESTAMPS = ("centres", "official")
WITHOUT_FLOAT64 = ("mps",)
FEWEST_FRAMES, MOST_CHANNELS = 100, 32  # no batch, but a clip the wrong way round
LONGEST_WAIT = 4  # forward passes that a unit of a rare length waits for company; behind it finished clips wait too


@dataclass(frozen=True)
class CheckpointInfo:
    """Where a model's weights come from: registry name, file, its sha256, and whether they were trained."""

    name: str
    path: str | None
    sha256: str | None
    trained: bool


class HearModel(HubMethods, nn.Module):
    """A model of the HEAR 2021 API: the flow, once for all families.

    A family must supply `plan`, `spectrogram` and `network`; the other methods of that section have a default.
    What training and tagging ask of a family beyond this stands in `pipeline/capabilities.py`.

    Attributes:
        family: the name of the family's module.
        config: the family's frozen `Config`.
        frontend: from samples to features; if it is learned, it stays float32 whatever `use_dtype` says.
        sample_rate: Hz; callers resample.
        scene_embedding_size, timestamp_embedding_size: dimensions of the two kinds of embedding.
        min_samples: shorter clips are made longer.
        short_clips: how: "zeros" behind them up to `min_samples`, or "repeat": as many whole copies as it takes.
        scene_pooling: how steps become a scene embedding: "mean", or "mean+std" (twice the dimensions).
        normalise: what happens to the features of a clip, None = nothing.
        batch_dependent: True if a clip's embedding depends on its neighbours in the call; callers then keep batches.
        checkpoint: where the weights come from; set by the zoo.
        not_streamed: why the steps of a sound that is still going on cannot be had exactly; "" if they can. A literal
            in the family's file, for it is read there without importing anything.
    """

    family: ClassVar[str]
    not_streamed: ClassVar[str] = LOOKS_AHEAD
    batch_dependent: bool = False
    scene_pooling: str = "mean"
    short_clips: str = "zeros"
    config: DataclassInstance
    frontend: nn.Module
    sample_rate: int
    scene_embedding_size: int
    timestamp_embedding_size: int
    min_samples: int
    normalise: Standardise | None = None
    checkpoint: CheckpointInfo | None = None

    def __init__(self, timestamps: str = "centres") -> None:
        super().__init__()
        if timestamps not in TIMESTAMPS:
            raise UsageError(f"timestamps={timestamps!r} is unknown. Use one of {', '.join(TIMESTAMPS)}.")
        self.timestamps = timestamps
        self.compute_dtype = torch.float32
        self.compiled = False
        self._compiled: Callable[[Tensor], Tensor] | None = None

    def use_dtype(self, dtype: torch.dtype) -> None:
        """Keep the weights in `dtype` and compute in it from the first token on; front end and results stay float32."""
        for name, parameter in self.named_parameters():
            if not self.stays_float32(name):
                parameter.data = parameter.data.to(dtype)
        self.compute_dtype = dtype

    def use_compile(self) -> None:
        """Let torch.compile make the network's code at its first call, once for units of any number."""
        self.compiled = True

    def _compiled_network(self, units: Tensor) -> Tensor:
        if self._compiled is None:
            self._compiled = torch.compile(self.network, dynamic=True)
        try:
            steps: Tensor = self._compiled(units)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise UsageError(f"torch.compile failed here ({reason}). Load the model without compile=True.") from error
        return steps

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: compiled code is made again where it is needed."""
        return self.__dict__ | {"_compiled": None}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """`to`, `half`, `double` and their like: a device holds for everything, a dtype as `use_dtype` means it."""
        wanted = fn(torch.zeros(1, dtype=self.compute_dtype)).dtype
        if wanted is self.compute_dtype:
            return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]
        super()._apply(lambda tensor: tensor.to(fn(tensor.new_empty(0)).device), recurse)  # type: ignore[no-untyped-call]
        self.use_dtype(wanted)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As of any module; UsageError for a device that has no float64, in which features and gates are summed."""
        device = torch._C._nn._parse_to(*args, **kwargs)[0]
        if device is not None and device.type in WITHOUT_FLOAT64:
            raise UsageError(
                f"{device.type} computes no float64, in which features are measured and gates are summed. "
                "Run the model on cpu or cuda."
            )
        return super().to(*args, **kwargs)

    # ------------------------------------------------------------------ what a family must supply

    def plan(self, n_samples: int, purpose: Purpose) -> Plan:
        """Units, kept steps and times of a clip of `n_samples`; see `Plan`."""
        raise NotImplementedError

    def spectrogram(self, clip: Tensor) -> Tensor:
        """One clip [samples], at least `min_samples` long → its features [positions, bands], not yet normalised."""
        raise NotImplementedError

    def network(self, units: Tensor) -> Tensor:
        """Normalised units [units, positions, bands], float32 → steps [units, steps, dim]. Keeps gradients.

        From the first product on it computes in `compute_dtype`.
        """
        raise NotImplementedError

    # ------------------------------------------------------------------ what a family may supply

    def prepare_clip(self, clip: Tensor) -> Tensor:
        """What happens to a whole clip [samples] before anything is cut; nothing, unless the paper says otherwise."""
        return clip

    def prepare_window(self, window: Tensor) -> Tensor:
        """What happens to a window [samples] of a plan over samples, before the front end; nothing by default."""
        return window

    def window_features(self, windows: Tensor) -> Tensor:
        """Prepared windows [units, samples] of a plan over samples → normalised features [units, positions, bands]."""
        return torch.stack([self.features(window) for window in windows])

    def unit_cost(self, unit: Unit, plan: Plan) -> int:
        """What a unit costs the network, in frames of 10 ms: so that enough units, and not too many, share a pass."""
        return unit.length if plan.domain == "frames" else round(unit.length * 100 / self.sample_rate)

    def stays_float32(self, name: str) -> bool:
        """Whether a parameter is computed with in float32 whatever `use_dtype` says: those of the front end are."""
        return name.startswith("frontend.")

    def layers(self, units: Tensor) -> list[Tensor]:
        """Normalised units → the steps [units, steps, dim] of every block's output; the last are the network's."""
        raise UsageError(f"{self.family} has no blocks, so there are no hidden states. Use the embeddings.")

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Whether pretraining decays this parameter's weights; all, unless the family's paper says otherwise."""
        return True

    def trained_config(self) -> DataclassInstance:
        """The `Config` to write beside weights that this project trains, where it differs from the published one."""
        return self.config

    # ------------------------------------------------------------------ the flow

    def encode(self, units: Tensor) -> Tensor:
        """Units [units, positions, bands] → steps [units, steps, dim], float32. Keeps gradients."""
        return (self._compiled_network(units) if self.compiled else self.network(units)).float()

    def encode_layers(self, units: Tensor) -> Tensor:
        """Units → steps of every layer [units, steps, layers, dim], float32."""
        return torch.stack(self.layers(units), dim=2).float()

    def forward(self, audio: Tensor) -> Tensor:
        """Audio [clips, samples] → scene embeddings [clips, dim]. Keeps gradients; the HEAR functions do not.

        Raises InputError as they do.
        """
        check_audio(audio)
        for index, clip in enumerate(audio):
            check_clip(clip, index)
        return torch.stack(
            [
                pool_scene(steps, plan, self.scene_pooling)
                for steps, plan in self._steps(audio, self._planner("scene"), self.encode)
            ]
        )

    def get_scene_embeddings(self, audio: Tensor) -> Tensor:
        """HEAR 2021: one embedding a clip.

        Args:
            audio: [clips, samples], floating point, range [-1, 1], mono, at `sample_rate`.

        Returns:
            float32 [clips, scene_embedding_size], on the audio's device.

        Raises:
            InputError (a ValueError): wrong rank or dtype, empty, NaN or infinity.
        """
        check_audio(audio)
        return torch.stack(self.embed_clips(list(audio), "scene"))

    def get_timestamp_embeddings(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """HEAR 2021: one embedding a step, and the centre of each step.

        Args:
            audio: [clips, samples], floating point, range [-1, 1], mono, at `sample_rate`.

        Returns:
            embeddings float32 [clips, steps, timestamp_embedding_size] and times float32 [clips, steps] in ms.

        Raises:
            InputError (a ValueError): wrong rank or dtype, empty, NaN or infinity.
        """
        check_audio(audio)
        embeddings, times = zip(*self.embed_clips(list(audio), "timestamps"), strict=True)
        return torch.stack(embeddings), torch.stack(times)

    def embed_clips(self, clips: Sequence[Tensor], purpose: Purpose = "scene") -> list[Any]:
        """Clips of any lengths, each [samples] → a list in the same order.

        Returns:
            "scene": tensors [dim]; "timestamps": pairs of embeddings [steps, dim] and times [steps] in ms. float32.

        Raises:
            InputError: a clip is empty, not 1-D, not floating point, or holds NaN or infinity; with its index.
        """
        if purpose not in ("scene", "timestamps"):
            raise UsageError(f"purpose={purpose!r} is unknown. Use 'scene' or 'timestamps'.")
        for index, clip in enumerate(clips):
            check_clip(clip, index)
        results: list[Any] = []
        # autocast of a caller must not change what we return
        device = clips[0].device.type if clips else "cpu"
        with self.evaluating(), torch.inference_mode(), torch.autocast(device, enabled=False):
            for steps, plan in self._steps(clips, self._planner(purpose), self.encode):
                if purpose == "scene":
                    results.append(pool_scene(steps, plan, self.scene_pooling))
                else:
                    times = torch.from_numpy(plan.times_ms).to(steps.device, torch.float32)
                    results.append((at_times(steps, plan), times))
        if purpose == "scene":  # copies made out here are tensors on which a head can be trained
            return [scene.clone() for scene in results]
        return [(steps.clone(), times.clone()) for steps, times in results]

    def stream(self, normalize: Any = None) -> Stream:
        """The steps of a sound that is still going on, each as soon as it is final: see `pipeline.stream.Stream`.

        Args:
            normalize: (mean, deviation) of the log-mel of similar sounds, `model.statistics(clips)`, or None if the
                model was loaded with fixed statistics: those of a clip are known at its end only.

        Raises:
            UsageError: the family cannot be streamed exactly, or `normalize` or the layout of the steps look ahead.
        """
        raise UsageError(
            f"{self.family} cannot be streamed exactly: {self.not_streamed}. "
            "Embed windows of the sound instead: hear-models embed --window, or hear_models.embed on pieces."
        )

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode for a while; whatever was in training mode goes back to it."""
        in_training = [module for module in self.modules() if module.training]
        self.eval()
        try:
            yield
        finally:
            for module in in_training:
                module.training = True

    def hidden_states(self, audio: Tensor) -> Tensor:
        """Steps of every layer: block outputs, the last after the final norm; folded and trimmed like the embeddings.

        Args:
            audio: [clips, samples] as for the HEAR functions.

        Returns:
            float32 [layers, clips, steps, dim]; steps past the end of the clip included, as in the scene mean.
        """
        check_audio(audio)
        with self.evaluating(), torch.inference_mode(), torch.autocast(audio.device.type, enabled=False):
            clips = [steps for steps, _ in self._steps(audio, self._planner("timestamps"), self.encode_layers)]
        return torch.stack(clips).permute(2, 0, 1, 3)

    def features(self, clip: Tensor, statistics: Statistics | None = None) -> Tensor:
        """One clip [samples], at least `min_samples` long → its normalised features [positions, bands]."""
        features = self.spectrogram(clip)
        if self.normalise is None:
            return features
        return self.normalise(features) if statistics is None else self.normalise(features, statistics)

    def statistics(self, clips: Iterable[Tensor]) -> Statistics:
        """Mean and spread of the features of all clips together, each [samples], before any normalisation."""
        with torch.no_grad():
            parts = [Statistics.of(self.spectrogram(self._long_enough(self.prepare_clip(clip)))) for clip in clips]
        if not parts:
            raise InputError("there are no clips to measure. Give at least one.")
        return sum(parts[1:], parts[0])

    def _long_enough(self, clip: Tensor) -> Tensor:
        clip = clip.float()
        missing = self.min_samples - clip.shape[0]
        if missing <= 0:
            return clip
        if self.short_clips == "repeat":
            return clip.repeat(math.ceil(self.min_samples / len(clip)))
        return pad(clip, (0, missing))

    def units(self, clip: Tensor, plan: Plan, statistics: Statistics | None = None) -> Iterator[Tensor]:
        """The units of one clip [samples], past the clip's ends as the plan says.

        Each is [length, bands], or, of a plan over samples, a prepared window [length].
        """
        clip = self.prepare_clip(clip)
        if plan.domain == "samples":
            samples = clip.float()[:, None]
            for unit in plan.units:
                yield self.prepare_window(cut(samples, unit.start, unit.start + unit.length, plan.fill)[:, 0])
            return
        stretch: tuple[int, int] | None = None
        features: Tensor | None = None
        for unit in plan.units:
            if features is None or unit.samples != stretch:
                stretch = unit.samples
                piece = clip if stretch is None else clip[stretch[0] : stretch[1]]
                features = self.features(self._long_enough(piece), statistics)
            yield cut(features, unit.start, unit.start + unit.length, plan.fill)

    def _planner(self, purpose: Purpose) -> Callable[[int], Plan]:
        return lambda n_samples: self.plan(n_samples, purpose)

    def _steps(
        self, clips: Iterable[Tensor], plan_of: Callable[[int], Plan], encode: Callable[[Tensor], Tensor]
    ) -> Iterator[tuple[Tensor, Plan]]:
        """The kept steps [n_steps, ...] of each clip in order, with its plan.

        Units of equal length share a forward pass, whichever clip they come from; a clip is handed on when its last
        unit is encoded, so memory is bounded by the longest clip and not by the number of clips.
        """
        if torch.jit.is_tracing():
            raise UsageError(
                "How a clip is cut depends on its length, which a trace would freeze. "
                "Use load_model(..., compile=True)."
            )
        shared = None
        if isinstance(self.normalise, Standardise) and self.normalise.scope == "call":
            clips = list(clips)
            shared = self.statistics(clips)
        waiting: list[_Clip] = []
        queues: dict[torch.Size, list[tuple[_Clip, int, Tensor]]] = {}  # by shape, the one begun first in front
        begun: dict[torch.Size, int] = {}  # the unit, counted over all clips, that began the queue
        count = 0

        def flush(shape: torch.Size) -> None:
            queue = queues.pop(shape)
            del begun[shape]
            units = torch.stack([positions for *_, positions in queue])
            steps = encode(self.window_features(units) if units.ndim == 2 else units)
            for (clip, index, _), unit_steps in zip(queue, steps, strict=True):
                clip.put(index, unit_steps)

        for clip in clips:
            plan = plan_of(max(1, clip.shape[0]))
            state = _Clip(plan)
            waiting.append(state)
            for index, positions in enumerate(self.units(clip, plan, shared)):
                count += 1
                shape = positions.shape
                queues.setdefault(shape, []).append((state, index, positions))
                begun.setdefault(shape, count)
                most = units_per_forward(positions.device, self.unit_cost(plan.units[index], plan))
                if len(queues[shape]) >= most:
                    flush(shape)
                first = next(iter(queues), None)
                if first is not None and count - begun[first] >= LONGEST_WAIT * most:
                    flush(first)
            while waiting and waiting[0].complete:
                done = waiting.pop(0)
                yield done.steps(), done.plan
        for shape in list(queues):
            flush(shape)
        for state in waiting:
            yield state.steps(), state.plan


class _Clip:
    """The steps of one clip while its units are being encoded."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.pieces: dict[int, Tensor] = {}

    @property
    def complete(self) -> bool:
        return len(self.pieces) == len(self.plan.units)

    def put(self, index: int, steps: Tensor) -> None:
        unit = self.plan.units[index]
        self.pieces[index] = steps[unit.skip : unit.skip + unit.steps]

    def steps(self) -> Tensor:
        return torch.cat([self.pieces[index] for index in range(len(self.pieces))])[: self.plan.n_steps]


def pool_scene(steps: Tensor, plan: Plan, pooling: str) -> Tensor:
    """Weighted mean over the kept steps, [n_steps, dim] → [dim]; with "mean+std" the deviation behind it, [2 * dim]."""
    n_steps = steps.shape[0]
    if plan.weights is None:
        weights = torch.full((n_steps,), 1 / n_steps, device=steps.device, dtype=steps.dtype)
    else:
        weights = torch.from_numpy(plan.weights / np.sum(plan.weights)).to(steps.device, steps.dtype)
    mean = weights @ steps
    if pooling == "mean":
        return mean
    variance = weights @ (steps - mean).square()
    return torch.cat([mean, variance.clamp_min(1e-12).sqrt()])  # the root's gradient is infinite at 0


def at_times(steps: Tensor, plan: Plan) -> Tensor:
    """Steps [n_steps, dim] → embeddings at the plan's times [n_returned, dim]; interpolated if they lie elsewhere."""
    if plan.steps_ms is None:
        return steps[: len(plan.times_ms)]
    place = np.interp(plan.times_ms, plan.steps_ms, np.arange(len(plan.steps_ms)))
    before = np.minimum(place.astype(np.int64), max(0, len(plan.steps_ms) - 2))
    share = torch.from_numpy(place - before).to(steps.device, steps.dtype)[:, None]
    left = torch.from_numpy(before).to(steps.device)
    return torch.lerp(steps[left], steps[(left + 1).clamp_max(len(steps) - 1)], share)


def check_audio(audio: Tensor) -> None:
    """Raise `InputError` unless `audio` is a non-empty 2-D floating-point tensor."""
    if not isinstance(audio, Tensor):
        raise InputError(
            f"audio is a {type(audio).__name__}; HEAR functions take a tensor. Use torch.from_numpy(array)."
        )
    if audio.ndim != 2:
        raise InputError(
            f"audio has shape {tuple(audio.shape)}; HEAR functions take [clips, samples]. "
            "Use audio[None] for one mono clip, or hear_models.embed() for lists and files."
        )
    if audio.shape[0] == 0:
        raise InputError("audio holds no clips: its shape is [0, samples]. Give at least one.")
    check_batch_shape(audio)


def check_batch_shape(audio: Tensor | np.ndarray) -> None:
    """Raise `InputError` for [frames, channels], as soundfile gives it, in the place of [clips, samples]."""
    first, last = audio.shape
    if first >= FEWEST_FRAMES and last <= MOST_CHANNELS:
        raise InputError(
            f"audio has shape {tuple(audio.shape)}, which looks like [frames, channels]; a batch is [clips, samples]. "
            "Mix its channels to one clip: audio.mean(axis=1), or transpose it to embed each: audio.T."
        )


def check_clip(clip: Tensor, index: int) -> None:
    """Raise `InputError` unless `clip` is a non-empty, finite, 1-D floating-point tensor."""
    if clip.ndim != 1:
        raise InputError(
            f"clip {index} has shape {tuple(clip.shape)}; a clip is [samples], mono. Mix its channels down first."
        )
    if not clip.is_floating_point():
        raise InputError(
            f"clip {index} is {clip.dtype}; audio is floating point in [-1, 1]. "
            "Scale integers first, for instance int16: audio.float() / 32768."
        )
    if clip.shape[0] == 0:
        raise InputError(f"clip {index} is empty. A clip needs at least one sample.")
    if not torch.isfinite(clip.sum()) and not torch.isfinite(clip).all():  # the sum is quick, but may overflow
        raise InputError(f"clip {index} holds NaN or infinity. Repair the recording or leave it out.")
