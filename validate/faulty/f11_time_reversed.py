"""Fault 11: the time axis of the embeddings is reversed."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("centres", "error", "reversed")


class Model(Frames):
    def encode(self, frames: Tensor) -> Tensor:
        return super().encode(frames).flip(1)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
