"""Fault 39: 1-D audio is accepted silently."""

from typing import Any

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("refusals", "error", "1-D audio")


class Model(Frames):
    def timestamp_embeddings(self, audio: Tensor) -> Any:
        return super().timestamp_embeddings(audio[None] if audio.ndim == 1 else audio)

    def scene_embeddings(self, audio: Tensor) -> Any:
        return super().scene_embeddings(audio[None] if audio.ndim == 1 else audio)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
