"""The two embedding functions of the HEAR 2021 API: every family's module has them under these names."""

from __future__ import annotations

from torch import Tensor

from hear_models.pipeline.model import HearModel


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """Audio [clips, samples] at `model.sample_rate` → float32 [clips, scene_embedding_size]."""
    return model.get_scene_embeddings(audio)


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Audio [clips, samples] → float32 [clips, steps, timestamp_embedding_size] and centres [clips, steps] in ms."""
    return model.get_timestamp_embeddings(audio)
