"""Fault 31: the graph is kept."""

from typing import Any

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("gradients", "error", "require gradients")


class Model(Frames):
    def scene_embeddings(self, audio: Tensor) -> Any:
        self.begin(audio)
        return self.pool(self.steps(audio))


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
