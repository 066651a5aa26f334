"""logmel_stats: mean and standard deviation over time of the log-mel spectrogram; nothing is learned.

A floor to compare with, not a model of a paper: what a score is worth shows beside what these numbers reach. The front
end is that of MW-MAE, without its normalisation. A scene is one unit of all frames, a timestamp unit 5 frames.
Dimensions: 80 means, then 80 standard deviations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hear_models import zoo
from hear_models.frontends.logmel import LogMel
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.model import HearModel
from hear_models.pipeline.plan import Plan, Purpose, frame_plan

__all__ = ["Config", "Model", "get_scene_embeddings", "get_timestamp_embeddings", "load_model"]


@dataclass(frozen=True)
class Config:
    """Sizes."""

    n_mels: int = 80  # mel bands
    frames_per_step: int = 5  # log-mel frames of 10 ms behind one timestamp embedding


class Model(HearModel):
    """Statistics behind the HEAR API. `timestamps` and `seed` are accepted as by every family; there are no weights."""

    family = "logmel_stats"
    config: Config
    frontend: LogMel

    def __init__(self, config: Config | None = None, *, timestamps: str = "centres", seed: int | None = 0) -> None:
        super().__init__(timestamps)
        self.config = config or Config()
        self.frontend = LogMel(n_mels=self.config.n_mels)
        self.sample_rate = self.frontend.sample_rate
        self.min_samples = self.frontend.min_samples
        self.scene_embedding_size = self.timestamp_embedding_size = 2 * self.config.n_mels

    def plan(self, n_samples: int, purpose: Purpose) -> Plan:
        """One unit of all frames for a scene, consecutive short ones for timestamps."""
        frames = self.frontend.n_frames(max(n_samples, self.min_samples))
        hop = self.frontend.hop_samples
        return frame_plan(n_samples, purpose, frames, self.config.frames_per_step, hop, self.sample_rate)

    def spectrogram(self, clip: Tensor) -> Tensor:
        """[samples] → log-mel [frames, n_mels]."""
        return self.frontend(clip[None])[0]

    def network(self, units: Tensor) -> Tensor:
        """[units, frames, bands] → [units, 1, 2 * bands]: means, then standard deviations (divided by n) over time."""
        std, mean = torch.std_mean(units, dim=1, correction=0)
        return torch.cat([mean, std], dim=1)[:, None]


def load_model(model_file_path: str = "", **options: Any) -> HearModel:
    """HEAR 2021: the statistics; there is nothing to load."""
    return zoo.load_model(model_file_path, family="logmel_stats", **options)
