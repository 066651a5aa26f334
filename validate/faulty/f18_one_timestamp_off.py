"""Fault 18: one timestamp is 2 ms late."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("times-regular", "error", "not evenly spaced")


class Model(Frames):
    def times_ms(self, n_samples: int) -> Tensor:
        times = super().times_ms(n_samples)
        times[len(times) // 2] += 2
        return times


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
