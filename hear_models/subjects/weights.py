"""Which weights a model has: the sha256 of their file where there is one, else a digest of what is in memory."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from hear_models import foreign
from hear_models.errors import FileError, UsageError

if TYPE_CHECKING:
    from torch import nn

    from hear_models.pipeline.model import HearModel


def weights_sha256(model: nn.Module) -> str:
    """The identity of a model's weights, the same whoever asks: embeddings of two models must not pass for one's.

    Of one of ours from a file the sha256 of that file. Of any other a digest of its parameters and buffers, and of
    ours of the configuration, which may be all that tells two models without a file apart.
    """
    import torch

    from hear_models.pipeline.model import HearModel

    digest = hashlib.sha256()
    if isinstance(model, HearModel):
        if model.checkpoint is not None and model.checkpoint.sha256:
            return model.checkpoint.sha256
        digest.update(repr(model.config).encode())
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, torch.Tensor) and not value.is_sparse:
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def is_trained(model: HearModel) -> bool:
    """Whether the weights were ever trained; a model without parameters has nothing to train."""
    if next(model.parameters(), None) is None:
        return True
    return model.checkpoint is not None and bool(model.checkpoint.trained)


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes. UsageError instead of FileError."""
    try:
        return foreign.file_sha256(path)
    except (FileError, OSError) as error:
        raise UsageError(str(error)) from error


def path_sha256(path: Path) -> str:
    """Of a file its sha256, of a folder one over the names and digests of the files in it."""
    if path.is_file():
        return file_sha256(path)
    lines = [f"{p.relative_to(path).as_posix()}\0{file_sha256(p)}\n" for p in sorted(path.rglob("*")) if p.is_file()]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
