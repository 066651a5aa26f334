"""Predicting masked patches of unlabelled sound: the objective of the masked families."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hear_models.errors import UsageError
from hear_models.pipeline.capabilities import MaskedModel, Reconstructs
from hear_models.pipeline.model import HearModel
from hear_models.training.batches import Batches
from hear_models.training.crops import Batch, Crops
from hear_models.training.degrade import Degrade
from hear_models.training.features import Source, data_identity, folder_source, procedural_source
from hear_models.training.objectives import Report, Way, WithoutExtras
from hear_models.training.recipe import Recipe
from hear_models.training.run import Run


class Masked(WithoutExtras):
    """Predict the masked patches of a crop; with `[degrade]` those of the clean crop from a degraded one."""

    def __init__(self, recipe: Recipe, run: Run, model: MaskedModel, report: Report) -> None:
        self.recipe, self.run, self.model = recipe, run, model
        sources = _sources(recipe, run, model, report)
        self.data = data_identity([source for source, _ in sources])
        self.batches: Batches[Batch] = Crops(
            sources,
            recipe.data,
            model.crop_frames,
            model.training_view,
            recipe.seed,
            recipe.table("degrade", Degrade),
            model.frontend.band_hz.numpy(),
        )

    def loss(self, batch: Batch, step: int) -> Tensor:
        """The family's own loss of one batch, its noise drawn by (seed, step) alone."""
        device = self.run.device
        units, target = (torch.from_numpy(array).to(device) for array in batch)
        noise_rng = np.random.Generator(np.random.PCG64([self.recipe.seed, step, 1]))
        noise = torch.from_numpy(noise_rng.random((len(units), self.model.n_tokens), dtype=np.float32))
        return self.model.reconstruct(units, noise.to(device), target).loss


def build(recipe: Recipe, run: Run, model: HearModel, report: Report) -> Masked:
    """The objective for a model that was built with its decoder."""
    if not isinstance(model, MaskedModel):
        raise UsageError(f"{model.family} has no log-mel crops to mask. Use another objective.")
    return Masked(recipe, run, model, report)


def _sources(recipe: Recipe, run: Run, model: MaskedModel, report: Report) -> list[tuple[Source, float]]:
    data = recipe.data
    folders = [folder_source(f, run.features, model.frontend, data.segment_s, run.workers, report) for f in run.folders]
    frames = sum(int(source.frames.sum()) for source in folders)
    share = data.procedural_share if folders else 1.0
    sources = [(source, float((1 - share) * source.frames.sum() / frames)) for source in folders]
    if data.procedural_hours > 0 and share > 0:
        made = procedural_source(data.procedural_hours, recipe.seed, run.features, model.frontend, run.workers, report)
        sources.append((made, share))
    if not sources:
        raise UsageError("There is nothing to train on. Give --data FOLDER, or procedural_hours in the recipe.")
    return sources


WAY = Way(Reconstructs, build, {"degrade": Degrade}, {"decoder": True})
