"""Fault 8: dropout stays active."""

from torch import Tensor
from torch.nn.functional import dropout

from validate._base import Frames, hear_functions

EXPECTED = ("repeatable", "error", "two results")


class Model(Frames):
    def encode(self, frames: Tensor) -> Tensor:
        return dropout(super().encode(frames), 0.1, training=True)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
