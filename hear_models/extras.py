"""Packages that are only needed for some things: that one is missing is said before any work, in one sentence."""

from __future__ import annotations

from importlib.util import find_spec

from hear_models.errors import UsageError

PROJECTS = {"sklearn": "scikit-learn", "umap": "umap-learn"}  # by the name that is imported


def is_installed(package: str) -> bool:
    """Whether it can be imported; nothing is loaded."""
    return find_spec(package) is not None


def check_installed(package: str, needed_by: str, extra: str) -> None:
    """UsageError unless the package is installed.

    Args:
        needed_by: what needs it, with its verb: "Classifiers need".
        extra: of this project, that brings it.
    """
    if not is_installed(package):
        name = PROJECTS.get(package, package)
        raise UsageError(f"{needed_by} {name}. Install it: pip install 'hear-models[{extra}]'.")
