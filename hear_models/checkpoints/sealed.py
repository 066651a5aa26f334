"""Tensors with a digest over every byte of their file, for what is no model: the states of training runs."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hear_models.errors import CheckpointError
from hear_models.foreign import parse_json, read_bytes, reading
from hear_models.seals import UNSEALED, is_sealed, seal, verify_seal

if TYPE_CHECKING:
    from torch import Tensor

NAME = "digest"  # in the file's metadata


def sealed(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> bytes:
    """A safetensors file of `tensors` with the metadata `about` and the digest of everything else in it."""
    from safetensors.torch import save

    file = io.BytesIO(save(dict(tensors), {NAME: UNSEALED.decode(), **about}))
    seal(file, at_end=False)
    return file.getvalue()


def read_sealed(path: str | os.PathLike[str], advice: str) -> tuple[dict[str, Tensor], dict[str, str], bool]:
    """(tensors, metadata, whether there was a digest: older versions wrote none).

    Raises CheckpointError with `advice`: not there, or not as it was written.
    """
    from safetensors.torch import load

    with reading(path, CheckpointError, advice):
        data = read_bytes(path)
        about = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        there = is_sealed(io.BytesIO(data), at_end=False)
        if there or NAME in about:
            verify_seal(io.BytesIO(data), at_end=False)
        return load(data), {str(name): str(value) for name, value in about.items()}, there
