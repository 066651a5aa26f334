"""A recipe: everything that decides what a pretraining run computes, as data."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from hear_models.errors import UsageError
from hear_models.training.degrade import Degrade

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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
    """AdamW and the paper's schedule (specification section 7); the defaults are the paper's."""

    steps: int = 198_400  # updates
    warmup_steps: int = 19_840  # updates with a rising rate
    batch: int = 1024  # crops per update
    base_rate: float = 1.5e-5  # learning rate per 256 crops of a batch
    betas: tuple[float, float] = (0.9, 0.999)  # decay of Adam's moments
    eps: float = 1e-8  # outside the root
    weight_decay: float = 0.05  # on every parameter
    precision: str = "bfloat16"  # of the products: "bfloat16" or "float32"; parameters stay float32

    def rate(self, step: int) -> float:
        """Learning rate of update `step`, counted from 0: linear warm-up from 0, then half a cosine to 0."""
        peak = self.base_rate * self.batch / 256
        if step < self.warmup_steps:
            return peak * step / self.warmup_steps
        decay_steps = max(1, self.steps - self.warmup_steps)
        return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - self.warmup_steps) / decay_steps)))


@dataclass(frozen=True)
class Tagging:
    """How classes are learned; the defaults are those of the GISE-51 paper (specification section 7)."""

    frames: int = 500  # length of a crop; shorter clips are padded
    loss: str = "bce"  # "bce" or "focal"
    mixup: bool = True  # every clip is mixed with another one
    official_mixup: bool = False  # the same shares in every batch (quirk "mixup-shares")
    masks: bool = True  # SpecAugment on half of the crops


@dataclass(frozen=True)
class Recipe:
    """One pretraining run."""

    family: str
    seed: int = 0
    model: dict[str, Any] = field(default_factory=dict)  # fields of the family's Config
    data: Data = field(default_factory=Data)
    degrade: Degrade = field(default_factory=Degrade)
    optimiser: Optimiser = field(default_factory=Optimiser)
    tagging: Tagging = field(default_factory=Tagging)

    @property
    def digest(self) -> str:
        """Names what the run computes; a run resumes only under the recipe that it began with."""
        values = asdict(self)
        if self.tagging == Tagging():
            del values["tagging"]  # runs that were begun before taggers could be trained go on
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_recipe(name_or_path: str) -> Recipe:
    """A recipe by the name of one that ships with the package, or from a TOML file.

    Raises:
        UsageError: no such recipe, not TOML, an unknown field or a value of the wrong kind; the message names it.
    """
    text = _text(name_or_path)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name_or_path} is not TOML: {error}. Correct that line.") from None
    return _fill(Recipe, table, name_or_path)


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the package."""
    folder = resources.files("hear_models.training") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _text(name_or_path: str) -> str:
    if name_or_path in recipe_names():
        return (resources.files("hear_models.training") / "recipes" / f"{name_or_path}.toml").read_text("utf-8")
    try:
        return Path(name_or_path).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise UsageError(
            f"There is no recipe {name_or_path!r}. Give a TOML file or one of {', '.join(recipe_names()) or 'none'}."
        ) from None


def _fill(cls: Any, table: dict[str, Any], where: str) -> Any:
    """`cls(**table)` with nested dataclasses, lists as tuples, and errors that name the field."""
    known = {f.name: f for f in fields(cls)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            raise UsageError(f"{where}: unknown field {name!r}. Known: {', '.join(known)}.")
        factory = known[name].default_factory
        default = known[name].default if factory is MISSING else factory()
        if is_dataclass(default):
            value = _fill(type(default), value, f"{where} [{name}]")
        elif isinstance(default, tuple):
            value = tuple(value)
        elif isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        elif isinstance(default, int | float | str) and type(value) is not type(default):
            raise UsageError(f"{where}: {name} = {value!r} should be a {type(default).__name__}, like {default!r}.")
        values[name] = value
    if cls is Recipe and "family" not in values:
        raise UsageError(f'{where}: no family. Add a line such as family = "mwmae".')
    return cls(**values)


def with_steps(recipe: Recipe, steps: int | None) -> Recipe:
    """The recipe with another number of updates; the warm-up keeps its share."""
    if steps is None:
        return recipe
    o = recipe.optimiser
    return replace(
        recipe, optimiser=replace(o, steps=steps, warmup_steps=max(1, round(o.warmup_steps * steps / o.steps)))
    )
