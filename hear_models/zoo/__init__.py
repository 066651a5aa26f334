"""Names → manifests → models. Importing this does not import torch; `load_model` does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hear_models.zoo.registry import ModelEntry, find_entry, list_models

if TYPE_CHECKING:
    from hear_models.pipeline.model import HearModel

__all__ = ["ModelEntry", "find_entry", "list_models", "load_model"]


def load_model(name_or_path: str | os.PathLike[str] = "", *, family: str | None = None, **options: Any) -> HearModel:
    """A model in eval mode, on the CPU, in float32, its weights verified by their sha256 or digest.

    Args:
        name_or_path: "" for the default (of `family`, else `mwmae-nano`), a name of `list_models()`, or a
            `.safetensors` file written by `hear-models convert` or by our pretraining.
        family: the family that the model must belong to, for instance "mwmae"; None: any.
        options: timestamps="centres" (true centres in ms, inside the clip) or "official" (every step, the original's
            times); dtype="float32" or "bfloat16"; device, for instance "cuda"; decoder=True to load the decoder too
            (for pretraining); and the options of the family's `Model`.

    Returns:
        The model; `model.checkpoint` says where its weights come from and whether they are trained. A name without
        weights gives a random network (always the same one) and a UserWarning, once. No global random state is touched.

    Raises:
        UsageError: unknown name, wrong family, unknown option or value.
        CheckpointError: the file is damaged, of an official format, or does not fit its configuration.
    """
    from hear_models.zoo.load import load

    return load(name_or_path, family, options)
