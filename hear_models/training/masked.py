"""Predicting masked patches of unlabelled sound: the objective of the masked families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from hear_models.errors import UsageError
from hear_models.pipeline.capabilities import MaskedModel, Reconstructs
from hear_models.pipeline.model import HearModel
from hear_models.training.batches import Batches
from hear_models.training.crops import Batch, Crops
from hear_models.training.degrade import Degrade
from hear_models.training.features import (
    Source,
    data_identity,
    folder_recordings,
    log_mels,
    procedural_recordings,
)
from hear_models.training.held_out import EXAMPLES, OTHER_STREAM, HeldOut, Part, parts, watched
from hear_models.training.objectives import Report, Way, WithoutExtras
from hear_models.training.recipe import Recipe
from hear_models.training.run import Run


class Masked(WithoutExtras):
    """Predict the masked patches of a crop; with `[degrade]` those of the clean crop from a degraded one."""

    def __init__(self, recipe: Recipe, run: Run, model: MaskedModel, report: Report) -> None:
        self.recipe, self.run, self.model = recipe, run, model
        sources, held = _sources(recipe, run, model, report)
        self.data = data_identity([source for source, _ in [*sources, *held]])
        self.batches: Batches[Batch] = self._crops(sources, recipe.seed)
        self.held_out = self._crops(held, recipe.seed + OTHER_STREAM) if held else None
        self.watched = watched(recipe, held)

    def _crops(self, sources: Weighed, seed: int) -> Crops:
        m, recipe = self.model, self.recipe
        bands = m.frontend.band_hz.numpy()
        return Crops(
            sources, recipe.data, m.crop_frames, m.training_view, seed, recipe.table("degrade", Degrade), bands
        )

    def loss(self, batch: Batch, step: int) -> Tensor:
        """The family's own loss of one batch, its noise drawn by (seed, step) alone."""
        return self._loss(batch, self.recipe.seed, step)

    def _loss(self, batch: Batch, seed: int, step: int) -> Tensor:
        device = self.run.device
        units, target = (torch.from_numpy(array).to(device) for array in batch)
        noise_rng = np.random.Generator(np.random.PCG64([seed, step, 1]))
        noise = torch.from_numpy(noise_rng.random((len(units), self.model.n_tokens), dtype=np.float32))
        return self.model.reconstruct(units, noise.to(device), target).loss

    def validate(self) -> Mapping[str, float]:
        """The loss of crops of held-out recordings; crops and masks are the same at every look."""
        if self.held_out is None:
            return {}
        size = min(self.recipe.optimiser.batch, EXAMPLES)
        seed, steps = self.recipe.seed + OTHER_STREAM, EXAMPLES // size
        with self.model.evaluating(), torch.inference_mode():
            losses = [float(self._loss(self.held_out.batch(step, size), seed, step)) for step in range(steps)]
        return {"validation_loss": round(float(np.mean(losses)), 5)}


def build(recipe: Recipe, run: Run, model: HearModel, report: Report) -> Masked:
    """The objective for a model that was built with its decoder."""
    if not isinstance(model, MaskedModel):
        raise UsageError(f"{model.family} has no log-mel crops to mask. Use another objective.")
    return Masked(recipe, run, model, report)


Weighed = list[tuple[Source, float]]  # sources with their shares


def _sources(recipe: Recipe, run: Run, model: MaskedModel, report: Report) -> tuple[Weighed, Weighed]:
    """(what is trained on, what is held out)."""
    data, frontend = recipe.data, model.frontend

    def read(some: Sequence[Part]) -> list[Source]:
        found = (folder_recordings(*p, frontend.sample_rate, data.segment_s, run.workers, report) for p in some)
        return [log_mels(recordings, run.features, frontend, report) for recordings in found]

    trained, held = parts(recipe, run)
    folders = read(trained)
    share = data.procedural_share if folders else 1.0
    sources = weighed(folders, 1 - share)
    if data.procedural_hours > 0 and share > 0:
        made = procedural_recordings(data.procedural_hours, recipe.seed, frontend.sample_rate, run.workers)
        sources.append((log_mels(made, run.features, frontend, report), share))
    if not sources:
        raise UsageError("There is nothing to train on. Give --data FOLDER, or procedural_hours in the recipe.")
    return sources, weighed(read(held), 1.0)


def weighed(sources: Sequence[Source], share: float) -> Weighed:
    """Parts of `share` in proportion to their lengths."""
    frames = sum(int(source.frames.sum()) for source in sources)
    return [(source, float(share * source.frames.sum() / frames)) for source in sources]


WAY = Way(Reconstructs, build, {"degrade": Degrade, "validation": HeldOut}, {"decoder": True})
