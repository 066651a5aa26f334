"""Everything known about a model or a checkpoint file, as plain data for `hear-models info`; torch is not imported."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hear_models.checkpoints.safetensors_file import verify
from hear_models.errors import UsageError
from hear_models.zoo.registry import ModelEntry, list_models, near_names

NEVER_OPENED = "No official weight file was ever opened by this project: the address and format are as published."


def describe(name_or_path: str | os.PathLike[str]) -> dict[str, Any]:
    """What is known about a registry name or a converted `.safetensors` file; the file is verified byte by byte.

    Raises UsageError for a name that is neither, CheckpointError for a file that is damaged or not ours.
    """
    text = os.fspath(name_or_path)
    entries = {entry.name: entry for entry in list_models()}
    if text in entries:
        return describe_entry(entries[text])
    if text and Path(text).exists():
        return describe_file(Path(text))
    raise UsageError(f"{text!r} is neither a model's name nor a file that exists. {near_names(text)}")


def describe_entry(entry: ModelEntry) -> dict[str, Any]:
    """A model of the registry."""
    manifest = entry.manifest
    return {
        **asdict(manifest),
        "configuration": manifest.configuration or f"the defaults of hear_models.{entry.family}.Config",
        "status": entry.status,
        "path": str(manifest.path) if manifest.path else None,
        "advice": advice(entry),
    }


def advice(entry: ModelEntry) -> str:
    """How to use the model, or how to get its weights."""
    module = f"hear_models.{entry.family}"
    if entry.status == "untrained":
        return f'hear_models.load_model("{entry.name}") gives a random network of this configuration, with a warning.'
    if entry.status != "unpublished":
        return f'hear_models.load_model("{entry.name}"), or the HEAR module {module}.'
    return (
        "No converted weights are published. Fetch the official folder yourself, then run "
        f"`hear-models convert {entry.family} FOLDER {entry.name}.safetensors --report` and load that file: "
        f'hear_models.load_model("{entry.name}.safetensors"). {NEVER_OPENED}'
    )


def describe_file(path: Path) -> dict[str, Any]:
    """A converted checkpoint: its header, its size, and that its digest was verified."""
    header, tensors, sha256 = verify(path)
    count = 0
    for _, shape in tensors.values():
        size = 1
        for length in shape:
            size *= length
        count += size
    return {
        "path": str(path),
        **asdict(header),
        "stored_as": sorted({dtype for dtype, _ in tensors.values()}),
        "tensors": len(tensors),
        "parameters": count,
        "bytes": path.stat().st_size,
        "sha256": sha256,
        "verified": True,
    }
