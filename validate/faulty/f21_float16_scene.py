"""Fault 21: scene embeddings are float16."""

from typing import Any

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("dtypes", "error", "scene embeddings are torch.float16")


class Model(Frames):
    def scene_embeddings(self, audio: Tensor) -> Any:
        return super().scene_embeddings(audio).half()


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
