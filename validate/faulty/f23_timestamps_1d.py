"""Fault 23: timestamps have no axis of clips."""

from typing import Any

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("timestamp-shapes", "error", "timestamps [22]")


class Model(Frames):
    def timestamp_embeddings(self, audio: Tensor) -> Any:
        steps, times = super().timestamp_embeddings(audio)
        return steps, times[0]


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
