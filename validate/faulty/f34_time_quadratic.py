"""Fault 34: every step attends to every other, in blocks: memory is bounded, time grows with the square."""

import torch
from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("time", "error", "time grows like length^")


class Model(Frames):
    hop = 128

    def encode(self, frames: Tensor) -> Tensor:
        steps = super().encode(frames)
        blocks = (torch.cdist(block, steps).square().neg().softmax(dim=2) @ steps for block in steps.split(500, dim=1))
        return steps + 0.01 * torch.cat(list(blocks), dim=1)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
