"""Fault 33: short clips have no steps, and a scene embedding of NaN."""

from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("short-clips", "error", "shape [2, 0, 8]")


class Model(Frames):
    def frames(self, audio: Tensor) -> Tensor:
        return super().frames(audio)[:, : self.n_steps(audio.shape[1])]

    def times_ms(self, n_samples: int) -> Tensor:
        return super().times_ms(n_samples)[: self.n_steps(n_samples)]

    def n_steps(self, n_samples: int) -> int:
        return 0 if n_samples < self.window else n_samples // self.hop + 1


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
