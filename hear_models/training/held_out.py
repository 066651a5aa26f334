"""Recordings that an unlabelled run never trains on: a share of those in its folders, or folders of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hear_models.errors import UsageError
from hear_models.training.features import recordings
from hear_models.training.progress import Looks, Watched
from hear_models.training.recipe import Recipe
from hear_models.training.run import Run

LOOKS = 20  # in a run, unless the recipe says after how many updates
EXAMPLES = 256  # that a look computes, the same ones every time
OTHER_STREAM = 1_000_000  # what is drawn for a look by a run of seed s is drawn by s + this


@dataclass(frozen=True)
class HeldOut(Looks):
    """What is never trained on; without `every` there are 20 looks in a run."""

    share: float = 0.0  # of the recordings of every folder, whole files; `--validation` adds folders

    def __post_init__(self) -> None:
        """Refuse what no run can follow, with a UsageError."""
        super().__post_init__()
        if not 0 <= self.share < 1:
            raise UsageError(f"[validation] share = {self.share}: give a share from 0 to below 1.")


class Part(NamedTuple):
    """Some of the recordings under a folder."""

    folder: Path
    paths: list[Path]
    name: str


def parts(recipe: Recipe, run: Run) -> tuple[list[Part], list[Part]]:
    """(what is trained on, what is held out). UsageError if a folder gives too little, or one recording is in both."""
    settings = recipe.table("validation", HeldOut)
    trained: list[Part] = []
    held: list[Part] = []
    for folder in run.folders:
        paths = recordings(folder)
        n = max(1, round(settings.share * len(paths))) if settings.share else 0
        if n >= len(paths):
            raise UsageError(f"{folder} holds {len(paths)} recordings, too few to hold some out. Give more.")
        order = np.random.Generator(np.random.PCG64([recipe.seed, 4])).permutation(len(paths))
        out = {int(i) for i in order[:n]}
        trained.append(Part(folder, [path for i, path in enumerate(paths) if i not in out], folder.name))
        if out:
            held.append(Part(folder, [paths[i] for i in sorted(out)], f"{folder.name}-held-out"))
    held += [Part(folder, recordings(folder), folder.name) for folder in run.validation]
    _keep_apart(trained, held)
    if settings.decides and not held:
        raise UsageError("[validation] asks for looks at held-out recordings. Give --validation FOLDER, or its share.")
    return trained, held


def _keep_apart(trained: Sequence[Part], held: Sequence[Part]) -> None:
    seen = {path.resolve() for part in trained for path in part.paths}
    both = [path for part in held for path in part.paths if path.resolve() in seen]
    if both:
        raise UsageError(
            f"{len(both)} recordings of --validation are trained on, too, such as {both[0]}. Take them out of --data."
        )


def watched(recipe: Recipe, held: Sequence[object]) -> Watched | None:
    """The loss decides, if anything is held out."""
    settings = recipe.table("validation", HeldOut)
    every = settings.every or max(1, recipe.optimiser.steps // LOOKS)
    return Watched(settings, every, "validation_loss", least=True) if held else None
