"""Fault 13: the second clip's timestamps are 5 ms later."""

from typing import Any

import torch
from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("times-regular", "error", "different timestamps")


class Model(Frames):
    def timestamp_embeddings(self, audio: Tensor) -> Any:
        steps, times = super().timestamp_embeddings(audio)
        return steps, times + 5 * torch.arange(len(times))[:, None]


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
