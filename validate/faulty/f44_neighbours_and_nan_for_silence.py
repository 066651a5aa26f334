"""Fault 44: an embedding moves beside a neighbour, in a module that also gives NaN for silence."""

import torch
from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("batch", "error", "differs from the same clip alone")


class Model(Frames):
    def prepare(self, audio: Tensor) -> Tensor:
        return audio / audio.abs().amax(dim=1, keepdim=True) - 0.1 * audio.mean(dim=0)

    def encode(self, frames: Tensor) -> Tensor:
        return torch.sign(frames @ self.weight) * super().encode(frames)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
