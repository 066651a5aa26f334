"""The one place that imports a family by its name: a family is every module in the package's own folder but the ground.

A module put beside the others (or into a folder on `hear_models.__path__`) is a family; nothing else registers it.
"""

from __future__ import annotations

import ast
import contextlib
import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import hear_models
from hear_models.errors import UsageError

if TYPE_CHECKING:
    from hear_models.checkpoints.mapping import Official
    from hear_models.pipeline.model import HearModel

# beside the families, and none
GROUND = frozenset(
    {
        *("errors", "extras", "fields", "files", "foreign", "locks", "markdown"),
        *("pages", "pictures", "resources", "seals", "version"),
    }
)


class FamilyModule(Protocol):
    """What every family's module has; `OFFICIAL` too if official checkpoints of it can be converted.

    `Model(config, *, seed, ...)` builds the network: with random weights drawn by `seed`, or, None, on the meta device;
    its other keyword arguments are the options of `load_model`.
    """

    __name__: str
    __doc__: str | None
    Config: type[Any]
    Model: type[HearModel]
    load_model: Callable[..., HearModel]


def families() -> list[str]:
    """The names of all families, in order; nothing is imported for that."""
    found = pkgutil.iter_modules(hear_models.__path__)
    return sorted({info.name for info in found if not info.ispkg and info.name not in GROUND})


def family_module(name: str) -> FamilyModule:
    """The module of a family. UsageError with all names if there is none of that name."""
    if name not in families():
        raise UsageError(f"there is no family {name!r}. Use one of {', '.join(families())}.")
    return cast(FamilyModule, import_module(f"hear_models.{name}"))


def said_of(name: str, attribute: str, default: str) -> str:
    """A text that the class `Model` in a family's file gives itself; nothing is imported for that."""
    spec = find_spec(f"hear_models.{name}")
    tree = ast.parse(Path(spec.origin).read_text("utf-8")) if spec and spec.origin else ast.Module([], [])
    for node in tree.body:
        for line in node.body if isinstance(node, ast.ClassDef) and node.name == "Model" else []:
            if isinstance(line, ast.Assign) and any(
                isinstance(x, ast.Name) and x.id == attribute for x in line.targets
            ):
                return str(ast.literal_eval(line.value))
    return default


def new_model(module: FamilyModule, config: Any, *, seed: int | None, **options: Any) -> HearModel:
    """The network of a configuration: random weights by `seed`; None: without memory, for a checkpoint to fill."""
    build: Callable[..., HearModel] = module.Model
    with as_torch_begins():
        return build(config, seed=seed, **options)


@contextlib.contextmanager
def as_torch_begins() -> Iterator[None]:
    """float32 and the CPU as torch's defaults, whatever another library made of them; put back afterwards."""
    import torch

    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)


def officials(name: str) -> tuple[Official, ...]:
    """How official checkpoints of a family are read, one entry a format; none if nothing is known of any."""
    declared: Official | tuple[Official, ...] = vars(family_module(name)).get("OFFICIAL", ())
    return declared if isinstance(declared, tuple) else (declared,)
