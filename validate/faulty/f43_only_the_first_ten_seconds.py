"""Fault 43: scenes are made of the first 10 s."""

from typing import Any

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("whole-clip", "error", "only about its first 10 s are heard")


class Model(Frames):
    def scene_embeddings(self, audio: Tensor) -> Any:
        return super().scene_embeddings(audio[:, : 10 * self.sample_rate])


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
