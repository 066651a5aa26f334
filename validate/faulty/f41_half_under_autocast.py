"""Fault 41: results are bfloat16 under autocast."""

from typing import Any

import torch
from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("autocast", "warning", "torch.bfloat16")


class Model(Frames):
    def steps(self, audio: Tensor) -> Tensor:
        return (self.frames(audio) @ self.weight).abs()

    def scene_embeddings(self, audio: Tensor) -> Any:
        self.begin(audio)
        with torch.inference_mode():
            return self.steps(audio).amax(dim=1)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
