"""Fault 34: every step attends to every other: memory grows with the square of the length."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("memory", "error", "memory grows like length^")


class Model(Frames):
    hop = 320

    def encode(self, frames: Tensor) -> Tensor:
        steps = super().encode(frames)
        alike = -(steps[:, :, None, 0] - steps[:, None, :, 0]).square()
        return steps + 0.01 * alike.softmax(dim=2) @ steps


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
