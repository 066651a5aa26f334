"""A recipe: everything that decides what a pretraining run computes, as data."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import sys
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeVar

from hear_models.errors import FileError, UsageError
from hear_models.fields import filled
from hear_models.foreign import read_text, reading
from hear_models.training.degrade import Degrade
from hear_models.zoo.registry import ModelEntry, list_models

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Settings = TypeVar("Settings", bound=DataclassInstance)


@dataclass(frozen=True)
class Data:
    """How recordings become crops."""

    procedural_hours: float = 0.0  # procedural sound that the package generates itself, hours
    procedural_share: float = 0.0  # share of the crops that come from it
    segment_s: float = 10.0  # longer recordings are cut into segments of this length (AudioSet's clips are 10 s)
    gap_ms: tuple[float, float] = (50.0, 500.0)  # random gaps between recordings that are joined because they are short
    alone: float = 0.0  # share of the short recordings that are not joined but reflected to a unit, as at inference


@dataclass(frozen=True)
class Optimiser:
    """AdamW and the schedule of the MW-MAE paper; the defaults are the paper's."""

    steps: int = 198_400  # updates
    warmup_steps: int = 19_840  # updates with a rising rate
    batch: int = 1024  # crops per update
    base_rate: float = 1.5e-5  # learning rate per 256 crops of a batch
    betas: tuple[float, float] = (0.9, 0.999)  # decay of Adam's moments
    eps: float = 1e-8  # outside the root
    weight_decay: float = 0.05  # on every parameter
    precision: str = "bfloat16"  # of the products: "bfloat16" or "float32"; parameters stay float32

    @property
    def peak(self) -> float:
        """The highest learning rate."""
        return self.base_rate * self.batch / 256

    def rate(self, step: int) -> float:
        """Learning rate of update `step`, counted from 0: linear warm-up from 0, then half a cosine to 0."""
        peak = self.peak
        if step < self.warmup_steps:
            return peak * step / self.warmup_steps
        decay_steps = max(1, self.steps - self.warmup_steps)
        return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - self.warmup_steps) / decay_steps)))


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        family: the name of a family that can be trained.
        objective: the way of training, a name of `objectives.MODULES`; "": the family's usual one.
        seed: of the random weights and of everything that is drawn.
        model: fields of the family's Config.
        tables: the objective's own settings by the name of their table; one that is not there has its defaults.
    """

    family: str
    objective: str = ""
    seed: int = 0
    model: dict[str, Any] = field(default_factory=dict)
    data: Data = field(default_factory=Data)
    optimiser: Optimiser = field(default_factory=Optimiser)
    tables: dict[str, Any] = field(default_factory=dict)

    def table(self, name: str, kind: type[Settings]) -> Settings:
        """The settings of one of the objective's tables."""
        found: Settings = self.tables.get(name, kind())
        return found

    def as_dict(self) -> dict[str, Any]:
        """As the file has it."""
        values = asdict(self)
        tables: dict[str, Any] = values.pop("tables")
        return values | tables

    @property
    def digest(self) -> str:
        """Names what the run computes; a run resumes only under the recipe that it began with.

        What a recipe does not say does not count, so that new settings leave the digests of old runs alone; but
        `[degrade]` always did.
        """
        values = {"degrade": asdict(Degrade()), **self.as_dict()}
        if not self.objective:
            del values["objective"]
        for name, settings in self.tables.items():
            if settings == type(settings)() and name != "degrade":
                del values[name]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_recipe(name_or_path: str) -> Recipe:
    """A recipe by the name of one that ships or of a model (its authors'), or from a TOML file; checked as a whole.

    Raises:
        UsageError: no such recipe, not TOML, an unknown field or a value of the wrong kind or that gives no network, a
            family that cannot be trained; the message names it.
    """
    with reading(name_or_path, UsageError, "Correct it.", what="a recipe"):
        return _checked(_content(name_or_path), name_or_path)


def _checked(content: dict[str, Any], name_or_path: str) -> Recipe:
    if not isinstance(content.get("family"), str):
        raise UsageError(f'{name_or_path}: no family. Add a line such as family = "mwmae".')

    from hear_models.training.objectives import chosen_way, config_of, way_named

    way = way_named(chosen_way(content["family"], str(content.get("objective", ""))))
    own = {name: content.pop(name) for name in tuple(content) if name in way.tables}
    tables = {name: filled(way.tables[name], value, f"{name_or_path} [{name}]") for name, value in own.items()}
    if "tables" in content:
        raise UsageError(f"{name_or_path} has no field 'tables'. The objective's tables: {', '.join(way.tables)}.")
    recipe = replace(filled(Recipe, content, name_or_path), tables=tables)
    config_of(recipe)
    _ = recipe.digest  # fails for what only TOML can hold, a date
    return recipe


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the package."""
    folder = resources.files("hear_models.training") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _content(name_or_path: str) -> dict[str, Any]:
    """What a recipe says, unchecked: of one that ships, of a file, or the authors' for a model of the registry."""
    if name_or_path in recipe_names():
        return _parsed(_shipped(f"recipes/{name_or_path}.toml"), name_or_path)
    try:
        return _parsed(read_text(name_or_path), name_or_path)
    except FileError:
        if (entry := {entry.name: entry for entry in list_models()}.get(name_or_path)) is not None:
            return _of_the_authors(entry)
    names = [*recipe_names(), *(entry.name for entry in list_models())]
    near = difflib.get_close_matches(name_or_path, names, n=3)
    meant = f"Did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(
        f"There is no recipe {name_or_path!r}. {meant}Give a TOML file, a name of `hear-models list --all` for its "
        f"authors' recipe, or one of {', '.join(recipe_names())}."
    )


def _of_the_authors(entry: ModelEntry) -> dict[str, Any]:
    """The recipe that its authors trained a model's family by, at the model's sizes."""
    way = _parsed(_shipped("papers.toml"), "papers.toml").get(entry.family)
    if way is None:
        raise UsageError(
            f"How the authors of {entry.name} trained is not known in full. Write a recipe: a TOML file with family = "
            f'"{entry.family}", [model] and [optimiser]; `hear-models info {entry.name}` prints the sizes.'
        )
    base = _content(way) if isinstance(way, str) else way
    return {**base, "family": entry.family, "model": dict(entry.manifest.configuration)}


def _shipped(name: str) -> str:
    return (resources.files("hear_models.training") / name).read_text("utf-8")


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = tomllib.loads(text)
        return content
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name} is not TOML: {error}. Correct that line.") from None


def with_batch(recipe: Recipe, batch: int | None) -> Recipe:
    """The recipe with another number of crops an update; the learning rate follows, as `base_rate` is for 256."""
    return recipe if batch is None else replace(recipe, optimiser=replace(recipe.optimiser, batch=batch))


def with_steps(recipe: Recipe, steps: int | None) -> Recipe:
    """The recipe with another number of updates; the warm-up keeps its share."""
    if steps is None:
        return recipe
    o = recipe.optimiser
    warmup_steps = max(1, round(o.warmup_steps * steps / o.steps)) if o.warmup_steps else 0
    return replace(recipe, optimiser=replace(o, steps=steps, warmup_steps=warmup_steps))
