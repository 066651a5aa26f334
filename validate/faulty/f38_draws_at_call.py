"""Fault 38: a call draws from numpy's global generator."""

import numpy as np
from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("random-state", "error", "numpy")


class Model(Frames):
    def prepare(self, audio: Tensor) -> Tensor:
        return audio + 1e-9 * np.random.uniform()


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
