"""Fault 22: the scene embeddings are a numpy array."""

from typing import Any

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("scene-shapes", "error", "ndarray")


class Model(Frames):
    def scene_embeddings(self, audio: Tensor) -> Any:
        return super().scene_embeddings(audio).cpu().numpy()


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
