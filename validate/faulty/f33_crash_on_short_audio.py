"""Fault 33: clips shorter than a window crash."""

import torch
from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("short-clips", "error", "raised")


class Model(Frames):
    def frames(self, audio: Tensor) -> Tensor:
        return audio.unfold(1, self.window, self.hop)

    def times_ms(self, n_samples: int) -> Tensor:
        return torch.arange((n_samples - self.window) // self.hop + 1, dtype=torch.float64) * 50.0 + 12.5


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
