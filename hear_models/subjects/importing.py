"""Importing a HEAR module that somebody wrote: by its dotted name, or by the path of its file, beside others."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from hear_models.errors import UsageError
from hear_models.subjects.wording import describe
from hear_models.zoo.registry import did_you_mean, list_models

_files: dict[Path, ModuleType] = {}  # imported by their paths
_put_by: dict[Path, dict[str, ModuleType]] = {}  # folder → modules of it that gave way to those of another folder


def import_hear_module(name: str) -> ModuleType:
    """A module by its dotted name or the path of its .py file; the current folder is importable, as with `python -m`.

    Raises UsageError: there is none, or importing it fails.
    """
    return _import_file(Path(name)) if name.endswith(".py") else _import_dotted(name)


def _import_dotted(dotted: str) -> ModuleType:
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if dotted == missing or dotted.startswith(f"{missing}."):
            names = [entry.name for entry in list_models()]
            near = did_you_mean(dotted.replace("_", "-"), names, cutoff=0.75).strip()
            raise UsageError(
                f"There is no module {dotted!r}: Python found no {missing!r} in {os.getcwd()} "
                "or among the installed packages. Install the package, change into the folder that holds it, "
                f"or choose a name of `hear-models list`.{f' {near}' if near else ''}"
            ) from error
        raise UsageError(f"Importing {dotted} needs {missing!r}, which is not installed. Install it.") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UsageError(
            f"Importing {dotted} raised {describe(error)}. "
            "A HEAR module must be importable without arguments, weights or environment variables."
        ) from error


def _import_file(path: Path) -> ModuleType:
    """As Python runs a script: what lies beside it is importable. A file that was imported is not run again.

    Two files may have one name, and so may what lies beside them: each sees its own.
    """
    if not path.is_file():
        raise UsageError(f"{path} does not exist. Check the path, or give the dotted name of an installed module.")
    file = path.resolve()
    known = sys.modules.get(path.stem)
    if file not in _files and known is not None and Path(getattr(known, "__file__", None) or "").resolve() == file:
        return known
    _make_way(file.parent)
    if file in _files:
        return _files[file]
    spec = spec_from_file_location(path.stem, file)
    assert spec is not None and spec.loader is not None  # a name that ends in .py has a loader
    module = module_from_spec(spec)
    taken = path.stem in sys.modules
    if not taken:  # classes of the module find it by name, for instance to be pickled
        sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        if not taken:
            del sys.modules[path.stem]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise UsageError(f"Importing {path} raised {describe(error)}. Repair the module.") from error
    _files[file] = module
    return module


def _make_way(folder: Path) -> None:
    """Make what lies in `folder` importable, before modules of the same names that lie beside other such files."""
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    sys.path.insert(0, str(folder))
    _put_by.setdefault(folder, {})
    here = {path.stem if path.suffix == ".py" else path.name for path in folder.iterdir()}
    for name in list(sys.modules):
        top = name.partition(".")[0]
        home = _home(sys.modules.get(top)) if top in here else None
        if home is not None and home != folder and home in _put_by:
            _put_by[home][name] = sys.modules.pop(name)
    sys.modules.update(_put_by[folder])
    _put_by[folder].clear()


def _home(module: ModuleType | None) -> Path | None:
    """The folder in which a module or package lies."""
    file = getattr(module, "__file__", None)
    if not file:
        return None
    path = Path(file).resolve()
    return path.parent.parent if path.name == "__init__.py" else path.parent
