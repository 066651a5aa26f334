"""Fault 5: NaN where the audio reaches full scale."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("finite", "error", "full scale")


class Model(Frames):
    def encode(self, frames: Tensor) -> Tensor:
        headroom = (1 - frames.abs()).log()
        return super().encode(frames + 0 * headroom)  # 0 * -infinity


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
