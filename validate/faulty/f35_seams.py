"""Fault 35: a fade at the edges of each chunk of one second."""

import torch
from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("seams", "info", "is embedded differently")


class Model(Frames):
    def prepare(self, audio: Tensor) -> Tensor:
        place = torch.arange(audio.shape[1], device=audio.device) % self.sample_rate / self.sample_rate
        return audio * (torch.minimum(place, 1 - place) * 10).clamp(max=1)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
