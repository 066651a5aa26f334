"""The file that pretraining goes on from: with its decoder, where the way of training needs one."""

from __future__ import annotations

import os
from pathlib import Path

from hear_models.checkpoints.safetensors_file import read_header
from hear_models.errors import UsageError
from hear_models.zoo.resolve import resolve


def first_weights(name_or_path: str | os.PathLike[str], family: str, with_decoder: bool) -> Path:
    """The file behind a registry name, an address on the Hub or a path.

    Raises:
        UsageError: no such model, of another family, without weights, or without the decoder that is needed; the
            message says where that is.
        CheckpointError: the file cannot be fetched or read.
    """
    resolved = resolve(name_or_path, family)
    if resolved.path is None:
        raise UsageError(f"{resolved.name} has no weights to begin with. Leave --init out, or name a trained model.")
    path = resolved.path
    if not with_decoder or "decoder" in read_header(path).parts:
        return path
    whole = path.with_name(f"{path.stem}.decoder{path.suffix}")
    if whole.is_file():
        return whole
    bundled = resolved.entry is not None and resolved.entry.status == "bundled"
    where = (
        f"It stands in the source of the package, weights/{whole.name}, and is left out of installed copies: take it "
        "from there and give --init that file."
        if bundled
        else "Convert the authors' file with its decoder, or give the model.safetensors of a pretraining run."
    )
    raise UsageError(f"{resolved.name} has an encoder alone; pretraining goes on with a decoder, too. {where}")
