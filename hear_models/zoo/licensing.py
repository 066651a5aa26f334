"""Whether weights may be published: the licence that manifest, header or official release state, and the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hear_models.checkpoints.licences import (
    ALLOWED,
    FORBIDDEN,
    NOT_STATED,
    UNKNOWN,
    Licence,
    licence_in,
    licence_note,
    read_licence,
)
from hear_models.checkpoints.manifest import Manifest
from hear_models.checkpoints.safetensors_file import Header
from hear_models.errors import UsageError
from hear_models.fields import check_fields
from hear_models.zoo.families import family_module
from hear_models.zoo.registry import list_models

PUBLISHER = "the publisher"
STARTED_FROM = "started_from"  # in a header's notes: the file whose weights training began with


def rule(
    path: Path,
    header: Header,
    manifest: Manifest | None,
    official: Manifest | None,
    licence: str | None,
    permission: str | None,
) -> tuple[Licence, str]:
    """(the licence under which the file is published, who says so); UsageError if it may not be published."""
    found, said_by = stated(header, manifest, official)
    name, terms = found.name, f" ({found.terms})" if found.terms else ""
    if found.sharing == FORBIDDEN:
        raise UsageError(
            f"{path} is not published: its licence, by {said_by}, is {name}{terms}, which forbids to pass "
            "copies on. Keep it on your machine; others can fetch and convert the original themselves."
        )
    theirs = _from_others(header)
    if licence is not None:
        given = read_licence(licence)
        if given.sharing == FORBIDDEN or given.hub_id == "unknown":
            raise UsageError(f"nobody may pass copies on under the licence {licence!r}. Give another, or none.")
        if found.sharing == ALLOWED and given.name != name:
            raise UsageError(f"the licence of the weights is {name}, by {said_by}, not {licence}. Leave --licence out.")
        if found.sharing == NOT_STATED and (permission or not theirs):
            return replace(
                given, sharing=ALLOWED
            ), PUBLISHER  # a rights holder may choose what this table does not know
    if found.sharing == NOT_STATED and permission is None:
        advice = (
            "They are somebody else's: ask, then give the answer with --i-have-permission TEXT; it goes into the card."
            if theirs
            else "If you trained them, choose a licence with --licence, for instance --licence CC-BY-4.0; "
            "else ask, and give the answer with --i-have-permission TEXT; it goes into the card."
        )
        what = f"nobody stated a licence of the weights in {path}"
        if found.name != UNKNOWN.name:
            what = f"the licence of the weights in {path}, {name}, is not known to allow copies"
        raise UsageError(f"{what}. {advice}")
    return found, said_by


def stated(header: Header, manifest: Manifest | None, official: Manifest | None) -> tuple[Licence, str]:
    """(licence, who states it): the strictest of header, manifest and, for converted weights, official release.

    A manifest that describes exactly this file says what the header did not.
    """
    said: list[tuple[Licence, str]] = []
    if (note := licence_in(header.notes)) is not None:
        said.append((note, "the file's header"))
    if manifest is not None:
        said.append((read_licence(manifest.licence), f"the manifest of {manifest.name}"))
    elif header.source:
        family = [e.manifest for e in list_models() if e.family == header.family and e.manifest.original]
        releases = [official] if official else family
        said += [(read_licence(m.licence), f"the manifest of {m.name}") for m in releases]
    strict = (FORBIDDEN, NOT_STATED, ALLOWED) if not manifest else (FORBIDDEN, ALLOWED, NOT_STATED)
    return min(said, key=lambda pair: strict.index(pair[0].sharing), default=(UNKNOWN, "nobody"))


def _from_others(header: Header) -> bool:
    """Whether the weights, or those that training began with, were converted: the publisher did not make them."""
    base = header.notes.get(STARTED_FROM)
    while isinstance(base, Mapping):
        if base.get("source"):
            return True
        base = base.get("earlier")
    return bool(header.source)


def inherited(base: Header, name: str, sha256: str | None) -> dict[str, Any]:
    """What new weights that began with those of `base` must tell: where they come from, and the licence that binds."""
    manifests = [entry.manifest for entry in list_models()]
    same = [m for m in manifests if sha256 and m.file and m.file.sha256 == sha256]
    licence, _ = stated(base, same[0] if same else None, official_release(base, manifests))
    note = licence_note(licence.name, licence.sharing, licence.terms) if licence != UNKNOWN else {}
    earlier = base.notes.get(STARTED_FROM)
    return {STARTED_FROM: {"name": name, "sha256": sha256, "source": base.source, "earlier": earlier}, **note}


def official_release(header: Header, manifests: list[Manifest]) -> Manifest | None:
    """The official release, if one is known, of a network of the header's configuration."""
    config = _config(header.family, header.config)
    for manifest in manifests:
        same_family = manifest.original is not None and manifest.family == header.family
        if same_family and _config(manifest.family, manifest.configuration) == config:
            return manifest
    return None


def _config(family: str, values: Mapping[str, Any]) -> Any:
    module = family_module(family)
    return module.Config(**check_fields(module.Config, values))
