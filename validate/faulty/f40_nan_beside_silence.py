"""Fault 40: one silent clip in a batch becomes NaN."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("silent-neighbour", "error", "the silent clip")


class Model(Frames):
    def prepare(self, audio: Tensor) -> Tensor:
        peak = audio.abs().amax(dim=1, keepdim=True)
        return audio / peak if peak.any() else audio  # the batch is tested, not the clip


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
