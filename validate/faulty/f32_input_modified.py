"""Fault 32: the input is scaled in place."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("input-untouched", "error", "changes the audio")


class Model(Frames):
    def prepare(self, audio: Tensor) -> Tensor:
        return audio.div_(audio.abs().amax(dim=1, keepdim=True).clamp(min=1))


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
