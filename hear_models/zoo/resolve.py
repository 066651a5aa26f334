"""The first of the four steps from a name to a model: what is meant, and the file of weights, downloaded if need be.

torch is not imported: `hear-models download` and `info` stop here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hear_models.checkpoints.hub import SCHEME, Address, Fetched, fetch, parse_address, refusal
from hear_models.checkpoints.manifest import FETCHED
from hear_models.checkpoints.safetensors_file import read_header
from hear_models.errors import CheckpointError, UsageError
from hear_models.zoo.families import families
from hear_models.zoo.registry import ModelEntry, default_entry, list_models, near_names

ORGANISATION = "HEAR_MODELS_HUB_ORG"  # environment variable: whose copies of unpublished models are looked for


@dataclass(frozen=True)
class Resolved:
    """What a name means: a family, the manifest if it has one, and the file of weights if there is one."""

    name: str
    family: str
    entry: ModelEntry | None
    path: Path | None
    sha256: str | None  # that the file must have by its manifest
    fetched: Fetched | None = None  # where it came from, if from the Hub

    @property
    def expected(self) -> str | None:
        """The sha256 that the file must have: by its manifest, else what the Hub announced; None: only its digest."""
        return self.sha256 or (self.fetched.announced if self.fetched else None)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Around the reading of the file: an error says how a file from the Hub is repaired."""
        try:
            yield
        except CheckpointError as error:
            if self.fetched is None:
                raise
            raise refusal(self.fetched, self.sha256, self.name, error) from error


def resolve(name_or_path: str | os.PathLike[str], family: str | None, force: bool = False) -> Resolved:
    """What the user named: the default, a registry name, an address on the Hub, or a `.safetensors` file.

    `force` downloads a file of the Hub again even if it is in the cache.
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise UsageError(f"load_model takes a name or a path, not {type(name_or_path).__name__}. {near_names('')}")
    text = os.fspath(name_or_path)
    entries = {entry.name: entry for entry in list_models()}
    if text == "":
        resolved = _resolve_default(family, force)
    elif text in entries:
        resolved = _resolve_entry(entries[text], family, force)
    elif text.startswith(SCHEME):
        resolved = _resolve_address(parse_address(text), force)
    elif Path(text).exists():
        resolved = _resolve_path(Path(text))
    else:
        known = f" There is the family {text!r}: `hear_models.{text}.load_model()`." if text in families() else ""
        raise UsageError(
            f"{text!r} is neither a model's name ({len(entries)} are known) nor a file that exists, "
            f"nor does it begin with {SCHEME}.{known} {near_names(text)}"
        )
    _check_family(text, resolved.family, family)
    return resolved


def _resolve_default(family: str | None, force: bool) -> Resolved:
    """The family's default model; of a family without any manifest a random network of its default Config."""
    if family in families() and family not in {entry.family for entry in list_models()}:
        return Resolved(family, family, None, None, None)
    return _resolve_entry(default_entry(family), family, force)


def _check_family(text: str, found: str, wanted: str | None) -> None:
    if wanted is not None and found != wanted:
        raise UsageError(
            f"{text!r} is of the family {found}, not of {wanted}. "
            f"Use hear_models.{found}.load_model or hear_models.load_model."
        )


def _known(family: str, where: str) -> str:
    if family not in families():
        raise CheckpointError(
            f"{where} is of the family {family!r}, which this version of hear-models does not know. "
            f"Known: {', '.join(families())}."
        )
    return family


def _resolve_entry(entry: ModelEntry, family: str | None, force: bool) -> Resolved:
    _check_family(entry.name, entry.family, family)  # before anything is downloaded
    manifest, file = entry.manifest, entry.manifest.file
    if entry.status == "unpublished":
        return _resolve_copy(entry, force)
    if entry.status == FETCHED:
        return Resolved(entry.name, entry.family, entry, manifest.fetched, None)
    if entry.status == "hub":
        assert file and file.hub_repository  # the manifest was checked
        fetched = fetch(Address(file.hub_repository, file.hub_revision), file.hub_file, name=entry.name, force=force)
        return Resolved(entry.name, entry.family, entry, fetched.path, file.sha256, fetched)
    sha256 = file.sha256 if file and manifest.path else None
    if manifest.path and sha256 is None:
        raise CheckpointError(f"the manifest of {entry.name} gives no sha256 for {manifest.path}. Write it there.")
    return Resolved(entry.name, entry.family, entry, manifest.path, sha256)


def copy_address(entry: ModelEntry) -> Address | None:
    """Where the user's organisation has its own conversion of an unpublished model: hf://$HEAR_MODELS_HUB_ORG/NAME."""
    organisation = os.environ.get(ORGANISATION, "").strip()
    if not organisation or entry.status != "unpublished":
        return None
    try:
        address = parse_address(f"{SCHEME}{organisation}/{entry.name}")
    except UsageError as error:
        raise UsageError(f"{ORGANISATION}={organisation!r} is no organisation's name. Correct it.") from error
    return address


def _resolve_copy(entry: ModelEntry, force: bool) -> Resolved:
    """A model that this project does not publish, from the organisation that the user trusts."""
    address = copy_address(entry)
    original = entry.manifest.original
    where = f" from {original.address}" if original else ""
    convert = (
        f"`hear-models fetch {entry.name}` fetches the original{where} and converts it; then this name loads it. "
        f"`hear-models info {entry.name}` tells more"
    )
    if address is None:
        raise CheckpointError(
            f"no converted weights of {entry.name} are published yet; the licence of the official ones is: "
            f"{entry.manifest.licence}. {convert}. Or set {ORGANISATION} to an "
            "organisation on the Hub that has converted them and that you trust."
        )
    try:
        fetched = fetch(address, name=entry.name, force=force)
    except CheckpointError as error:
        raise CheckpointError(f"{error} ({entry.name} is looked for there because {ORGANISATION} is set.)") from error
    return Resolved(entry.name, entry.family, entry, fetched.path, None, fetched)


def _resolve_address(address: Address, force: bool) -> Resolved:
    fetched = fetch(address, force=force)
    draft = Resolved(str(address), "", None, fetched.path, None, fetched)
    with draft.explained():
        family = read_header(fetched.path).family
    return Resolved(str(address), _known(family, str(address)), None, fetched.path, None, fetched)


def _resolve_path(path: Path) -> Resolved:
    if path.is_dir() or path.suffix != ".safetensors":
        raise CheckpointError(
            f"{path} is {'a folder' if path.is_dir() else 'no .safetensors file'}; "
            "official checkpoints are not loaded directly. Convert it first: "
            "`hear-models convert FAMILY INPUT OUTPUT.safetensors`."
        )
    return Resolved(path.name, _known(read_header(path).family, str(path)), None, path, None)
