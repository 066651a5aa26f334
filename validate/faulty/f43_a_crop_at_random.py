"""Fault 43: scenes of long clips are made of half of them, at random."""

from typing import Any

import torch
from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("whole-clip", "error", "embedded twice gives two scenes")


class Model(Frames):
    def scene_embeddings(self, audio: Tensor) -> Any:
        if audio.shape[1] < 10 * self.sample_rate:
            return super().scene_embeddings(audio)
        generator = torch.Generator()
        generator.seed()
        order = torch.rand(audio.shape[1] // self.hop, generator=generator).argsort()
        frames = audio[:, : self.hop * len(order)].reshape(len(audio), -1, self.hop)
        return super().scene_embeddings(frames[:, order[::2]].flatten(1))


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
