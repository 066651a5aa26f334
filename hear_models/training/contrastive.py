"""Telling two segments of one recording from those of others: COLA's pretraining on raw sound (Saeed et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hear_models.errors import UsageError
from hear_models.frontends.spec_augment import spec_augment
from hear_models.layers.contrastive import BilinearHead
from hear_models.pipeline.capabilities import ContrastiveModel, Contrasts
from hear_models.pipeline.model import HearModel
from hear_models.training.batches import Batches, each_once
from hear_models.training.features import (
    FULL_SCALE,
    Source,
    data_identity,
    folder_recordings,
    procedural_recordings,
    raw_samples,
)
from hear_models.training.held_out import EXAMPLES, OTHER_STREAM, HeldOut, parts, watched
from hear_models.training.objectives import Report, Way, WithoutExtras
from hear_models.training.recipe import Recipe
from hear_models.training.run import Run

SHORTEST = 1 / 4  # recordings below this share of a segment are left out: most of their segments would be silence


@dataclass(frozen=True)
class Contrasting:
    """What is done to the positives; the defaults are those of Yadav and Zeghidour's code."""

    noise: float = 0.001  # deviation of what is added to a positive, after its level was taken away
    masks: bool = True  # SpecAugment on the positives' features
    official_masks: bool = False  # wide masks always at the end (quirk `coupled-masks`)


class Pairs(NamedTuple):
    """Segments float32 [n, samples] each, ready for the front end: row i of both comes from one recording."""

    anchors: np.ndarray
    positives: np.ndarray


class Segments(Batches[Pairs]):
    """Draws two segments of every recording, in a new order at every round through them.

    Args:
        sources: samples of recordings.
        model: whose segments they are.
        noise: see `Contrasting`.
        seed: of the run.
    """

    def __init__(self, sources: list[Source], model: ContrastiveModel, noise: float, seed: int) -> None:
        self.model, self.noise, self.seed = model, noise, seed
        self.places = [(source, index) for source in sources for index in range(len(source))]

    def batch(self, step: int, size: int) -> Pairs:
        """The pairs of one step. No recording comes twice in it, unless a round ends within it."""
        rng = np.random.Generator(np.random.PCG64([self.seed, step]))
        anchors, positives = [], []
        for place in each_once(len(self.places), self.seed, step * size, size):
            source, index = self.places[place]
            recording = self.model.prepare_clip(torch.from_numpy(source[index][:, 0] / np.float32(FULL_SCALE)))
            anchor, positive = two_segments(recording, self.model.crop_samples, rng)
            anchors.append(self.model.prepare_window(anchor).numpy())
            noise = np.float32(self.noise) * rng.standard_normal(self.model.crop_samples, dtype=np.float32)
            positives.append(self.model.prepare_window(positive).numpy() + noise)
        return Pairs(np.stack(anchors), np.stack(positives))


def two_segments(recording: Tensor, samples: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Two independent segments of a recording [n]; below two segments it lies amid zeros."""
    missing = max(0, 2 * samples - len(recording))
    padded = torch.nn.functional.pad(recording, (missing // 2, missing - missing // 2))
    first, second = (int(rng.integers(0, len(padded) - samples)) for _ in range(2))
    return padded[first : first + samples], padded[second : second + samples]


class Contrastive(WithoutExtras):
    """Find the positive of every anchor among those of the batch."""

    def __init__(self, recipe: Recipe, run: Run, model: ContrastiveModel, report: Report) -> None:
        if recipe.optimiser.batch < 2:
            raise UsageError(f"batch is {recipe.optimiser.batch}: a pair has nothing to be told from. Give more.")
        self.recipe, self.run, self.model = recipe, run, model
        self.settings = recipe.table("contrast", Contrasting)
        sources, held = _sources(recipe, run, model, report)
        self.data = data_identity([*sources, *held])
        self.batches: Batches[Pairs] = Segments(sources, model, self.settings.noise, recipe.seed)
        self.held_out = Segments(held, model, self.settings.noise, recipe.seed + OTHER_STREAM)
        self.watched = watched(recipe, held)
        if self.watched is not None and len(self.held_out.places) < 2:
            raise UsageError("One recording is held out: a pair has nothing to be told from. Give --validation more.")

    def loss(self, batch: Pairs, step: int) -> Tensor:
        """Of one batch; what is dropped and masked is drawn by (seed, step) alone."""
        anchors, positives = (torch.from_numpy(array).to(self.run.device) for array in batch)
        with drawn_by(self.recipe.seed, step, anchors.device) as rng:

            def hide(features: Tensor) -> Tensor:
                return spec_augment(features, rng, coupled=self.settings.official_masks)

            return self.model.contrast(anchors, positives, hide if self.settings.masks else None).loss

    def validate(self) -> Mapping[str, float]:
        """Loss of held-out pairs, and the share of anchors whose positive is found; the same pairs at every look."""
        if self.watched is None:
            return {}
        size = min(self.recipe.optimiser.batch, len(self.held_out.places), EXAMPLES)
        losses, right = [], []
        with self.model.evaluating(), torch.inference_mode():
            for step in range(EXAMPLES // size):
                pairs = self.held_out.batch(step, size)
                anchors, positives = (torch.from_numpy(array).to(self.run.device) for array in pairs)
                told = self.model.contrast(anchors, positives)
                losses.append(float(told.loss))
                right.append(float((told.logits.argmax(1).cpu() == torch.arange(size)).float().mean()))
        return {
            "validation_loss": round(float(np.mean(losses)), 5),
            "validation_accuracy": round(float(np.mean(right)), 5),
        }


@contextmanager
def drawn_by(seed: int, step: int, device: torch.device) -> Iterator[torch.Generator]:
    """Whatever torch draws within follows from (seed, step), so that a resumed run drops the same; a generator too."""
    number = int(np.random.SeedSequence([seed, step, 1]).generate_state(1, np.uint64)[0] >> 1)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(number)
        yield torch.Generator().manual_seed(number)


def build(recipe: Recipe, run: Run, model: HearModel, report: Report) -> Contrastive:
    """The objective for a model with a head that compares."""
    if not isinstance(model, ContrastiveModel):
        raise UsageError(f"{model.family} has no segments to compare. Use another objective.")
    if not isinstance(getattr(model, "head", None), BilinearHead):
        raise UsageError("this network has a classifier instead of COLA's head. Leave `classes` out of [model].")
    return Contrastive(recipe, run, model, report)


def _sources(recipe: Recipe, run: Run, model: ContrastiveModel, report: Report) -> tuple[list[Source], list[Source]]:
    """(trained on, held out): recordings of folders, procedural ones; each counts once a round, whatever its length."""
    data, rate = recipe.data, model.sample_rate
    if data.procedural_share:
        raise UsageError("procedural_share has no meaning here: every recording comes once a round. Leave it out.")
    trained, held = parts(recipe, run)
    recordings = [folder_recordings(*part, rate, data.segment_s, run.workers, report) for part in trained]
    if data.procedural_hours > 0:
        recordings.append(procedural_recordings(data.procedural_hours, recipe.seed, rate, run.workers))
    if not recordings:
        raise UsageError("There is nothing to train on. Give --data FOLDER, or procedural_hours in the recipe.")
    shortest = math.ceil(SHORTEST * model.crop_samples)
    out = [folder_recordings(*part, rate, data.segment_s, run.workers, report) for part in held]
    read = [[raw_samples(some, rate, shortest, run.features, report) for some in kind] for kind in (recordings, out)]
    return read[0], read[1]


WAY = Way(Contrasts, build, {"contrast": Contrasting, "validation": HeldOut})
