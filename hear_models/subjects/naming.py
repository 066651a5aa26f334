"""What a person may call a model, and what that stands for: a checkpoint of this package, or any HEAR module.

Every command and function that takes a model's name asks here. Nothing is loaded, and of our own families nothing is
imported: torch takes seconds, a wrong name is told at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hear_models.checkpoints.safetensors_file import read_header
from hear_models.errors import UsageError
from hear_models.subjects.importing import import_hear_module
from hear_models.zoo.families import families
from hear_models.zoo.registry import default_entry, list_models, near_names
from hear_models.zoo.resolve import Resolved
from hear_models.zoo.resolve import resolve as resolve_checkpoint

if TYPE_CHECKING:
    from hear_models.pipeline.model import HearModel

FUNCTIONS = ("load_model", "get_timestamp_embeddings", "get_scene_embeddings")
PACKAGE = "hear_models"
SAYS_NOTHING = frozenset(  # names that files and folders of many models have
    [
        "model",
        "models",
        "module",
        "main",
        "hear",
        "hear_api",
        "hear_model",
        "api",
        "net",
        "network",
        "wrapper",
        "embed",
        "embedding",
        "embeddings",
        "encoder",
        "checkpoint",
        "checkpoints",
        "ckpt",
        "weights",
        "best",
        "last",
        "final",
        "latest",
        "pytorch_model",
        "state",
        "__init__",
        "src",
        "runs",
        "output",
        "out",
    ]
)


@dataclass(frozen=True)
class Ours:
    """A model of this package. `load_name` is what the zoo calls it, wherever the current folder may be then."""

    name: str  # as the user wrote it
    resolved: Resolved
    load_name: str
    trained: bool

    @property
    def family(self) -> str:
        """The name of its family."""
        return self.resolved.family

    @property
    def module(self) -> str:
        """Dotted name of its HEAR module."""
        return f"{PACKAGE}.{self.family}"

    def load(self, **options: Any) -> HearModel:
        """The model; `options` as for `hear_models.load_model`."""
        from hear_models.zoo.load import load

        return load(self.load_name, self.family, options)


@dataclass(frozen=True)
class Foreign:
    """A HEAR module of somebody else: its dotted name or the path of its .py file, and the path of weights or ""."""

    name: str
    module: str
    weights: str

    def imported(self) -> ModuleType:
        """The module. Raises UsageError if there is none or importing it fails."""
        return import_hear_module(self.module)


def name_of(given: str) -> str:
    """A model's name for tables: of files their names without folders ("runs/a.safetensors" → "a").

    A name that a file has because every file of its kind has it says nothing without its folder: "runs/a/model.py" →
    "a/model", "runs/a/model.safetensors" → "a".
    """
    if given.startswith("hf://"):
        return given
    return ":".join(_telling(Path(part)) for part in given.split(":") if part) or given


def _telling(path: Path) -> str:
    ours, module = path.suffix == ".safetensors", path.suffix == ".py"
    name = path.stem if ours or module else path.name
    if not (ours or module or path.suffix) or path.stem.lower() not in SAYS_NOTHING:
        return name
    folder = path.absolute().parent
    if path.stem == "__init__":
        return folder.name
    if not folder.name or folder.name.lower() in SAYS_NOTHING:
        return name
    return folder.name if ours else f"{folder.name}/{name}"


def find(name: str) -> Ours | Foreign:
    """What `name` stands for.

    Args:
        name: a registry name (`mwmae-nano`), a family (`mwmae` or `hear_models.mwmae`: its default), a `.safetensors`
            file, `hf://ORG/REPO`; or a HEAR module: its dotted name (`my_package.hear`) or its .py file. `MODULE:FILE`
            gives the module the path of its weights (`model_file_path`).

    Raises:
        UsageError: a name of ours that does not exist, or one that can be nobody's.
        CheckpointError: a file of ours that is damaged, or weights that are not published.
    """
    family, _, file = name.partition(":")
    if is_family(family):
        return _ours(name, resolve_checkpoint(file, family.removeprefix(f"{PACKAGE}.")))
    if name.startswith("hf://") or name in {entry.name for entry in list_models()}:
        return _ours(name, resolve_checkpoint(name, None))
    module, weights = _split_weights(name)
    if name.endswith(".safetensors") and (not weights or Path(name).exists()):
        return _ours(name, resolve_checkpoint(name, None))
    if not module.endswith(".py") and not _is_dotted(module):
        hint = "A module of yours is given as my_package.my_module or as its .py file. " if "/" in module else ""
        raise UsageError(
            f"{module!r} is neither a model's name nor the dotted name of a module. {hint}{near_names(module)}"
        )
    return Foreign(name, module, weights)


def find_ours(name: str | os.PathLike[str], *, allow_untrained: bool, how: str) -> Ours:
    """A model of this package, for what only they can do; "" is the default. Errors as of `find`.

    `allow_untrained` accepts random weights; else the error says `how` to ask for them.
    """
    text = os.fspath(name) or default_entry(None).name
    family, _, file = text.partition(":")
    if is_family(family):
        found = _ours(text, resolve_checkpoint(file, family.removeprefix(f"{PACKAGE}.")))
    else:
        found = _ours(text, resolve_checkpoint(text, None))  # a file may have any name here
    refuse_untrained(found, allow_untrained, how)
    return found


def is_family(name: str) -> bool:
    """Whether a name is that of a family or of its module."""
    return name.removeprefix(f"{PACKAGE}.") in families()


def refuse_untrained(found: Ours, allow_untrained: bool, how: str) -> None:
    """Raise UsageError for a network of random weights, unless it is asked for by `how`."""
    if not found.trained and not allow_untrained:
        raise UsageError(
            f"{found.name} has random weights: its embeddings describe nothing that was learned. "
            f"Choose a trained model (`hear-models list`), or ask for it with {how}."
        )


def functions_of(module: object) -> dict[str, Any]:
    """Those of `FUNCTIONS` that the module has."""
    return {name: getattr(module, name) for name in FUNCTIONS if callable(getattr(module, name, None))}


def _ours(name: str, resolved: Resolved) -> Ours:
    if resolved.entry is not None:
        return Ours(name, resolved, resolved.entry.name, resolved.entry.trained)
    if resolved.path is None:  # a family without any manifest: a random network
        return Ours(name, resolved, "", False)
    load_name = str(resolved.fetched.address) if resolved.fetched else os.path.abspath(resolved.path)
    return Ours(name, resolved, load_name, read_header(resolved.path).trained)


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _split_weights(name: str) -> tuple[str, str]:
    """ "my_package:weights.pt" → both; a path may hold colons of its own (a drive's letter)."""
    head, sign, weights = name.partition(":")
    if sign and (head.endswith(".py") or _is_dotted(head)) and len(head) > 1:
        if not weights:
            raise UsageError(f"{name!r} ends with a colon. Write the path of the weights behind it, or leave it out.")
        return head, weights
    if (at := name.find(".py:")) >= 0:
        return name[: at + 3], name[at + 4 :]
    return name, ""
