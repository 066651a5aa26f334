"""Fault 36: a running mean is updated at each call."""

import torch
from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("stateless", "error", "keeps state")


class Model(Frames):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def prepare(self, audio: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * audio.abs().mean(dim=1).amin()
        return audio * (1 + self.mean)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
