"""Which code computed a number: one sha256 over the source files that a module leads to."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGE, ROOT = "hear_models", Path(__file__).parents[1]
# they say what went wrong or find a file, and change no number; without them a better message would outdate records
WITHOUT = ("hear_models", "hear_models.errors", "hear_models.resources", "hear_models.evaluation.runs.record")


def code_sha256(*modules: str, files: Iterable[Path] = ()) -> str:
    """The sha256 over the source of `modules` and of every module of this package that they import, in any depth.

    It changes when a byte of one of these files changes, comments included. Imports inside of functions count; what is
    imported by a computed name (a model's family) does not: name it as well. `files` are others that matter.
    """
    digest = hashlib.sha256()
    named = {**source_files(*modules), **{path.name: path for path in files}}
    for name, path in sorted(named.items()):
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def source_files(*modules: str) -> dict[str, Path]:
    """Module name → source file, of `modules` and of what they import from this package."""
    found: dict[str, Path] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        path = None if name in found or name in WITHOUT else _source(name)
        if path is not None:
            found[name] = path
            todo += _imports(path)
    return found


def _source(name: str) -> Path | None:
    """The file of a module of this package, found without importing it; None for what is no module."""
    path = ROOT.joinpath(*name.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """Names of this package that a file imports, wherever in the file; a name may be a module's or what is in one."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return tuple(name for name in names if name.split(".")[0] == PACKAGE)
