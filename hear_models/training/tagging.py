"""Learning to tag: crops of labelled clips, mixed, masked, and the loss of their classes, as GISE-51 trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hear_models.datasets.gise51 import (
    AUDIOSET_DELIMITER,
    LABEL_DELIMITER,
    LabelledClip,
    labelled_clips,
    multi_hot,
)
from hear_models.datasets.labelled_scenes import SCENE_S, labelled_scenes
from hear_models.datasets.shards import SUFFIX
from hear_models.errors import AudioFileError, UsageError
from hear_models.metrics.tagging import tagging_scores
from hear_models.pipeline.ahead import load_ahead
from hear_models.pipeline.capabilities import Classifies, Tagger
from hear_models.pipeline.model import HearModel
from hear_models.training.augment import centre_crop, pad_to, training_crop
from hear_models.training.batches import Batches, each_once
from hear_models.training.features import Source, cached_features, data_identity, listing
from hear_models.training.losses import LOSSES, mix, mixup_shares, official_mixup_shares
from hear_models.training.objectives import Report, Way, WithoutExtras
from hear_models.training.progress import Looks, Watched
from hear_models.training.recipe import Recipe
from hear_models.training.run import Run

Clips = Callable[[], Iterator[LabelledClip]]
OTHER_STREAM = 1_000_000  # the scenes that a run of seed s is validated on are those of stream s + this


@dataclass(frozen=True)
class Tagging:
    """How classes are learned; the defaults are those of the GISE-51 paper's code."""

    frames: int = 500  # length of a crop; shorter clips are padded
    loss: str = "bce"  # "bce" or "focal"
    mixup: bool = True  # every clip is mixed with another one
    official_mixup: bool = False  # the same shares in every batch (quirk "mixup-shares")
    masks: bool = True  # SpecAugment on half of the crops


@dataclass(frozen=True)
class Validation(Looks):
    """Clips that are never trained on; without `every` they are looked at once a round through those that are."""

    hours: float = 0.0  # procedural scenes of a stream of their own; `--validation` adds folders
    frames: int = 501  # to which a clip is repeated or cut (the authors within a run: 1000, quirk "validation-frames")

    def __post_init__(self) -> None:
        """Refuse what no run can follow, with a UsageError."""
        super().__post_init__()
        if not (self.hours >= 0 and self.frames >= 1):
            raise UsageError("hours must be 0 or more, frames 1 or more. Correct them.")


class TaggingBatch(NamedTuple):
    """Crops, what is heard in them, and how they are mixed."""

    units: np.ndarray  # float32 [clips, frames, bands]
    targets: np.ndarray  # float32 [clips, classes]
    shares: np.ndarray  # float32 [clips]
    partners: np.ndarray  # int64 [clips]


class LabelledCrops(Batches[TaggingBatch]):
    """Draws crops of labelled clips, in a new order at every round through them.

    Args:
        sources: features of clips, and their targets [clips, classes].
        settings: of the recipe.
        seed: of the run.
    """

    def __init__(self, sources: list[tuple[Source, np.ndarray]], settings: Tagging, seed: int) -> None:
        self.sources, self.settings, self.seed = sources, settings, seed
        self.places = [
            (which, int(index))
            for which, (source, _) in enumerate(sources)
            for index in np.flatnonzero(source.frames)  # a clip that could not be read has none
        ]

    def batch(self, step: int, size: int) -> TaggingBatch:
        """The crops of one step."""
        rng = np.random.Generator(np.random.PCG64([self.seed, step]))
        s, units, targets = self.settings, [], []
        for place in self.drawn(step * size, size):
            which, index = self.places[place]
            source, labels = self.sources[which]
            clip = source[index]
            units.append(training_crop(clip - clip.mean(dtype=np.float64).astype(np.float32), s.frames, rng, s.masks))
            targets.append(labels[index])
        shares = official_mixup_shares(size) if s.official_mixup else mixup_shares(size, rng)
        return TaggingBatch(np.stack(units), np.stack(targets), shares, rng.permutation(size))

    def drawn(self, first: int, size: int) -> Iterator[int]:
        """The clips of the draws [first, first + size): every clip once a round."""
        return each_once(len(self.places), self.seed, first, size)


