"""Fault 9: the recording is read 0.2 % too fast, as by a resampler with a rounded ratio; the times look perfect."""

import torch
from torch import Tensor

from validate._base import Frames, hear_functions

EXPECTED = ("drift", "error", "a burst at")


class Model(Frames):
    def prepare(self, audio: Tensor) -> Tensor:
        """Reads on at 1.002 samples a sample; the last one is repeated."""
        n = audio.shape[1]
        return audio[:, (torch.arange(n, device=audio.device, dtype=torch.float64) * 1.002).long().clamp(max=n - 1)]


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
