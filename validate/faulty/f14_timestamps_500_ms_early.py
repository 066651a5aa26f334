"""Fault 14: all timestamps are 500 ms too early."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("times-range", "error", "first timestamp is -500")


class Model(Frames):
    def times_ms(self, n_samples: int) -> Tensor:
        return super().times_ms(n_samples) - 500


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
