"""Where the package's own data lie (in a wheel under hear_models/_data, in a checkout at its top), and its cache."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from hear_models.errors import HearModelsError


def resource(name: str) -> Path:
    """The file or folder `name`, for instance "weights" or "benchmarks/published".

    Raises HearModelsError naming both places if it is in neither: the installation is incomplete.
    """
    package = Path(str(files("hear_models")))  # pip unpacks wheels, so this is a folder
    places = (package / "_data" / name, package.parent / name)
    for place in places:
        if place.exists():
            return place
    raise HearModelsError(
        f"the package's data {name!r} are in none of: {', '.join(map(str, places))}. Install hear-models again."
    )


def cache_folder() -> Path:
    """Where this project keeps what it can build again: $HEAR_MODELS_CACHE, else hear-models/ in the user's cache."""
    named = os.environ.get("HEAR_MODELS_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hear-models"
