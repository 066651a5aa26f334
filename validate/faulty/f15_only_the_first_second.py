"""Fault 15: only the first second is embedded."""

from typing import Any

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("times-range", "error", "no timestamp in the last")


class Model(Frames):
    def timestamp_embeddings(self, audio: Tensor) -> Any:
        return super().timestamp_embeddings(audio[:, : self.sample_rate])


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