class TaggingObjective(WithoutExtras):
    """The classes heard in a clip, and how well they are heard in clips that are not trained on."""

    def __init__(self, recipe: Recipe, run: Run, model: Tagger, report: Report) -> None:
        self.settings, self.model = recipe.table("tagging", Tagging), model
        self.validation = validation = recipe.table("validation", Validation)
        if self.settings.loss not in LOSSES:
            raise UsageError(f"[tagging] loss = {self.settings.loss!r} is unknown. Use one of {', '.join(LOSSES)}.")
        sources = [labelled_source(path, run, model, report) for path in run.folders]
        if recipe.data.procedural_hours > 0:
            sources.append(scene_source(recipe.data.procedural_hours, recipe.seed, run, model, report))
        if not sources:
            raise UsageError("There is nothing to train on. Give --data FOLDER, or procedural_hours in the recipe.")
        self.held_out = [labelled_source(path, run, model, report) for path in run.validation]
        if validation.hours > 0:
            self.held_out.append(scene_source(validation.hours, recipe.seed + OTHER_STREAM, run, model, report))
        if validation.decides and not self.held_out:
            raise UsageError("[validation] asks for looks at a validation set. Give --validation FOLDER, or its hours.")
        everything = [*sources, *self.held_out]
        labels = b"".join(np.ascontiguousarray(targets).tobytes() for _, targets in everything)
        self.data = data_identity([source for source, _ in everything], labels)
        crops = LabelledCrops(sources, self.settings, recipe.seed)
        self.batches: Batches[TaggingBatch] = crops
        if self.held_out:
            every = validation.every or max(1, len(crops.places) // recipe.optimiser.batch)
            self.watched = Watched(validation, every, "mAP")

    def loss(self, batch: TaggingBatch, step: int) -> Tensor:
        """Of one batch, mixed if the recipe says so."""
        return tagging_loss(self.model, batch, self.settings)

    def validate(self) -> Mapping[str, float]:
        """mAP and loss of the clips that are never trained on, each repeated or cut to one length."""
        if self.watched is None:
            return {}
        frames, loss = self.validation.frames, LOSSES[self.settings.loss]
        found = [
            (_logits(self.model, torch.from_numpy(source[int(index)]), frames), labels[index])
            for source, labels in self.held_out
            for index in np.flatnonzero(source.frames)
        ]
        logits, targets = np.stack([row for row, _ in found]), np.stack([row for _, row in found])
        score = tagging_scores(logits, targets).mean_average_precision
        mean_loss = float(loss(torch.from_numpy(logits), torch.from_numpy(targets)))
        return {"mAP": round(score, 5), "validation_loss": round(mean_loss, 5)}


def build(recipe: Recipe, run: Run, model: HearModel, report: Report) -> TaggingObjective:
    """The objective for a model with classes."""
    if not isinstance(model, Tagger):
        raise UsageError(f"{model.family} has no head over classes. Use another objective.")
    model.to(memory_format=torch.channels_last)  # on a CPU 1.3 to 2 times as many crops
    return TaggingObjective(recipe, run, model, report)


def tagging_loss(model: Tagger, batch: TaggingBatch, settings: Tagging) -> Tensor:
    """The loss of a batch, on the device of the model; keeps gradients."""
    units, targets, shares, partners = (torch.from_numpy(array).to(model.head.weight.device) for array in batch)
    if settings.mixup:
        units, targets = mix(units, shares, partners), mix(targets, shares, partners)
    return LOSSES[settings.loss](model.classify(units), targets)


def labelled(path: Path, classes: Sequence[str]) -> tuple[Clips, list[Any]]:
    """What reads the clips of a folder or file, and what tells its state from another.

    Several labels of one clip are joined by commas, or by semicolons where names of classes have commas (AudioSet).
    """
    delimiter = AUDIOSET_DELIMITER if any(LABEL_DELIMITER in name for name in classes) else LABEL_DELIMITER
    if not path.is_dir():
        state: list[Any] = [path.name, path.stat().st_size, path.stat().st_mtime_ns]
    elif shards := sorted(path.glob(f"*{SUFFIX}")):
        state = listing(path, shards)
    else:
        found = [Path(clip.name) for clip in labelled_clips(path)]
        state = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in found]
    return lambda: labelled_clips(path, delimiter), state


