"""Fault 1: timestamps in seconds."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("times-range", "error", "seconds")


class Model(Frames):
    def times_ms(self, n_samples: int) -> Tensor:
        return super().times_ms(n_samples) / 1000


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
