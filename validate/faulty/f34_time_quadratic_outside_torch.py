"""Fault 34: every step is compared with every other in numpy, where no operation of torch can be counted."""

import numpy as np
import torch
from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("time", "error", "time grows like length^")


class Model(Frames):
    hop = 400

    def encode(self, frames: Tensor) -> Tensor:
        steps = super().encode(frames)
        clips = steps.detach().numpy()
        alike = [sum(np.exp(-np.abs(clip - step)).mean() for step in clip) for clip in clips]
        return steps + 1e-3 * torch.tensor(np.array(alike), dtype=torch.float32)[:, None, None] / steps.shape[1]


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
