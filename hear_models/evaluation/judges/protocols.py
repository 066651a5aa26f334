"""The two ways HEAR numbers are made: the leaderboard's search ("hear") and the papers' ("paper").

Source: hear-eval-kit 2021.1.3 (heareval/predictions/task_predictions.py) and the papers' modified copy of it.
A protocol is data: which probes are tried, how many of them, and which seeds a result consists of.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hear_models.errors import UsageError

# What never varies within one search of the kit; batches in rows, patience in validations.
FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_dim": (1024,),
    "dropout": (0.1,),
    "batch_size": (1024,),
    "max_epochs": (500,),
    "patience": (20,),
    "check_val_every_n_epoch": (3,),
    "hidden_norm": ("BatchNorm1d",),
    "norm_after_activation": (False,),
    "embedding_norm": ("Identity",),
    "optim": ("Adam",),
}
DEFAULT_GRID: dict[str, tuple[Any, ...]] = {
    **FIXED,
    "hidden_layers": (1, 2),
    "initialization": ("xavier_uniform", "xavier_normal"),
    "lr": (3.2e-3, 1e-3, 3.2e-4, 1e-4),
}
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "default": DEFAULT_GRID,
    "fast": {**DEFAULT_GRID, "max_epochs": (10, 50), "check_val_every_n_epoch": (3, 10)},
    "faster": {
        **DEFAULT_GRID,
        "hidden_layers": (0, 1),
        "hidden_dim": (64, 128),
        "patience": (1, 3),
        "max_epochs": (10,),
        "check_val_every_n_epoch": (1,),
    },
    "paper": {
        **DEFAULT_GRID,
        "hidden_layers": (1,),
        "dropout": (0.1, 0.25),
        "lr": (1e-4,),
        "initialization": ("xavier_normal",),
    },
}
# Overrides by the *metadata's* task_name, as in the kit. Quirk kept: a folder whose metadata carries another task's
# name (the released Mridangam Tonic says "mridangam_stroke") gets that other task's overrides.
TASK_OVERRIDES: dict[str, dict[str, tuple[Any, ...]]] = {"dcase2016_task2": {"check_val_every_n_epoch": (10,)}}

EVENT_POSTPROCESSING_GRID: dict[str, tuple[float, ...]] = {"median_filter_ms": (250,), "min_duration": (125, 250)}


@dataclass(frozen=True)
class Protocol:
    """One way of making a number.

    `grid` maps a hyper-parameter to the values tried; `grid_points` is how many points of the shuffled grid are
    trained; `default_seeds` are the seeds that a published figure of this protocol consists of. `shuffle_train` is a
    named deviation: the kit never shuffles, and neither do we unless it is asked for.
    """

    name: str
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=lambda: DEFAULT_GRID)
    grid_points: int = 8
    default_seeds: tuple[int, ...] = (42,)
    shuffle_train: bool = False

    def grid_for(self, metadata: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        """The grid after the task's own overrides: by task_name, then `evaluation_params.task_specific_param_grid`."""
        grid = {**self.grid, **TASK_OVERRIDES.get(str(metadata.get("task_name")), {})}
        own = (metadata.get("evaluation_params") or {}).get("task_specific_param_grid") or {}
        for key, values in own.items():
            if key not in grid:
                raise UsageError(
                    f"The task's metadata sets an unknown hyper-parameter, {key!r}. "
                    f"Known ones: {', '.join(sorted(grid))}."
                )
            grid[key] = tuple(values)
        return grid

    def points(self, metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Every grid point in enumeration order: keys sorted, the last key fastest (sklearn's ParameterGrid)."""
        return enumerate_grid(self.grid_for(metadata))


def enumerate_grid(grid: Mapping[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """All combinations; keys in alphabetical order, the last one varies fastest."""
    keys = sorted(grid)
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*(grid[key] for key in keys))]


PROTOCOLS: dict[str, Protocol] = {
    "hear": Protocol("hear"),
    "paper": Protocol("paper", GRIDS["paper"], grid_points=2, default_seeds=tuple(range(10))),
}
NOT_COMPARABLE = "not-comparable"  # stands in the record of a quick look, and in its file's name
QUICK_LOOK = Protocol(NOT_COMPARABLE, {}, grid_points=1, default_seeds=(0,))  # nothing is searched


def protocol(name: str) -> Protocol:
    """The protocol of that name, the quick look's included; UsageError names the two that HEAR numbers are made by."""
    if name == NOT_COMPARABLE:
        return QUICK_LOOK
    if name not in PROTOCOLS:
        raise UsageError(f"There is no protocol {name!r}. Choose one of: {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