def labelled_source(path: Path, run: Run, model: Tagger, report: Report) -> tuple[Source, np.ndarray]:
    """Features and targets of the labelled clips of a folder or file; features are computed at the first call.

    Raises:
        InputError: nothing labelled, or a label that is none of the model's classes.
    """
    clips, state = labelled(path, model.classes)
    return _source(path.stem, ["labelled", state], clips, run, model, report)


def scene_source(hours: float, seed: int, run: Run, model: Tagger, report: Report) -> tuple[Source, np.ndarray]:
    """Features and targets of procedural scenes of 5 s."""
    clips = labelled_scenes(seed, max(1, round(hours * 3600 / SCENE_S)))
    return _source("scenes", ["scenes", hours, seed], lambda: iter(clips), run, model, report)


def _source(
    name: str, key: list[Any], clips: Clips, run: Run, model: Tagger, report: Report
) -> tuple[Source, np.ndarray]:
    # labels first: a wrong one is told before hours of features are computed
    targets = np.stack([multi_hot(clip.labels, model.classes) for clip in clips()])

    def load(clip: LabelledClip) -> list[np.ndarray]:
        try:
            return [_features(model, clip)]
        except AudioFileError as error:
            report(f"left out: {error}")
            return [np.zeros((0, model.n_bands), np.float32)]  # keeps the numbers of the others

    settings = [key, type(model.frontend).__name__, model.sample_rate]
    features = load_ahead(load, clips(), run.workers)
    return cached_features(name, settings, run.features, model.n_bands, features, report), targets


def _features(model: Tagger, clip: LabelledClip) -> np.ndarray:
    with torch.inference_mode():
        features: np.ndarray = model.spectrogram(torch.from_numpy(clip.read(model.sample_rate))).numpy()
    return features


def predict(model: HearModel, clips: Iterable[LabelledClip], frames: int = 501) -> np.ndarray:
    """Logits [clips, classes] as the authors evaluate: each clip repeated or cut to `frames` around its middle."""
    if not isinstance(model, Tagger):
        raise UsageError(f"{model.family} has no head over classes. Use a model of gise51.")
    return np.stack([_logits(model, torch.from_numpy(_features(model, clip)), frames) for clip in clips])


def _logits(model: Tagger, features: Tensor, frames: int) -> np.ndarray:
    """[frames, bands], not yet normalised → [classes]."""
    with model.evaluating(), torch.inference_mode():
        if model.normalise is not None:
            features = model.normalise(features)
        unit = np.ascontiguousarray(centre_crop(pad_to(features.numpy(), frames), frames))
        logits: np.ndarray = model.classify(torch.from_numpy(unit)[None].to(model.head.weight.device))[0].cpu().numpy()
    return logits


def initial_weights(model: HearModel, base: HearModel, report: Report) -> dict[str, Tensor]:
    """The weights of `base` for `model`; a classifier of other classes keeps its own head (the paper's transfer)."""
    weights: dict[str, Tensor] = dict(base.state_dict())
    assert isinstance(model, Tagger) and isinstance(base, Tagger)
    if model.classes != base.classes:
        report(f"begins with a new head: {len(model.classes)} classes instead of {len(base.classes)}")
        weights |= {name: tensor for name, tensor in model.state_dict().items() if name.startswith("head.")}
    return weights


WAY = Way(Classifies, build, {"tagging": Tagging, "validation": Validation}, initial_weights=initial_weights)
