"""Fault 24: the scene embedding keeps the time axis."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("scene-shapes", "error", "shape [4, 1, 8]")


class Model(Frames):
    def pool(self, steps: Tensor) -> Tensor:
        return steps.mean(dim=1, keepdim=True)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
