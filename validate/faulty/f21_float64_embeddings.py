"""Fault 21: embeddings are float64."""

from typing import Any

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("dtypes", "error", "timestamp embeddings are torch.float64")


class Model(Frames):
    def timestamp_embeddings(self, audio: Tensor) -> Any:
        steps, times = super().timestamp_embeddings(audio)
        return steps.double(), times


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
