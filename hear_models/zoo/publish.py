"""A model → a repository on the Hub: find the file, verify it, ask its licence, write its card, send both."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hear_models.checkpoints.card import CardFacts, write_card
from hear_models.checkpoints.licences import Licence
from hear_models.checkpoints.manifest import Manifest
from hear_models.checkpoints.safetensors_file import Header, verify
from hear_models.checkpoints.upload import FILE, Upload, check_branch, check_repository_name, upload
from hear_models.errors import CheckpointError, UsageError
from hear_models.files import scratch_folder
from hear_models.foreign import read_bytes
from hear_models.pipeline.model import HearModel
from hear_models.zoo.families import family_module
from hear_models.zoo.licensing import official_release, rule
from hear_models.zoo.load import load
from hear_models.zoo.registry import list_models, near_names
from hear_models.zoo.resolve import ORGANISATION
from hear_models.zoo.saving import unchanged_file, write_model


@dataclass(frozen=True)
class Publication:
    """What was sent, or would be sent, and what became of it."""

    repository: str
    branch: str | None
    private: bool
    file: str  # name in the repository
    local_file: str
    n_bytes: int
    sha256: str
    licence: str
    message: str  # of the commit
    card: str
    address: str  # what load_model takes
    upload: Upload | None  # None: a dry run


@dataclass(frozen=True)
class Candidate:
    """A verified file, and what is known about it."""

    path: Path
    data: bytes
    sha256: str
    header: Header
    stored_as: tuple[str, ...]
    model: HearModel  # loaded strictly from these bytes
    manifest: Manifest | None  # of the registry, if it describes exactly this file
    official: Manifest | None  # an official release of the same configuration


def publish(
    model: HearModel | str | os.PathLike[str],
    repository: str,
    *,
    private: bool = False,
    branch: str | None = None,
    licence: str | None = None,
    permission: str | None = None,
    training: str | None = None,
    message: str | None = None,
    allow_untrained: bool = False,
    dry_run: bool = False,
    token: str | None = None,
) -> Publication:
    """See `hear_models.push_to_hub`."""
    repository = check_repository_name(_with_organisation(repository))
    branch = check_branch(branch)
    if permission is not None and not permission.strip():
        raise UsageError("the permission is empty. Write who allowed it, and when.")
    if isinstance(model, HearModel):
        with scratch_folder() as folder:
            path, changed = file_of(model, Path(folder), training)
            candidate = examine(path)
        if changed:
            candidate = replace(candidate, path=Path(FILE))
    else:
        candidate = examine(find_file(model))
    if not candidate.header.trained and not allow_untrained:
        raise UsageError(
            f"{candidate.path} holds random weights: nothing was trained. Train them, or publish a random network "
            "with --allow-untrained (in Python: allow_untrained=True)."
        )
    ruling, said_by = rule(
        candidate.path, candidate.header, candidate.manifest, candidate.official, licence, permission
    )
    card = write_card(_facts(candidate, repository, branch, ruling, said_by, permission, training))
    message = (
        message
        or f"{candidate.manifest.name if candidate.manifest else candidate.path.stem}: sha256 {candidate.sha256}"
    )
    done = None
    if not dry_run:
        done = upload(repository, candidate.data, card, message=message, branch=branch, private=private, token=token)
    address = f"hf://{repository}" + (f"@{branch}" if branch else "")
    return Publication(
        repository,
        branch,
        private,
        FILE,
        str(candidate.path),
        len(candidate.data),
        candidate.sha256,
        ruling.name,
        message,
        card,
        address,
        done,
    )


def as_plain_data(publication: Publication) -> dict[str, Any]:
    """The publication as what JSON can hold."""
    return asdict(publication)


# ------------------------------------------------------------------------------------------------------ the file
def find_file(name_or_path: str | os.PathLike[str]) -> Path:
    """The local file behind a registry name or a path; UsageError if there are no weights to send."""
    text = os.fspath(name_or_path)
    entries = {entry.name: entry for entry in list_models()}
    if text in entries:
        entry = entries[text]
        if (here := entry.manifest.path or entry.manifest.fetched) is not None:
            return here
        if entry.status == "unpublished":
            raise UsageError(
                f"this computer has no converted file of {text}. Fetch it first: `hear-models fetch {text}`."
            )
        if entry.status == "hub":
            raise UsageError(f"{text} is on the Hub already. Name a local .safetensors file to publish that.")
        raise UsageError(f"{text} has no weights of its own to publish ({entry.status}). Name a .safetensors file.")
    if text.startswith("hf://"):
        raise UsageError(f"{text} is on the Hub already. Name a model or a local .safetensors file.")
    if not text or not Path(text).exists():
        raise UsageError(f"{text!r} is neither a model's name nor a file that exists. {near_names(text)}")
    return Path(text)


def examine(path: Path) -> Candidate:
    """Read the file once, verify every byte, load it strictly, and find what the registry knows about it."""
    header, tensors, sha256 = verify(path)
    model = load(path, None, {"decoder": True} if "decoder" in header.parts else {})
    data = read_bytes(path)  # these bytes are sent, whatever becomes of the file
    loaded = model.checkpoint.sha256 if model.checkpoint else None
    if not sha256 == loaded == hashlib.sha256(data).hexdigest():
        raise CheckpointError(f"{path} changed while it was being read. Wait until nobody writes to it.")
    manifests = [entry.manifest for entry in list_models()]
    same_file = [m for m in manifests if m.file and m.file.sha256 == sha256]
    return Candidate(
        path,
        data,
        sha256,
        header,
        tuple(sorted({dtype for dtype, _ in tensors.values()})),
        model,
        same_file[0] if same_file else None,
        official_release(header, manifests),
    )


def file_of(model: HearModel, folder: Path, training: str | None) -> tuple[Path, bool]:
    """(the file of a model's weights, whether it was written now): that from which it was loaded, if they are in it."""
    if (as_loaded := unchanged_file(model)) is not None:
        return as_loaded, False
    known = model.checkpoint
    if known is not None and known.path is not None and training is None:
        raise UsageError(
            f"the weights are no longer those of {known.path}, which the model was loaded from. "
            "Say for the card how they changed: push_to_hub(..., training='fine-tuned on ...')."
        )
    write_model(model, folder / FILE, training, trained=training is not None)
    return folder / FILE, True


# ------------------------------------------------------------------------------------------------------ the card
def _facts(
    candidate: Candidate,
    repository: str,
    branch: str | None,
    licence: Licence,
    licence_from: str,
    permission: str | None,
    training: str | None,
) -> CardFacts:
    header, model, manifest = candidate.header, candidate.model, candidate.manifest
    method = (family_module(header.family).__doc__ or header.family).splitlines()[0].rstrip(".")
    official = candidate.official if header.source else None
    about = candidate.path.with_suffix(".md")
    told = manifest.training if manifest else header.notes.get("training")
    return CardFacts(
        repository=repository,
        branch=branch,
        summary=manifest.summary if manifest else (official.summary if official else method),
        header=header,
        paper=manifest.paper if manifest else (official.paper if official else None),
        sample_rate=model.sample_rate,
        scene_embedding_size=model.scene_embedding_size,
        timestamp_embedding_size=model.timestamp_embedding_size,
        file=FILE,
        sha256=candidate.sha256,
        n_bytes=len(candidate.data),
        stored_as=candidate.stored_as,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        licence=licence,
        licence_from=licence_from,
        permission=permission,
        training=training or (told if isinstance(told, str) else None),
        original=official.original if official else None,
        original_name=official.name if official else None,
        about=about.read_text("utf-8").partition("\n")[2].strip() if manifest and about.is_file() else None,
    )


def _with_organisation(repository: str) -> str:
    organisation = os.environ.get(ORGANISATION, "").strip("/ ")
    return f"{organisation}/{repository}" if organisation and repository and "/" not in repository else repository
