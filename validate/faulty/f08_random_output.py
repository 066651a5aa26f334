"""Fault 8: noise is added at each call."""

from random import SystemRandom

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("repeatable", "error", "two results")


class Model(Frames):
    def encode(self, frames: Tensor) -> Tensor:
        return super().encode(frames) * (1 + 0.1 * SystemRandom().random())


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
