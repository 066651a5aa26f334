"""What decides the numbers in an output: model, checkpoint and options, compared when a run is resumed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from hear_models.corpus.discover import AudioFile
from hear_models.errors import UsageError
from hear_models.files import shown
from hear_models.pipeline.model import HearModel
from hear_models.subjects.weights import is_trained, weights_sha256
from hear_models.version import __version__


@dataclass(frozen=True)
class EmbeddingSettings:
    """Everything that changes an embedding. Two outputs with equal settings may stand in one folder or table."""

    model: str
    family: str
    checkpoint_sha256: str
    trained: bool
    sample_rate: int
    kind: str
    dtype: str
    window_s: float | None = None
    hop_s: float | None = None
    model_options: dict[str, Any] = field(default_factory=dict)
    hear_models: str = __version__

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class AudioFileState:
    """A recording as it was when it was read: size and time of change tell a later run whether it is the same."""

    name: str
    bytes: int
    modified_ns: int
    sample_rate: int = 0
    channels: int = 0
    duration_s: float = 0.0

    @classmethod
    def of(cls, source: AudioFile) -> AudioFileState:
        """Raises OSError if the file is not there."""
        status = os.stat(source.path)
        return cls(source.name, status.st_size, status.st_mtime_ns)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def embedding_settings(
    model: HearModel, kind: str, dtype: str, window_s: float | None, hop_s: float | None
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
        model_options={**options, "dtype": compute},
    )


def refuse_mixture(where: str, found: Mapping[str, Any], wanted: EmbeddingSettings) -> None:
    """Raise UsageError, naming the first difference, unless an existing output was made with the same settings."""
    for key, value in wanted.as_dict().items():
        if found.get(key) != value:
            raise UsageError(
                f"{shown(where)} was made with {key} = {found.get(key)!r}, this run has {value!r}. "
                "Choose another --output, or replace what is there with --overwrite."
            )
