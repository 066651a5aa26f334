"""Fault 5, in a model of this zoo: NaN in a recording becomes silence, and nobody is told."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from hear_models import logmel_stats
from hear_models.logmel_stats import get_scene_embeddings, get_timestamp_embeddings

EXPECTED = ("nan-input", "error", "audio with NaN is accepted")


class Model(logmel_stats.Model):
    def embed_clips(self, clips: Sequence[Tensor], purpose: Any = "scene") -> list[Any]:
        return super().embed_clips([clip.nan_to_num() for clip in clips], purpose)


def load_model(model_file_path: str = "") -> Model:
    """The model without parameters, with the fault above."""
    if model_file_path:
        raise ValueError("there are no weights")
    return Model(logmel_stats.Config()).eval()


__all__ = ["get_scene_embeddings", "get_timestamp_embeddings", "load_model"]
