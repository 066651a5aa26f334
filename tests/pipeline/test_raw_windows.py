"""What a family of raw audio finds in the flow: windows past a clip's ends, a level of their own, learned filters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hear_models.layers.init import materialise
from hear_models.pipeline import batching
from hear_models.pipeline.model import HearModel
from hear_models.pipeline.plan import Plan, Purpose, Unit, centre_times

WINDOW, HOP = 1600, 800


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


class LearnedBands(nn.Module):
    """Eight filters of 160 samples, as far apart."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Parameter(torch.randn(8, 1, 160, generator=torch.Generator().manual_seed(0)))

    def forward(self, windows: Tensor) -> Tensor:
        assert windows.dtype == self.filters.dtype == torch.float32
        return torch.conv1d(windows[:, None], self.filters, stride=160).square().transpose(1, 2)


class RawModel(HearModel):
    """A step every 50 ms, of the 100 ms around it: zeros outside of the clip, each window by its own L2 norm."""

    family = "raw"
    frontend: LearnedBands

    def __init__(self) -> None:
        super().__init__()
        self.config = Config()
        self.frontend = LearnedBands()
        self.out = nn.Linear(8, 8)
        self.sample_rate, self.min_samples = 16_000, 1
        self.scene_embedding_size = self.timestamp_embedding_size = 8
        self.passes: list[int] = []

    def plan(self, n_samples: int, purpose: Purpose) -> Plan:
        steps = 1 + (n_samples - 1) // HOP
        times = centre_times(HOP, 0, steps, n_samples, self.sample_rate)
        units = tuple(Unit(step * HOP - WINDOW // 2, WINDOW, 1) for step in range(steps))
        return Plan(n_samples, units, steps, times, fill="zeros", domain="samples")

    def prepare_window(self, window: Tensor) -> Tensor:
        return window / window.norm().clamp_min(1e-9)

    def spectrogram(self, clip: Tensor) -> Tensor:
        return self.frontend(clip[None])[0]

    def network(self, units: Tensor) -> Tensor:
        self.passes.append(len(units))
        return self.out(units.to(self.compute_dtype)).mean(1, keepdim=True)


def sound(n: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(n).astype(np.float32) * 0.1)


def test_windows_reach_past_the_ends_and_have_a_level_of_their_own():
    model, clip = RawModel(), sound(2000)
    steps, times = model.embed_clips([clip], "timestamps")[0]
    padded = torch.cat([torch.zeros(WINDOW // 2), clip, torch.zeros(WINDOW)])
    for step in range(3):
        window = padded[step * HOP :][:WINDOW]
        features = model.frontend((window / window.norm())[None])
        torch.testing.assert_close(steps[step], model.out(features).mean(1)[0].detach())
    assert times.tolist() == [0.0, 50.0, 100.0]
    louder, _ = model.embed_clips([8 * clip], "timestamps")[0]
    torch.testing.assert_close(louder, steps, rtol=1e-4, atol=1e-6)


def test_a_clip_does_not_depend_on_its_neighbours_and_one_sample_is_enough():
    model = RawModel()
    clips = [sound(n, n) for n in (1, 700, 16_000, 801)]
    together = model.embed_clips(clips)
    for clip, found in zip(clips, together, strict=True):
        torch.testing.assert_close(model.embed_clips([clip])[0], found, rtol=1e-4, atol=1e-6)
    assert all(torch.isfinite(found).all() for found in model.embed_clips([torch.zeros(5000)]))


def test_windows_of_raw_audio_share_a_pass(monkeypatch):
    """A window of 100 ms costs what ten frames cost, not 1,600 positions."""
    model = RawModel()
    model.embed_clips([sound(160_000)])
    assert max(model.passes) == batching.CPU_POSITIONS // 10 and sum(model.passes) == 200


def test_a_learned_front_end_stays_in_float32():
    model = RawModel()
    clip = sound(4000)
    exact = model.embed_clips([clip])[0]
    model.use_dtype(torch.bfloat16)
    assert model.frontend.filters.dtype == torch.float32 and model.out.weight.dtype == torch.bfloat16
    found = model.embed_clips([clip])[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.01)


def test_a_whole_clip_can_be_prepared_before_it_is_cut():
    model, clip = RawModel(), sound(3000)
    model.prepare_window = lambda window: window
    model.prepare_clip = lambda clip: clip / clip.abs().max()
    quiet, loud = model.embed_clips([clip]), model.embed_clips([5 * clip])
    torch.testing.assert_close(quiet[0], loud[0], rtol=1e-4, atol=1e-6)


class Buffers(nn.Module):
    def __init__(self, persistent: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(3))
        self.register_buffer("count", torch.ones(2), persistent=persistent)


def test_nothing_stays_on_the_meta_device():
    with torch.device("meta"):
        module, lost = Buffers(True), Buffers(False)
    materialise(module)
    assert module.weight.tolist() == [0, 0, 0] and module.count.tolist() == [0, 0]
    with pytest.raises(RuntimeError, match=r"\.count was built on the meta device"):
        materialise(lost)
