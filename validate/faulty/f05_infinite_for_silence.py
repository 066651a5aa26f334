"""Fault 5: the logarithm of silence is minus infinity."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("finite", "error", "silence")


class Model(Frames):
    def encode(self, frames: Tensor) -> Tensor:
        return (frames @ self.weight).abs().log()


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
