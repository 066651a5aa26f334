"""Fault 12: timestamps decrease."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("times-regular", "error", "do not increase")


class Model(Frames):
    def times_ms(self, n_samples: int) -> Tensor:
        return super().times_ms(n_samples).flip(0)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
