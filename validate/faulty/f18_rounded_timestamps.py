"""Fault 18: timestamps are rounded to whole milliseconds."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("times-regular", "warning", "not evenly spaced")


class Model(Frames):
    hop = 820  # 51.25 ms

    def times_ms(self, n_samples: int) -> Tensor:
        return super().times_ms(n_samples).round()


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
