"""What a run trains on and towards: batches, and the loss of one. The loop knows nothing else of an objective.

A new way of training is a module with a `WAY`, and a line of `MODULES`; its recipe may have tables of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from hear_models.errors import UsageError
from hear_models.fields import filled
from hear_models.pipeline.model import HearModel
from hear_models.training.batches import Batches
from hear_models.training.progress import Watched
from hear_models.training.run import Run
from hear_models.zoo.families import FamilyModule, families, family_module, new_model

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from hear_models.training.recipe import Recipe

MODULES = {
    "masked": "hear_models.training.masked",
    "tagging": "hear_models.training.tagging",
    "contrastive": "hear_models.training.contrastive",
    "speakers": "hear_models.training.speakers",
}

Report = Callable[[str], None]


class Objective(Protocol):
    """Batches and their loss."""

    @property
    def batches(self) -> Batches[Any]:
        """What the loop draws from."""

    @property
    def heads(self) -> nn.Module | None:
        """Parameters that are trained with the model and do not belong to it; they lie in the run's state alone."""

    @property
    def data(self) -> Mapping[str, Any]:
        """What it learns from, by its content: see `features.data_identity`."""

    def loss(self, batch: Any, step: int) -> Tensor:
        """The loss of one batch; keeps gradients."""

    @property
    def watched(self) -> Watched | None:
        """How often `validate` is asked, and what of it decides; None: at every line of the log, nothing."""

    def validate(self) -> Mapping[str, float]:
        """Figures on a validation set of its own, for the log; nothing if it has none."""


class WithoutExtras:
    """An objective without heads and without a validation set."""

    heads: nn.Module | None = None
    watched: Watched | None = None

    def validate(self) -> Mapping[str, float]:
        """Nothing."""
        return {}


def all_weights(model: HearModel, base: HearModel, report: Report) -> Mapping[str, Tensor]:
    """The weights of `base`, for `model` to begin with."""
    return base.state_dict()


@dataclass(frozen=True)
class Way:
    """A way of training.

    Attributes:
        needs: a protocol of `pipeline/capabilities.py` that a family's `Model` fulfils.
        build: reads the data and gives the objective; it raises UsageError for data or settings that do not do.
        tables: the tables of a recipe that are this way's own: name → dataclass with its settings.
        options: of the family's `Model` that training needs.
        initial_weights: which weights of another model of the family (`--init`) a run begins with.
    """

    needs: type
    build: Callable[[Recipe, Run, HearModel, Report], Objective]
    tables: Mapping[str, type[DataclassInstance]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    initial_weights: Callable[[HearModel, HearModel, Report], Mapping[str, Tensor]] = all_weights


@cache
def way_named(name: str) -> Way:
    """UsageError with all names if there is none of that name."""
    if name not in MODULES:
        raise UsageError(f"There is no objective {name!r}. Use one of {', '.join(MODULES)}.")
    way: Way = vars(import_module(MODULES[name]))["WAY"]
    return way


def ways_of(family: str) -> list[str]:
    """The names of the ways in which a family can be trained, the usual one first."""
    model = family_module(family).Model
    return [name for name in MODULES if issubclass(model, way_named(name).needs)]


def chosen_way(family: str, objective: str = "") -> str:
    """The name of the way that a recipe asks for, or the family's usual one. UsageError if the family cannot."""
    able = ways_of(family) if family in families() else []
    if not able:
        trainable = [name for name in families() if ways_of(name)]
        raise UsageError(f"The family {family!r} cannot be pretrained. Use one of {', '.join(trainable)}.")
    if objective and objective not in able:
        way_named(objective)  # raises for a name that is none
        raise UsageError(f"{family} cannot be trained by the objective {objective!r}. Use {' or '.join(able)}.")
    return objective or able[0]


def new_network(module: FamilyModule, config: DataclassInstance, seed: int, options: Mapping[str, Any]) -> HearModel:
    """The network of a recipe with everything that training needs. UsageError for sizes that give no network."""
    try:
        return new_model(module, config, seed=seed, **options)
    except (RuntimeError, ValueError, TypeError, ZeroDivisionError, AssertionError, MemoryError) as error:
        raise UsageError(f"[model] of the recipe gives no network: {error}. Change its sizes.") from error


def config_of(recipe: Recipe) -> DataclassInstance:
    """The Config that `[model]` of the recipe asks for. UsageError for an unknown field or a wrong value."""
    config: type[DataclassInstance] = family_module(recipe.family).Config
    return filled(config, recipe.model, "[model] of the recipe")
