"""Everything known about a model or a checkpoint file, as plain data for `hear-models info`; torch is not imported."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hear_models.checkpoints.hub import SCHEME
from hear_models.checkpoints.safetensors_file import verify
from hear_models.errors import UsageError
from hear_models.pipeline.streaming import LOOKS_AHEAD
from hear_models.zoo.download import compared_with
from hear_models.zoo.families import said_of
from hear_models.zoo.registry import ModelEntry, list_models, near_names
from hear_models.zoo.resolve import ORGANISATION, copy_address, resolve

NEVER_OPENED = "No official weight file was ever opened by this project: the address and format are as published."


def describe(name_or_path: str | os.PathLike[str]) -> dict[str, Any]:
    """What is known about a registry name, a converted `.safetensors` file, or one at `hf://org/repo[@revision]`.

    A file is verified byte by byte; one on the Hub is fetched for that if it is not in the cache.

    Raises UsageError for a name that is none of them, CheckpointError for a file that is damaged or not ours, or that
    cannot be fetched.
    """
    text = os.fspath(name_or_path)
    entries = {entry.name: entry for entry in list_models()}
    if text in entries:
        return describe_entry(entries[text])
    if text.startswith(SCHEME):
        return describe_address(text)
    if text and Path(text).exists():
        return describe_file(Path(text))
    raise UsageError(
        f"{text!r} is neither a model's name nor a file that exists, nor does it begin with {SCHEME}. "
        f"{near_names(text)}"
    )


def describe_entry(entry: ModelEntry) -> dict[str, Any]:
    """A model of the registry."""
    manifest = entry.manifest
    return {
        **asdict(manifest),
        "configuration": manifest.configuration or f"the defaults of hear_models.{entry.family}.Config",
        "streaming": streaming(entry.family),
        "status": entry.status,
        "path": str(manifest.path or manifest.fetched or "") or None,
        **({"converted": describe_file(manifest.fetched)} if manifest.fetched else {}),
        "advice": advice(entry),
    }


def streaming(family: str) -> str:
    """Whether steps can be had while the sound goes on, and if not, why."""
    reason = said_of(family, "not_streamed", LOOKS_AHEAD)
    return f"not exactly: {reason}" if reason else "exact, with fixed statistics: model.stream(...)"


def advice(entry: ModelEntry) -> str:
    """How to use the model, or how to get its weights."""
    module = f"hear_models.{entry.family}"
    if entry.status == "hub":
        return (
            f'hear_models.load_model("{entry.name}") downloads it into the cache of huggingface_hub if it is not there '
            "and compares it with the sha256 above at every load; "
            f"`hear-models download {entry.name}` does so in advance."
        )
    if entry.status == "untrained":
        return f'hear_models.load_model("{entry.name}") gives a random network of this configuration, with a warning.'
    if entry.status != "unpublished":
        return f'hear_models.load_model("{entry.name}"), or the HEAR module {module}.'
    if copy := copy_address(entry):
        return (
            f"No converted weights are published by hear-models. {ORGANISATION} is set, so load_model looks at {copy}. "
            "No manifest knows the sha256 of that file: it is compared with what the Hub announces and with the digest "
            "in its own header, which tell that it came whole, not who made it. Its family and configuration must be "
            f"those of this entry. {NEVER_OPENED}"
        )
    return (
        f"No converted weights are published. `hear-models fetch {entry.name}` fetches the official ones and converts "
        f"them; then the name loads them. What you fetched by hand: `hear-models fetch {entry.name} --from "
        f"FILE_OR_FOLDER`. {NEVER_OPENED}"
    )


def describe_address(text: str) -> dict[str, Any]:
    """A checkpoint on the Hub: as `describe_file`, with the commit and what the file was compared with."""
    resolved = resolve(text, None)
    assert resolved.path is not None and resolved.fetched is not None
    with resolved.explained():
        facts = describe_file(resolved.path, resolved.expected)
    where = {"address": text, "commit": resolved.fetched.commit, "file": resolved.fetched.file}
    return {**where, **facts, "compared_with": ", ".join(compared_with(resolved))}


def describe_file(path: Path, sha256: str | None = None) -> dict[str, Any]:
    """A converted checkpoint: its header, its size, and that its digest (and the sha256 if given) was verified."""
    header, tensors, sha256 = verify(path, sha256)
    count = 0
    for _, shape in tensors.values():
        size = 1
        for length in shape:
            size *= length
        count += size
    return {
        "path": str(path),
        **asdict(header),
        "streaming": streaming(header.family),
        "stored_as": sorted({dtype for dtype, _ in tensors.values()}),
        "tensors": len(tensors),
        "parameters": count,
        "bytes": path.stat().st_size,
        "sha256": sha256,
        "verified": True,
    }
