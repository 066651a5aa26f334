"""Fault 9: the real hop is 801 samples, the labels say 50 ms."""

import torch
from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("drift", "error", "bef")


class Model(Frames):
    hop = 801

    def times_ms(self, n_samples: int) -> Tensor:
        return torch.arange(n_samples // self.hop + 1, dtype=torch.float64) * 50.0


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
