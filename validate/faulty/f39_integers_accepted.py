"""Fault 39: 16-bit integers are taken for samples in [-1, 1]."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("refusals", "warning", "int16")


class Model(Frames):
    def check(self, audio: Tensor) -> None:
        super().check(audio.float())

    def prepare(self, audio: Tensor) -> Tensor:
        return audio.float()


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
