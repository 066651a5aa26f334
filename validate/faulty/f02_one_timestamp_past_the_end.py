"""Fault 2: a single timestamp, far past the end."""

from typing import Any

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("times-range", "error", "past the end")


class Model(Frames):
    def timestamp_embeddings(self, audio: Tensor) -> Any:
        steps, times = super().timestamp_embeddings(audio)
        return steps.mean(dim=1, keepdim=True), times[:, -1:] + 5000


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
