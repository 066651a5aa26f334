"""Fault 37: a tensor that does not move with the model."""

import torch
from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("device", "warning", "taper: a plain tensor")


class Model(Frames):
    def __init__(self) -> None:
        super().__init__()
        self.taper = torch.hann_window(self.window)

    def encode(self, frames: Tensor) -> Tensor:
        return super().encode(frames * self.taper)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
