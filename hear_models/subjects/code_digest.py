"""A digest of the source files behind a module: embeddings that other code made must not pass for its own."""

from __future__ import annotations

import ast
import hashlib
import site
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from hear_models.subjects.code import PACKAGE, ROOT, source_files

# Rooms of this package whose code changes embeddings. What finds, checks and downloads weights does not: they are in
# the key themselves.
OWN_ROOMS = ("pipeline", "frontends", "layers", "corpus.encoders")
OWN_EXTRACTION = tuple(
    f"evaluation.embeddings.{name}" for name in ("extraction", "loaded", "embedding_writing", "folder", "reading")
)


def own_code_sha256(module: str = "") -> str:
    """sha256 over the code of this package that embeds: reading, writing, the flow; and of a family's module."""
    starts = [f"{PACKAGE}.evaluation.embeddings.extraction", *([module] if module else [])]
    rooms = [f"{PACKAGE}.{name}" for name in (*OWN_ROOMS, *OWN_EXTRACTION)]
    counted = {
        name: path
        for name, path in source_files(*starts).items()
        if path.parent == ROOT or any(f"{name}.".startswith(f"{room}.") for room in rooms)  # in ROOT: families
    }
    return _digest((path, name) for name, path in counted.items())


def code_sha256(file: Path) -> str:
    """sha256 over a Python file and everything that it imports from beside it, by name and bytes.

    What counts is what stands in the files, also inside functions; nothing is imported. Followed are modules of the
    same package, and of a module in a folder of somebody's own (not among the installed packages) its neighbours too.
    Other packages are taken as given.
    """
    found: dict[Path, str] = {}
    _follow(file.resolve(), found)
    return _digest(found.items())


def _digest(files: Iterable[tuple[Path, str]]) -> str:
    digest = hashlib.sha256()
    for path, name in sorted(files, key=lambda item: (item[1], item[0])):
        data = path.read_bytes()
        digest.update(f"{name}\0{len(data)}\0".encode("utf-8", "surrogateescape"))
        digest.update(data)
    return digest.hexdigest()


def _follow(file: Path, found: dict[Path, str]) -> None:
    """Add `file` and what it imports, by its path below the folder that Python finds its package in."""
    package = file.parent
    while (package / "__init__.py").exists():
        package = package.parent
    top = None if not _is_installed(package) else file.relative_to(package).parts[0].removesuffix(".py")
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = path.relative_to(package).as_posix()
        for dotted in _imports(path, package):
            if top is None or dotted.split(".")[0] == top:
                waiting += _files_of(dotted, package)


def _is_installed(folder: Path) -> bool:
    """Whether installed packages lie directly in this folder, or Python's own."""
    known = [*site.getsitepackages(), site.getusersitepackages(), *sysconfig.get_paths().values()]
    return folder in {Path(name).resolve() for name in known}


def _imports(path: Path, package: Path) -> Iterator[str]:
    """Dotted names that a file imports, wherever in it; `from a import b` gives a.b, which may be no module."""
    if path.suffix != ".py":
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of somebody's escape sequences
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # Python will tell when it imports the file
        return
    here = path.parent.relative_to(package).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*here[: len(here) - node.level + 1]] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def _files_of(dotted: str, package: Path) -> Iterator[Path]:
    """The files that importing a dotted name runs: of every package on the way, and of the module."""
    folder = package
    for part in dotted.split("."):
        for candidate in (folder / part / "__init__.py", folder / f"{part}.py"):
            if candidate.is_file():
                yield candidate.resolve()
                break
        folder = folder / part
