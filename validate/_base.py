"""A tiny correct HEAR model: windows of 25 ms every 50 ms, eight features. Faulty modules override one piece of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import pad


class Frames(nn.Module):
    """Log of random projections of windows; step k is centred on k * hop."""

    sample_rate = 16000
    window = 400
    hop = 800
    dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.scene_embedding_size = self.timestamp_embedding_size = self.dim
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(self.window, self.dim, generator=generator) / self.window**0.5)
        self.eval()

    # ---- the pieces, in the order in which audio meets them

    def check(self, audio: Tensor) -> None:
        """Refuse what is no batch of mono float clips."""
        if audio.ndim != 2 or not audio.is_floating_point() or not audio.shape[1]:
            raise ValueError(f"audio is {audio.dtype} {list(audio.shape)}; expected floating point [clips, samples]")
        if not torch.isfinite(audio).all():
            raise ValueError("audio holds NaN or infinity")

    def begin(self, audio: Tensor) -> None:
        """What each of the two functions does first."""
        self.check(audio)
        self.eval()

    def prepare(self, audio: Tensor) -> Tensor:
        """Audio → audio, before framing."""
        return audio

    def frames(self, audio: Tensor) -> Tensor:
        """[clips, samples] → [clips, steps, window]."""
        return pad(audio, (self.window // 2, self.window // 2)).unfold(1, self.window, self.hop)

    def encode(self, frames: Tensor) -> Tensor:
        """[clips, steps, window] → [clips, steps, dim]."""
        return ((frames @ self.weight).abs() + 1e-4).log()

    def pool(self, steps: Tensor) -> Tensor:
        """[clips, steps, dim] → [clips, dim]."""
        return steps.mean(dim=1)

    def times_ms(self, n_samples: int) -> Tensor:
        """Centres of the steps of a clip, float64 [steps]."""
        return torch.arange(n_samples // self.hop + 1, dtype=torch.float64) * (1000.0 * self.hop / self.sample_rate)

    # ---- the two results

    def steps(self, audio: Tensor) -> Tensor:
        """[clips, samples] → [clips, steps, dim]."""
        return self.encode(self.frames(self.prepare(audio))).float()

    def timestamp_embeddings(self, audio: Tensor) -> Any:
        """What get_timestamp_embeddings returns."""
        self.begin(audio)
        with torch.inference_mode():
            times = self.times_ms(audio.shape[1]).float().to(audio.device)
            return self.steps(audio), times.repeat(audio.shape[0], 1)

    def scene_embeddings(self, audio: Tensor) -> Any:
        """What get_scene_embeddings returns."""
        self.begin(audio)
        with torch.inference_mode():
            return self.pool(self.steps(audio)).float()


def load(model: type[Frames], model_file_path: str) -> Frames:
    """A model with its seeded weights, or with those of a safetensors file."""
    loaded = model()
    if model_file_path:
        loaded.load_state_dict(load_file(model_file_path))
    return loaded


def hear_functions(model: type[Frames]) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """load_model, get_timestamp_embeddings and get_scene_embeddings of a HEAR module around `model`."""

    def load_model(model_file_path: str = "") -> Frames:
        return load(model, model_file_path)

    def get_timestamp_embeddings(audio: Tensor, model: Frames) -> Any:
        return model.timestamp_embeddings(audio)

    def get_scene_embeddings(audio: Tensor, model: Frames) -> Any:
        return model.scene_embeddings(audio)

    return load_model, get_timestamp_embeddings, get_scene_embeddings
