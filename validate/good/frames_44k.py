"""A hop of 25 ms at 44.1 kHz: 1102.5 samples, so windows start at rounded samples and times stay exact."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from validate._base import Frames, hear_functions


class Model(Frames):
    sample_rate, window, hop_samples = 44100, 1102, 1102.5

    def frames(self, audio: Tensor) -> Tensor:
        padded = pad(audio, (self.window // 2, self.window // 2 + 1))
        starts = torch.arange(int(audio.shape[1] / self.hop_samples) + 1, device=audio.device, dtype=torch.float64)
        starts = (starts * self.hop_samples).round().long()
        return padded[:, starts[:, None] + torch.arange(self.window, device=audio.device)]

    def times_ms(self, n_samples: int) -> Tensor:
        return torch.arange(int(n_samples / self.hop_samples) + 1, dtype=torch.float64) * 25.0


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
