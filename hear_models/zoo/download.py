"""Fetches a model's file from the Hub and verifies every byte, without building the network; torch is not imported."""

from __future__ import annotations

import os
from dataclasses import dataclass

from hear_models.checkpoints.safetensors_file import verify
from hear_models.errors import UsageError
from hear_models.zoo.resolve import Resolved, resolve


@dataclass(frozen=True)
class Downloaded:
    """A verified checkpoint on this machine."""

    name: str  # what `load_model` takes
    family: str
    path: str
    sha256: str  # of the file, computed from its bytes now
    bytes: int
    address: str | None  # on the Hub; None: the file comes with the package
    commit: str | None
    verified: tuple[str, ...]  # what the file was compared with


def download(name: str, *, force: bool = False) -> Downloaded:
    """The file of a registry name or of `hf://org/repo[@revision]`, fetched if it is not in the cache, and verified.

    Args:
        name: a name of `list_models()`, or an address on the Hub.
        force: fetch it even if it is in the cache, which repairs a damaged copy.

    Raises:
        UsageError: neither a name nor an address, or a model without weights.
        CheckpointError: the file cannot be had, or is not what it must be.
    """
    if name == "":
        raise UsageError("the name is empty. `hear-models list` shows the models.")
    resolved = resolve(name, None, force)
    if resolved.path is None:
        raise UsageError(f"{name} has no weights to download. `hear-models info {name}` tells what it is.")
    if resolved.entry is None and resolved.fetched is None:
        raise UsageError(f"{name} is a file on this machine already. `hear-models info {name}` verifies it.")
    with resolved.explained():
        _, _, sha256 = verify(resolved.path, resolved.expected)
    fetched = resolved.fetched
    return Downloaded(
        resolved.name,
        resolved.family,
        str(resolved.path),
        sha256,
        os.path.getsize(resolved.path),
        str(fetched.address) if fetched else None,
        fetched.commit if fetched else None,
        compared_with(resolved),
    )


def compared_with(resolved: Resolved) -> tuple[str, ...]:
    """What a file is compared with at every load."""
    found = ["the digest in its header, over every byte"]
    if resolved.fetched and resolved.fetched.announced:
        found.insert(0, "the sha256 that the Hub announced")
    if resolved.sha256:
        found.insert(0, "the sha256 in the manifest")
    return tuple(found)
