"""What only the samples of a task's clips show: recordings that are there twice, and recordings of nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile


@dataclass(frozen=True)
class Sound:
    """What was heard in a clip: a digest of its samples without the zeros around them, None for silence."""

    samples: int
    sha256: str | None


class Copies(NamedTuple):
    """Files with the same sound; `torn`: they lie in several splits."""

    files: tuple[str, ...]
    torn: bool


def listen(path: Path) -> Sound | str:
    """Decode a clip; or why it cannot be used, as a clause."""
    samples, _ = soundfile.read(os.fspath(path), dtype="float32")
    if not np.isfinite(samples).all():
        return "NaN or infinite samples"
    heard = np.flatnonzero(samples != samples[:1]) if samples.ndim == 1 else np.flatnonzero(samples.any(axis=1))
    if not len(heard):
        return Sound(len(samples), None)
    within = np.flatnonzero(samples if samples.ndim == 1 else samples.any(axis=1))
    body = np.ascontiguousarray(samples[within[0] : within[-1] + 1])
    return Sound(len(samples), hashlib.sha256(body.data).hexdigest())


def copies(sounds: Mapping[str, Sound]) -> list[Copies]:
    """The groups of clips, by their names RATE/SPLIT/FILE, that hold the same sound."""
    groups: dict[str, list[str]] = {}
    for name, sound in sounds.items():
        if sound.sha256 is not None:
            groups.setdefault(sound.sha256, []).append(name)
    return [
        Copies(tuple(names), len({name.split("/")[1] for name in names}) > 1)
        for names in groups.values()
        if len(names) > 1
    ]


def silent(sounds: Mapping[str, Sound]) -> list[str]:
    """The clips of which every sample is the same."""
    return [name for name, sound in sounds.items() if sound.sha256 is None and sound.samples]
