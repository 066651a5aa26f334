"""Fault 6: timestamps are NaN."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("times-finite", "error", "NaN")


class Model(Frames):
    def times_ms(self, n_samples: int) -> Tensor:
        return super().times_ms(n_samples) * float("nan")


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
