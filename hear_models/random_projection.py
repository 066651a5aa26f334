"""random_projection: log-mel frames through one fixed random layer, averaged over time; nothing is learned.

The second floor to compare with, beside logmel_stats: how far random features go. A frame of the front end of MW-MAE,
scaled by two constants, is multiplied by a matrix of normal numbers, shifted and rectified (random features; Rahimi and
Recht 2008). A scene is one unit of all frames, a timestamp unit 5 frames. Dimensions: 512.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_models import zoo
from hear_models.frontends.logmel import LogMel
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.model import HearModel
from hear_models.pipeline.plan import Plan, Purpose, frame_plan

__all__ = ["Config", "Model", "get_scene_embeddings", "get_timestamp_embeddings", "load_model"]

# Mean and standard deviation of the log-mel of the ten bundled recordings (hear_models/_demo): -5.77 and 6.16.
CENTRE, SPREAD = -6.0, 6.0


@dataclass(frozen=True)
class Config:
    """Sizes, and which random numbers."""

    n_mels: int = 80  # mel bands
    width: int = 512  # random features
    frames_per_step: int = 5  # log-mel frames of 10 ms behind one timestamp embedding
    projection_seed: int = 2021  # of the matrix: it belongs to the model, so every user has the same one


class Model(HearModel):
    """The layer behind the HEAR API. `timestamps` and `seed` are accepted as by every family; no weights to seed."""

    family = "random_projection"
    config: Config
    frontend: LogMel
    weight: Tensor
    bias: Tensor

    def __init__(self, config: Config | None = None, *, timestamps: str = "centres", seed: int | None = 0) -> None:
        super().__init__(timestamps)
        self.config = config or Config()
        self.frontend = LogMel(n_mels=self.config.n_mels)
        self.sample_rate = self.frontend.sample_rate
        self.min_samples = self.frontend.min_samples
        self.scene_embedding_size = self.timestamp_embedding_size = self.config.width
        # RandomState: the one generator of which numpy promises that its numbers never change
        random = np.random.RandomState(self.config.projection_seed)
        weight = random.standard_normal((self.config.n_mels, self.config.width)) / np.sqrt(self.config.n_mels)
        bias = random.standard_normal(self.config.width)
        self.register_buffer("weight", torch.from_numpy(weight).float(), persistent=False)
        self.register_buffer("bias", torch.from_numpy(bias).float(), persistent=False)

    def plan(self, n_samples: int, purpose: Purpose) -> Plan:
        """One unit of all frames for a scene, consecutive short ones for timestamps."""
        frames = self.frontend.n_frames(max(n_samples, self.min_samples))
        hop = self.frontend.hop_samples
        return frame_plan(n_samples, purpose, frames, self.config.frames_per_step, hop, self.sample_rate)

    def spectrogram(self, clip: Tensor) -> Tensor:
        """[samples] → scaled log-mel [frames, n_mels]."""
        return (self.frontend(clip[None])[0] - CENTRE) / SPREAD

    def network(self, units: Tensor) -> Tensor:
        """[units, frames, bands] → [units, 1, width]: random features of every frame, then their mean over time."""
        return torch.relu(units @ self.weight + self.bias).mean(dim=1, keepdim=True)


def load_model(model_file_path: str = "", **options: Any) -> HearModel:
    """HEAR 2021: the fixed layer; there is nothing to load."""
    return zoo.load_model(model_file_path, family="random_projection", **options)
