"""Fault 8: dropout comes back when somebody calls model.train()."""

from torch import Tensor, nn

from validate._base import Frames, hear_functions

EXPECTED = ("eval-mode", "error", "after model.train()")


class Model(Frames):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.1).eval()

    def begin(self, audio: Tensor) -> None:
        self.check(audio)

    def encode(self, frames: Tensor) -> Tensor:
        return self.dropout(super().encode(frames))


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
