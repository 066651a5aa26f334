"""The table of models, from the manifests alone: nothing heavy is imported to list them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from hear_models.checkpoints.manifest import FETCHED, Manifest, read_manifests
from hear_models.errors import UsageError

DEFAULT_FAMILY = "mwmae"


@dataclass(frozen=True)
class ModelEntry:
    """A line of the table of models."""

    name: str
    family: str
    summary: str
    status: str  # "bundled", "hub" (downloaded), "fetched", "unpublished" (fetch it), "untrained", "parameterless"
    sample_rate: int  # Hz
    scene_embedding_size: int
    timestamp_embedding_size: int
    licence: str  # of the weights
    default: bool  # what load_model() of the family gives
    manifest: Manifest

    @property
    def trained(self) -> bool:
        """False if `load_model(name)` gives a random network."""
        return self.status in ("bundled", "hub", FETCHED, "parameterless")


def list_models() -> list[ModelEntry]:
    """Every model of the registry: the defaults first, then those with weights, then configurations."""
    entries = [_entry(manifest) for manifest in read_manifests().values()]
    order = ("bundled", "parameterless", "hub", FETCHED, "unpublished", "untrained")
    own = DEFAULT_FAMILY
    return sorted(
        entries, key=lambda e: (not e.default, e.default and e.family != own, order.index(e.status), e.family)
    )


def find_entry(name: str) -> ModelEntry:
    """The model of that name; UsageError with the nearest names if there is none."""
    entries = {entry.name: entry for entry in list_models()}
    if name not in entries:
        raise UsageError(f"there is no model named {name!r}. {near_names(name)}")
    return entries[name]


def default_entry(family: str | None) -> ModelEntry:
    """What an empty name means: the default of the family."""
    family = family or DEFAULT_FAMILY
    for entry in list_models():
        if entry.family == family and entry.default:
            return entry
    raise UsageError(f"the family {family!r} has no default model. `hear-models list` shows the models.")


def near_names(name: str) -> str:
    """A sentence that helps after a wrong name."""
    return did_you_mean(name, [entry.name for entry in list_models()]) + "`hear-models list` shows the models."


def did_you_mean(name: str, names: Iterable[str], cutoff: float = 0.5) -> str:
    """The nearest of `names` as a question with a space behind it, "" if none is near."""
    near = difflib.get_close_matches(name.lower(), list(names), n=3, cutoff=cutoff)
    return f"Did you mean {' or '.join(near)}? " if near else ""


def _entry(manifest: Manifest) -> ModelEntry:
    return ModelEntry(
        manifest.name,
        manifest.family,
        manifest.summary,
        manifest.effective_status,
        manifest.sample_rate,
        manifest.scene_embedding_size,
        manifest.timestamp_embedding_size,
        manifest.licence,
        manifest.default,
        manifest,
    )
