"""Learning to tell speakers apart: crops of their recordings, and a loss over speakers as classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hear_models.errors import AudioFileError, UsageError
from hear_models.pipeline.ahead import load_ahead
from hear_models.pipeline.audio import read_audio
from hear_models.pipeline.capabilities import EmbedsVoices, VoiceModel
from hear_models.pipeline.model import HearModel
from hear_models.speaker.losses import KINDS, class_loss
from hear_models.speaker.metrics import equal_error_rate
from hear_models.speaker.scoring import directions
from hear_models.training.batches import Batches, each_once
from hear_models.training.features import Source, cached_features, data_identity, listing, recordings
from hear_models.training.objectives import Report, Way
from hear_models.training.progress import Watched
from hear_models.training.recipe import Recipe
from hear_models.training.run import Run

MOST_HELD_OUT = 300  # clips that are compared with each other at every line of the log


@dataclass(frozen=True)
class Speakers:
    """How speakers are learned; crop and loss as in the line of VoxCeleb's papers."""

    frames: int = 300  # length of a crop, 3 s; shorter clips are followed by silence, as at inference
    loss: str = "am"  # "softmax", "am" or "aam"
    scale: float = 30.0  # of "am" and "aam"
    margin: float = 0.35  # of "am" in cosines; of "aam" in radians (0.2 is usual)
    held_out: float = 0.1  # share of each speaker's clips that is never trained on; their EER is logged
    leave_out: tuple[str, ...] = ()  # speakers that are never trained on


class SpeakerBatch(NamedTuple):
    """Crops, and whose they are."""

    units: np.ndarray  # float32 [clips, frames, bands]
    labels: np.ndarray  # int64 [clips]


class Clip(NamedTuple):
    """A recording: which of the sources, its place there, whose it is."""

    source: int
    place: int
    speaker: int


class SpeakerCrops(Batches[SpeakerBatch]):
    """Draws crops of speakers' clips, in a new order at every round through them."""

    def __init__(
        self, sources: Sequence[Source], clips: Sequence[Clip], model: EmbedsVoices, frames: int, seed: int
    ) -> None:
        self.sources, self.clips, self.model, self.frames, self.seed = sources, clips, model, frames, seed

    def batch(self, step: int, size: int) -> SpeakerBatch:
        """The crops of one step."""
        rng = np.random.Generator(np.random.PCG64([self.seed, step]))
        chosen = [self.clips[place] for place in each_once(len(self.clips), self.seed, step * size, size)]
        units = [self.model.training_crop(self.sources[c.source][c.place], self.frames, rng) for c in chosen]
        return SpeakerBatch(np.stack(units), np.array([clip.speaker for clip in chosen]))


class Classifier(nn.Module):
    """A direction for each speaker, no bias; it is not part of the model."""

    def __init__(self, speakers: int, dim: int, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(speakers, dim))
        nn.init.xavier_normal_(self.weight, generator=torch.Generator().manual_seed(seed))


class SpeakerObjective:
    """Whose voice it is."""

    watched: Watched | None = None

    def __init__(self, recipe: Recipe, run: Run, model: VoiceModel, report: Report) -> None:
        self.settings, self.model = recipe.table("speakers", Speakers), model
        if self.settings.loss not in KINDS:
            raise UsageError(f"[speakers] loss = {self.settings.loss!r} is unknown. Use one of {', '.join(KINDS)}.")
        if self.settings.frames < 2 or not 0 <= self.settings.held_out < 1:
            raise UsageError(
                f"[speakers] frames = {self.settings.frames}, held_out = {self.settings.held_out}: give 2 frames or "
                "more, and a share from 0 to below 1."
            )
        self.sources, found = speaker_sources(run, model, self.settings.leave_out, report)
        names = sorted({name for name, _, _ in found})
        if len(names) < 2:
            raise UsageError(
                f"There are {len(names)} speakers to learn from. Give --data FOLDER with a folder for each speaker."
            )
        clips = [Clip(source, index, names.index(name)) for name, source, index in found]
        trained, self.held_out = parted(clips, self.settings.held_out, recipe.seed)
        report(f"{len(names)} speakers, {len(trained)} clips, {len(self.held_out)} held out")
        self.data = data_identity(self.sources, json.dumps(found).encode())
        self.batches: Batches[SpeakerBatch] = SpeakerCrops(
            self.sources, trained, model, self.settings.frames, recipe.seed
        )
        self.heads: nn.Module | None = Classifier(len(names), model.scene_embedding_size, recipe.seed)

    def loss(self, batch: SpeakerBatch, step: int) -> Tensor:
        """Of one batch; keeps gradients."""
        assert isinstance(self.heads, Classifier)
        return speaker_loss(self.model, self.heads.weight, batch, self.settings)

    def validate(self) -> Mapping[str, float]:
        """The EER of all pairs of clips that were held out, each heard whole."""
        if len({clip.speaker for clip in self.held_out}) < 2:
            return {}
        assert isinstance(self.heads, Classifier)
        device = self.heads.weight.device
        rng = np.random.Generator(np.random.PCG64(0))  # a whole clip leaves nothing to draw
        self.model.train(False)
        with torch.inference_mode():
            embeddings = []
            for clip in self.held_out:
                features = self.sources[clip.source][clip.place]
                unit = self.model.training_crop(features, max(len(features), self.settings.frames), rng)
                embeddings.append(self.model.voices(torch.from_numpy(unit)[None].to(device))[0].float().cpu().numpy())
        self.model.train()
        unit_length = directions(np.stack(embeddings))
        one, other = np.triu_indices(len(unit_length), 1)
        speakers = np.array([clip.speaker for clip in self.held_out])
        scores = (unit_length @ unit_length.T)[one, other]
        return {"eer": round(equal_error_rate(scores, speakers[one] == speakers[other])[0], 5)}


