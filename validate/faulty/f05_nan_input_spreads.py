"""Fault 5: NaN in one clip reaches its neighbours."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("nan-input", "error", "neighbour")


class Model(Frames):
    def check(self, audio: Tensor) -> None:
        super().check(audio.nan_to_num(posinf=0))

    def prepare(self, audio: Tensor) -> Tensor:
        return audio + 0 * audio.sum()


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
