"""Fault 3, in a model of this zoo: clips of unequal lengths are padded to the longest one of the call."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import pad

from hear_models import logmel_stats
from hear_models.logmel_stats import get_scene_embeddings, get_timestamp_embeddings

EXPECTED = ("mixed-lengths", "error", "among clips of other lengths")


class Model(logmel_stats.Model):
    def embed_clips(self, clips: Sequence[Tensor], purpose: Any = "scene") -> list[Any]:
        longest = max(clip.shape[0] for clip in clips)
        return super().embed_clips([pad(clip, (0, longest - clip.shape[0])) for clip in clips], purpose)


def load_model(model_file_path: str = "") -> Model:
    """The model without parameters, with the fault above."""
    if model_file_path:
        raise ValueError("there are no weights")
    return Model(logmel_stats.Config()).eval()


__all__ = ["get_scene_embeddings", "get_timestamp_embeddings", "load_model"]
