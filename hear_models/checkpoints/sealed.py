"""Tensors with a digest over every byte of their file, for what is no model: the states of training runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hear_models.errors import CheckpointError
from hear_models.foreign import parse_json, read_bytes, reading

if TYPE_CHECKING:
    from torch import Tensor

MARK, BLANK = "hear-models sha256 ", "0" * 64
NAME = "digest"  # in the file's metadata


def sealed(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> bytes:
    """A safetensors file of `tensors` with the metadata `about` and the digest of everything else in it."""
    from safetensors.torch import save

    data = save(dict(tensors), {**about, NAME: MARK + BLANK})
    digest = hashlib.sha256(data).hexdigest()
    return data.replace((MARK + BLANK).encode(), (MARK + digest).encode(), 1)


def read_sealed(path: str | os.PathLike[str], advice: str) -> tuple[dict[str, Tensor], dict[str, str], bool]:
    """(tensors, metadata, whether there was a digest: older versions wrote none).

    Raises CheckpointError with `advice`: not there, or not as it was written.
    """
    from safetensors.torch import load

    with reading(path, CheckpointError, advice):
        data = read_bytes(path)
        header = data[8 : 8 + int.from_bytes(data[:8], "little")]
        about = parse_json(header)["__metadata__"]
        at = data.find(MARK.encode(), 0, 8 + len(header)) + len(MARK)
        there = at >= len(MARK)
        if there or NAME in about:
            digest = data[at : at + 64]
            blank = data[:at] + BLANK.encode() + data[at + 64 :]
            if not there or hashlib.sha256(blank).hexdigest().encode() != digest:
                raise ValueError("its content does not match its digest")
        return load(data), {str(name): str(value) for name, value in about.items()}, there
