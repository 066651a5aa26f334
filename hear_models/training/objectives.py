"""What a run trains on and towards: batches, and the loss of one. The loop knows nothing else of an objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hear_models.errors import UsageError
from hear_models.pipeline.model import HearModel
from hear_models.training.batches import Batches
from hear_models.training.crops import Batch, Crops
from hear_models.training.features import folder_source, procedural_source
from hear_models.training.recipe import Recipe
from hear_models.training.run import Run

Report = Callable[[str], None]


class Objective(Protocol):
    """Batches and their loss."""

    @property
    def batches(self) -> Batches[Any]:
        """What the loop draws from."""

    def loss(self, batch: Any, step: int) -> Tensor:
        """The loss of one batch; keeps gradients."""


def build(module: Any, config: Any, seed: int) -> HearModel:
    """The network of a recipe with everything that training needs: a decoder for masked families."""
    model: HearModel = module.Model(config, seed=seed, **options_of(module))
    return model


def options_of(module: Any) -> dict[str, Any]:
    """Options of a family's Model that training needs."""
    return {"decoder": True} if is_masked(module) else {}


def is_masked(module: Any) -> bool:
    """Whether a family learns by predicting what was masked."""
    return hasattr(module, "reconstruct")


def is_tagger(module: Any) -> bool:
    """Whether a family learns classes."""
    return hasattr(module.Model, "classify")


def objective_of(recipe: Recipe, run: Run, module: Any, model: HearModel, report: Report) -> Objective:
    """The objective of the recipe's family, its data read and its features computed."""
    if is_masked(module):
        return Masked(recipe, run, module, model, report)
    from hear_models.training.tagging import Tagging

    return Tagging(recipe, run, model, report)


def initial_weights(model: HearModel, base: HearModel, report: Report) -> Mapping[str, Tensor]:
    """The weights of `base` for `model`; a classifier of other classes keeps its own head (the paper's transfer)."""
    weights = dict(base.state_dict())
    ours, theirs = getattr(model.config, "classes", None), getattr(base.config, "classes", None)
    if ours != theirs:
        report(f"begins with a new head: {len(ours or ())} classes instead of {len(theirs or ())}")
        weights |= {name: tensor for name, tensor in model.state_dict().items() if name.startswith("head.")}
    return weights


class Masked:
    """Predict the masked patches of a crop of unlabelled sound: the objective of the masked families."""

    def __init__(self, recipe: Recipe, run: Run, module: Any, model: Any, report: Report) -> None:
        self.recipe, self.run, self.module, self.model = recipe, run, module, model
        self.batches: Batches[Batch] = Crops(
            _sources(recipe, run, model, report),
            recipe.data,
            model.config.frames_per_unit,
            model.training_view,
            recipe.seed,
            recipe.degrade,
            model.frontend.band_hz.numpy(),
        )

    def loss(self, batch: Batch, step: int) -> Tensor:
        """Mean squared error of the masked patches, by the family's `reconstruct`."""
        device, config = self.run.device, self.model.config
        units, target = (torch.from_numpy(array).to(device) for array in batch)
        noise_rng = np.random.Generator(np.random.PCG64([self.recipe.seed, step, 1]))
        noise = torch.from_numpy(noise_rng.random((len(units), config.tokens), dtype=np.float32))
        loss: Tensor = self.module.reconstruct(self.model, units, noise.to(device), target).loss
        return loss


def _sources(recipe: Recipe, run: Run, model: Any, report: Report) -> list:
    data = recipe.data
    folders = [folder_source(f, run.features, model.frontend, data.segment_s, run.workers, report) for f in run.folders]
    frames = sum(int(source.frames.sum()) for source in folders)
    share = data.procedural_share if folders else 1.0
    sources = [(source, (1 - share) * source.frames.sum() / frames) for source in folders]
    if data.procedural_hours > 0 and share > 0:
        made = procedural_source(data.procedural_hours, recipe.seed, run.features, model.frontend, run.workers, report)
        sources.append((made, share))
    if not sources:
        raise UsageError("There is nothing to train on. Give --data FOLDER, or procedural_hours in the recipe.")
    return sources
