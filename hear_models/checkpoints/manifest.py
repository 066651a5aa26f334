"""Checkpoints as data: a TOML file in weights/ for each, and one per family for sizes that are configurations only.

A file with a table `variants` is of the second kind: each variant joins named `pieces` of configuration; what no piece
sets is the default of the family's Config. Everything else in that file holds for all its variants.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hear_models.checkpoints.hub import parse_address
from hear_models.errors import CheckpointError, UsageError
from hear_models.resources import cache_folder, resource

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FETCHED = "fetched"  # official weights that `hear-models fetch` converted on this machine; never declared
# bundled: the file lies in weights/; hub: it is downloaded when first loaded; unpublished: official weights exist, but
# no converted file is offered; untrained: a configuration without weights; parameterless: there is nothing to learn
STATUSES = ("bundled", "hub", "unpublished", "untrained", "parameterless")


@dataclass(frozen=True)
class WeightsFile:
    """Where our file is: bundled in weights/, or on the Hub (then every field but `bundled` is needed)."""

    bundled: str | None = None  # file name in weights/
    hub_repository: str | None = None  # org/repository
    hub_revision: str | None = None  # a commit: found in the cache without asking the Hub; a tag or branch works too
    hub_file: str | None = None  # its name there
    sha256: str | None = None  # of the whole file, checked at every load
    bytes: int | None = None


@dataclass(frozen=True)
class Original:
    """The authors' checkpoint that ours is, or would be, converted from."""

    address: str
    format: str
    sha256: str = "not verified"
    folder: str | None = None  # inside the address
    expects: str | None = None  # what is known of it without having opened it
    older: str | None = None  # an earlier release of the same model


@dataclass(frozen=True)
class Manifest:
    """Everything known about a checkpoint without opening it."""

    name: str
    family: str
    summary: str
    status: str  # as declared; see `effective_status`
    sample_rate: int  # Hz
    scene_embedding_size: int
    timestamp_embedding_size: int
    configuration: dict[str, Any] = field(default_factory=dict)  # fields that differ from the family's defaults
    default: bool = False  # what load_model() of the family gives
    licence: str = "not stated"  # of the weights
    paper: str | None = None
    published_scores: str | None = None  # key of the row in benchmarks/published
    training: str | None = None  # how the weights came about
    file: WeightsFile | None = None
    original: Original | None = None

    @property
    def path(self) -> Path | None:
        """The bundled file, if the manifest names one and it is there."""
        if self.file is None or self.file.bundled is None:
            return None
        path = resource("weights") / self.file.bundled
        return path if path.is_file() else None

    @property
    def fetched(self) -> Path | None:
        """What `hear-models fetch` converted, if it is there."""
        path = fetched_file(self.name)
        return path if self.status == "unpublished" and path.is_file() else None

    @property
    def effective_status(self) -> str:
        """`status`, but "untrained" for a bundled checkpoint whose file is not there, and "fetched"."""
        if self.fetched is not None:
            return FETCHED
        return "untrained" if self.status == "bundled" and self.path is None else self.status


def fetched_file(name: str) -> Path:
    """Where the converted official weights of a model lie in the cache, once they were fetched."""
    return cache_folder() / FETCHED / name / "model.safetensors"


def read_manifests(folder: Path | None = None) -> dict[str, Manifest]:
    """All manifests by name, in the order of their files; CheckpointError names the file and what is wrong in it."""
    manifests: dict[str, Manifest] = {}
    for path in sorted((folder or resource("weights")).glob("*.toml")):
        for manifest in _read_file(path):
            if manifest.name in manifests:
                raise CheckpointError(f"{path}: the name {manifest.name!r} stands in two manifests. Rename one.")
            manifests[manifest.name] = manifest
    return manifests


def _read_file(path: Path) -> Iterator[Manifest]:
    try:
        content = tomllib.loads(path.read_text("utf-8"))
        if "variants" not in content:
            yield _manifest(content)
            return
        pieces, variants = content.pop("pieces"), content.pop("variants")
        for name, variant in variants.items():
            configuration: dict[str, Any] = {}
            for piece in variant.pop("use"):
                configuration |= pieces[piece]
            yield _manifest({**content, "name": name, "configuration": configuration, **variant})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise CheckpointError(f"the manifest {path} is wrong: {error!r}. Correct it.") from error


def _check_place(file: WeightsFile | None) -> None:
    """A file on the Hub is described so that nothing else can be taken for it."""
    known = ("hub_repository", "hub_revision", "hub_file", "sha256", "bytes")
    if missing := [name for name in known if file is None or not getattr(file, name)]:
        raise ValueError(f"a checkpoint on the Hub names {' and '.join(missing)} in [file]")
    assert file is not None
    if not re.fullmatch("[0-9a-f]{64}", str(file.sha256)):
        raise ValueError(f"sha256 {file.sha256!r} is not of 64 hexadecimal digits")
    parse_address(f"hf://{file.hub_repository}@{file.hub_revision}")


def _manifest(content: Mapping[str, Any]) -> Manifest:
    values = dict(content)
    dims = values.pop("dims", None)  # short for both sizes
    if dims is not None:
        values.update(scene_embedding_size=dims, timestamp_embedding_size=dims)
    if "file" in values:
        values["file"] = WeightsFile(**values["file"])
    if "original" in values:
        values["original"] = Original(**values["original"])
    if unknown := set(values) - {f.name for f in fields(Manifest)}:
        raise ValueError(f"unknown fields {sorted(unknown)}")
    manifest = Manifest(**values)
    if manifest.status not in STATUSES:
        raise ValueError(f"status {manifest.status!r} is none of {STATUSES}")
    for name, kind in {
        "name": str,
        "family": str,
        "summary": str,
        "sample_rate": int,
        "scene_embedding_size": int,
    }.items():
        if type(getattr(manifest, name)) is not kind:
            raise ValueError(f"{name} is not {kind.__name__}")
    if manifest.status == "bundled" and (manifest.file is None or manifest.file.bundled is None):
        raise ValueError("a bundled checkpoint names its file")
    if manifest.status == "hub":
        _check_place(manifest.file)
    return manifest
