"""Fault 7: every step holds the mean of the clip."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("different-sounds", "error", "do not change over time")


class Model(Frames):
    def encode(self, frames: Tensor) -> Tensor:
        steps = super().encode(frames)
        return steps.mean(dim=1, keepdim=True).expand_as(steps)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
