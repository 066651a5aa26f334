"""What decides the numbers in an output: model, checkpoint and options, compared when a run is resumed."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from hear_models.corpus.discover import AudioFile
from hear_models.corpus.segments import segments_sha256
from hear_models.errors import UsageError
from hear_models.files import as_text, shown
from hear_models.pipeline.model import HearModel
from hear_models.subjects.weights import is_trained, weights_sha256
from hear_models.version import __version__


@dataclass(frozen=True)
class EmbeddingSettings:
    """Everything that changes an embedding. Two outputs with equal settings may stand in one folder or table.

    windows_from_s: recordings above so many seconds have windows, others are whole; None: all have, with `window_s`.
    """

    model: str
    family: str
    checkpoint_sha256: str
    trained: bool
    sample_rate: int
    kind: str
    dtype: str
    window_s: float | None = None
    hop_s: float | None = None
    channel: str | int = "mix"
    resampler: str = "soxr"
    segments: bool = False
    model_options: dict[str, Any] = field(default_factory=dict)
    hear_models: str = __version__
    windows_from_s: float | None = None
    clock: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def of(self, duration_s: float) -> EmbeddingSettings:
        """What they come to for a recording of that length: with windows, or without."""
        if self.windows_from_s is None:
            return self
        window_s = self.window_s if duration_s > self.windows_from_s else None
        return replace(self, window_s=window_s, windows_from_s=None)


@dataclass(frozen=True)
class AudioFileState:
    """A recording as it was when it was read: place, size and time of change tell a later run whether it is the same.

    path: where it came from, links of folders resolved. segments_sha256: of its segments; "" where all of it was read.
    """

    name: str
    path: str
    bytes: int
    modified_ns: int
    segments_sha256: str = ""
    sample_rate: int = 0
    channels: int = 0
    duration_s: float = 0.0

    @classmethod
    def of(cls, source: AudioFile) -> AudioFileState:
        """Raises OSError if the file is not there."""
        status = os.stat(source.path)
        segments = "" if source.segments is None else segments_sha256(source.segments)
        modified_ns = 0 if source.origin else status.st_mtime_ns
        return cls(source.name, _origin(source), status.st_size, modified_ns, segments)

    def is_that(self, where: str, found: Mapping[str, Any]) -> bool:
        """Whether an entry of an output was made of this recording, unchanged since.

        Raises UsageError: it was made of another one that has the same name.
        """
        if found.get("path") != self.path:
            raise UsageError(
                f"{shown(where)} has {shown(self.name)} from {shown(str(found.get('path')))}, this run from "
                f"{shown(self.path)}. Choose another --output, give the folder above both, or replace it with "
                "--overwrite."
            )
        return all(found.get(key) == getattr(self, key) for key in ("bytes", "modified_ns", "segments_sha256"))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _origin(source: AudioFile) -> str:
    """Where a recording came from, as text that any file takes."""
    where = source.origin or os.path.join(_real_folder(os.path.dirname(source.path)), os.path.basename(source.path))
    return as_text(where)


@functools.lru_cache(maxsize=1024)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def embedding_settings(
    model: HearModel,
    kind: str,
    dtype: str,
    window_s: float | None,
    hop_s: float | None,
    *,
    channel: str | int = "mix",
    resampler: str = "soxr",
    segments: bool = False,
    windows_from_s: float | None = None,
    clock: bool = False,
) -> EmbeddingSettings:
    """The settings of a run with this model."""
    checkpoint = model.checkpoint
    options = {"timestamps": getattr(model, "timestamps", "centres")}
    compute = str(getattr(model, "compute_dtype", torch.float32)).removeprefix("torch.")
    if getattr(model, "compiled", False):
        compute += ", compiled"
    return EmbeddingSettings(
        model=checkpoint.name if checkpoint else model.family,
        family=model.family,
        checkpoint_sha256=weights_sha256(model),
        trained=is_trained(model),
        sample_rate=int(model.sample_rate),
        kind=kind,
        dtype=dtype,
        window_s=window_s,
        hop_s=hop_s,
        channel=channel,
        resampler=resampler,
        segments=segments,
        model_options={**options, "dtype": compute},
        windows_from_s=windows_from_s,
        clock=clock,
    )


def refuse_mixture(
    where: str, found: Mapping[str, Any], wanted: EmbeddingSettings, *, replaceable: bool = True
) -> None:
    """Raise UsageError, naming the first difference, unless an existing output was made with the same settings.

    replaceable: whether `overwrite` would replace it.
    """
    for key, value in wanted.as_dict().items():
        if found.get(key, _BEFORE.get(key)) != value:
            advice = ", or replace what is there with --overwrite" if replaceable else ", or remove what is there"
            if key in ("window_s", "windows_from_s"):
                before, now = _windows_as_said(found), _windows_as_said(wanted.as_dict())
                raise UsageError(
                    f"{shown(where)} was made {before}, this run is {now}. "
                    f"Say so here too, choose another --output{advice}."
                )
            raise UsageError(
                f"{shown(where)} was made with {key} = {found.get(key)!r}, this run has {value!r}. "
                f"Choose another --output{advice}."
            )


_BEFORE = {"clock": False}  # what a setting was before there was a choice


def _windows_as_said(settings: Mapping[str, Any]) -> str:
    """How recordings are cut, in words and as options."""
    window_s, from_s = settings.get("window_s"), settings.get("windows_from_s")
    if window_s is None:
        return "without windows (--window 0)"
    hop = "" if settings.get("hop_s") is None else f" --hop {settings['hop_s']:g}"
    if from_s is None:
        return f"in windows of {window_s:g} s (--window {window_s:g}{hop})"
    return f"in windows of {window_s:g} s where recordings are longer than {from_s:g} s (no --window)"


def window_ends_ms(starts_ms: np.ndarray, window_s: float | None, duration_s: float) -> np.ndarray:
    """Where windows end: the last one with the recording. None: the whole of it is one."""
    lengths_ms = 1000.0 * (math.inf if window_s is None else window_s)
    return np.minimum(np.asarray(starts_ms, np.float64) + lengths_ms, 1000.0 * duration_s)
