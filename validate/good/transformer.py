"""A toy masked-autoencoder encoder: units of 2 s with attention over the whole unit, reflected tail, clip statistics.

The hardest good module for the burst test: every step of a unit answers a little to an event anywhere in the unit.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad

from validate._base import Frames, hear_functions

FRAME_HOP, FRAMES_PER_STEP, STEPS_PER_UNIT = 160, 4, 50


class Model(Frames):
    hop, dim, window = FRAME_HOP * FRAMES_PER_STEP, 32, 400
    mixing = 1.0  # how much a step takes from the rest of its unit

    def __init__(self) -> None:
        super().__init__()
        del self.weight
        generator = torch.Generator().manual_seed(3)
        self.bands = nn.Parameter(torch.rand(201, 16, generator=generator) / 201)
        self.embed = nn.Parameter(torch.randn(16 * FRAMES_PER_STEP, 32, generator=generator) / 8)
        self.place = nn.Parameter(torch.randn(STEPS_PER_UNIT, 32, generator=generator) / 2)
        self.qkv = nn.ParameterList(torch.randn(32, 96, generator=generator) / 32**0.5 for _ in range(2))

    def steps(self, audio: Tensor) -> Tensor:
        return torch.stack([self.clip_steps(clip) for clip in audio])

    def clip_steps(self, clip: Tensor) -> Tensor:
        """[samples] → [steps, dim], with statistics of the whole clip."""
        frames = pad(clip, (200, 200)).unfold(0, 400, FRAME_HOP)
        power = torch.fft.rfft(frames * torch.hann_window(400, device=clip.device)).abs().square()
        x = (power @ self.bands + 1e-7).log()
        x = (x - x.mean()) / (x.std() if x.numel() > 1 and float(x.std()) > 1e-5 else 1.0)
        n_frames, unit = x.shape[0], STEPS_PER_UNIT * FRAMES_PER_STEP
        index = torch.arange(-(-n_frames // unit) * unit, device=clip.device) % max(1, 2 * (n_frames - 1))
        x = x[torch.where(index < n_frames, index, 2 * (n_frames - 1) - index)]  # reflected tail
        encoded = torch.cat([self.unit_steps(piece) for piece in x.split(unit)])
        return encoded[: self.n_steps(clip.shape[0])]

    def unit_steps(self, frames: Tensor) -> Tensor:
        """One unit [200, bands] → [50, dim]; every step attends to all 50."""
        x = frames.reshape(STEPS_PER_UNIT, -1) @ self.embed + self.place
        for weight in self.qkv:
            q, k, v = (layer_norm(x, (32,)) @ weight).chunk(3, dim=1)
            x = x + self.mixing * (q @ k.T / 32**0.5).softmax(dim=1) @ v
        return layer_norm(x, (32,))

    def n_steps(self, n_samples: int) -> int:
        n_frames = n_samples // FRAME_HOP + 1
        centres = torch.arange(-(-n_frames // FRAMES_PER_STEP)) * self.hop + 1.5 * FRAME_HOP
        return max(1, int((centres <= n_samples).sum()))

    def times_ms(self, n_samples: int) -> Tensor:
        steps = torch.arange(self.n_steps(n_samples), dtype=torch.float64)
        return (steps * self.hop + 1.5 * FRAME_HOP).clamp(max=n_samples) * (1000.0 / self.sample_rate)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