def build(recipe: Recipe, run: Run, model: HearModel, report: Report) -> SpeakerObjective:
    """The objective for a model of voices."""
    if not isinstance(model, VoiceModel):
        raise UsageError(f"{model.family} has no embedding of voices. Use another objective.")
    model.to(memory_format=torch.channels_last)
    return SpeakerObjective(recipe, run, model, report)


def speaker_loss(model: EmbedsVoices, weight: Tensor, batch: SpeakerBatch, settings: Speakers) -> Tensor:
    """The loss of a batch, on the device of the classes' directions `weight` [speakers, dim]; keeps gradients."""
    units, labels = (torch.from_numpy(array).to(weight.device) for array in batch)
    return class_loss(model.voices(units), weight, labels, settings.loss, settings.scale, settings.margin)


def parted(clips: Sequence[Clip], share: float, seed: int) -> tuple[list[Clip], list[Clip]]:
    """(trained on, held out): of each speaker a share, two clips at least where there are three or more.

    At most `MOST_HELD_OUT` in all: fewer of each, and of very many speakers only of the first.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 3]))
    trained: list[Clip] = []
    held: list[Clip] = []
    by_speaker: dict[int, list[Clip]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.speaker, []).append(clip)
    most = max(2, MOST_HELD_OUT // len(by_speaker))
    for _, own in sorted(by_speaker.items()):
        order = rng.permutation(len(own))
        wanted = share > 0 and len(own) > 2 and len(held) + most <= MOST_HELD_OUT
        n = min(most, max(2, round(share * len(own)))) if wanted else 0
        held += [own[i] for i in order[:n]]
        trained += [own[i] for i in sorted(order[n:])]
    return trained, held


def speaker_sources(
    run: Run, model: VoiceModel, leave_out: Sequence[str], report: Report
) -> tuple[list[Source], list[tuple[str, int, int]]]:
    """Features of every recording, and of those that can be read (speaker, source, index), without speakers left out.

    A speaker is a folder in one of the run's folders. Features are computed at the first call, then read.

    Raises:
        UsageError: a recording that lies in no speaker's folder, a speaker to leave out who is not there.
    """
    sources: list[Source] = []
    found: list[tuple[str, int, int]] = []
    absent = set(leave_out)
    for folder in run.folders:
        if folder.is_file():
            raise UsageError(f"{folder} is a file. Give a folder that holds a folder for each speaker.")
        paths = recordings(folder)
        if loose := [path for path in paths if path.parent == folder]:
            raise UsageError(f"{loose[0]} lies in no speaker's folder. Make a folder for each speaker.")
        speakers = [path.relative_to(folder).parts[0] for path in paths]
        absent -= set(speakers)
        sources.append(_source(folder, paths, run, model, report))
        found += [
            (name, len(sources) - 1, index)
            for index, (name, frames) in enumerate(zip(speakers, sources[-1].frames, strict=True))
            if frames > 0 and name not in leave_out
        ]
    if absent:
        raise UsageError(f"[speakers] leave_out names {', '.join(sorted(absent))}, who is not in the data. Correct it.")
    return sources, found


def _source(folder: Path, paths: Sequence[Path], run: Run, model: VoiceModel, report: Report) -> Source:
    def load(path: Path) -> list[np.ndarray]:
        try:
            samples = torch.from_numpy(read_audio(path, model.sample_rate))
        except AudioFileError as error:
            report(f"left out: {error}")
            return [np.zeros((0, model.n_bands), np.float32)]  # keeps the numbers of the others
        with torch.inference_mode():
            features: np.ndarray = model.spectrogram(samples).numpy()
        return [features]

    key: list[object] = ["speakers", listing(folder, paths), repr(model.frontend)]
    features = load_ahead(load, paths, run.workers)
    return cached_features(folder.name, key, run.features, model.n_bands, features, report)


WAY = Way(EmbedsVoices, build, {"speakers": Speakers})
