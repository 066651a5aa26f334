"""Fault 17: one timestamp too many, past the end."""

from typing import Any

import torch
from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("times-range", "error", "past the end")


class Model(Frames):
    def timestamp_embeddings(self, audio: Tensor) -> Any:
        steps, times = super().timestamp_embeddings(audio)
        return torch.cat([steps, steps[:, -1:]], dim=1), torch.cat([times, times[:, -1:] + 50], dim=1)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
