"""Fault 43: scenes are made of the last 3 s."""

from typing import Any

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("whole-clip", "error", "whatever its first")


class Model(Frames):
    def scene_embeddings(self, audio: Tensor) -> Any:
        return super().scene_embeddings(audio[:, -3 * self.sample_rate :])


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
