"""Fault 43: scenes are made of the first and the last 5 s."""

from typing import Any

import torch
from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("whole-clip", "error", "whatever its middle")


class Model(Frames):
    def scene_embeddings(self, audio: Tensor) -> Any:
        ends = [audio[:, : 5 * self.sample_rate], audio[:, -5 * self.sample_rate :]]
        return super().scene_embeddings(torch.cat(ends, dim=1) if audio.shape[1] > 10 * self.sample_rate else audio)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
