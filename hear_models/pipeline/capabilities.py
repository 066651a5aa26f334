"""What ways of training, and tagging, ask of a model beyond the HEAR contract; a family has what it can do.

Each protocol comes in two parts: the methods by which a class is recognised, and what its instances have.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from hear_models.frontends.logmel import LogMel
from hear_models.layers.contrastive import Contrast
from hear_models.layers.masked import Reconstruction
from hear_models.pipeline.normalise import Standardise


@runtime_checkable
class Reconstructs(Protocol):
    """A class of models that predict what was masked."""

    def reconstruct(self, units: Tensor, noise: Tensor, target_units: Tensor | None = None) -> Reconstruction:
        """The masked objective.

        Args:
            units: [units, frames, bands], normalised crops.
            noise: [units, tokens], uniform; the patches with the smallest noise stay visible.
            target_units: what to predict, [units, frames, bands], if `units` are a degraded view of it; None: `units`.

        Returns:
            loss (scalar), pred and target [units, tokens, pixels], mask [units, tokens] (1 = removed), ids_restore.
        """

    def training_view(self, clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A normalised crop float32 [frames, bands] of a clip's log-mel [frames, bands], for pretraining."""


@runtime_checkable
class MaskedModel(Reconstructs, Protocol):
    """A patch model that can be pretrained on unlabelled sound."""

    frontend: LogMel

    def evaluating(self) -> AbstractContextManager[None]:
        """Evaluation mode for a while."""

    @property
    def n_tokens(self) -> int:
        """Patches of a crop: one number of noise each."""

    @property
    def crop_frames(self) -> int:
        """Frames of a crop."""


@runtime_checkable
class Contrasts(Protocol):
    """A class of models that tell segments of one recording from those of others."""

    def contrast(self, anchors: Tensor, positives: Tensor, hide: Callable[[Tensor], Tensor] | None = None) -> Contrast:
        """COLA's objective.

        Args:
            anchors, positives: [n, samples] each, as the front end takes them: row i of both is of one recording.
            hide: what happens to the features of the positives before the encoder, [n, frames, bands] → the same shape;
                None: nothing.

        Returns:
            loss (scalar) and logits [n, n]; keeps gradients.
        """


@runtime_checkable
class ContrastiveModel(Contrasts, Protocol):
    """A model that can be pretrained on pairs of segments of unlabelled recordings."""

    sample_rate: int

    def evaluating(self) -> AbstractContextManager[None]:
        """Evaluation mode for a while."""

    @property
    def crop_samples(self) -> int:
        """Samples of a segment."""

    def prepare_clip(self, clip: Tensor) -> Tensor:
        """What happens to a recording [samples] before segments are cut."""

    def prepare_window(self, window: Tensor) -> Tensor:
        """What happens to a segment [samples] before the front end."""


@runtime_checkable
class Classifies(Protocol):
    """A class of models that give logits of classes."""

    def classify(self, units: Tensor) -> Tensor:
        """Normalised units [units, frames, bands] → logits [units, classes]; keeps gradients."""

    def logits(self, clip: Tensor, hop_frames: int | None = None) -> tuple[Tensor, Tensor]:
        """One clip [samples] → logits [windows, classes], and the windows' centres [windows] in ms."""


@runtime_checkable
class Tagger(Classifies, Protocol):
    """A model that knows classes, can be trained on labelled clips and says what is heard when."""

    frontend: nn.Module
    head: nn.Linear
    normalise: Standardise | None
    sample_rate: int

    def evaluating(self) -> AbstractContextManager[None]:
        """Evaluation mode for a while."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, in the order of the logits."""

    @property
    def exclusive(self) -> bool:
        """Whether a clip has one class only: chances are then a softmax of the logits, else their sigmoid."""

    @property
    def n_bands(self) -> int:
        """Bands of `spectrogram`."""

    @property
    def hop_ms(self) -> float:
        """Time from one frame of `spectrogram` to the next, in ms."""

    def spectrogram(self, clip: Tensor) -> Tensor:
        """Features [frames, bands] of a clip [samples], not yet normalised."""

    def get_scene_embeddings(self, audio: Tensor) -> Tensor:
        """What the head sees of whole clips [clips, samples]: [clips, dim]."""


@runtime_checkable
class EmbedsVoices(Protocol):
    """A class of models that can learn to tell speakers apart."""

    def voices(self, units: Tensor) -> Tensor:
        """Normalised units [units, frames, bands] → an embedding each [units, dim]; keeps gradients."""

    def training_crop(self, clip: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
        """A normalised crop float32 [frames, bands] of a clip's `spectrogram`; a short one is filled up."""


@runtime_checkable
class VoiceModel(EmbedsVoices, Protocol):
    """A model that can be trained on recordings of speakers."""

    frontend: nn.Module
    sample_rate: int
    scene_embedding_size: int

    @property
    def n_bands(self) -> int:
        """Bands of `spectrogram`."""

    def spectrogram(self, clip: Tensor) -> Tensor:
        """Features [frames, bands] of a clip [samples], not yet normalised."""

    def train(self, mode: bool = True) -> nn.Module:
        """Training or evaluation, as of every network of torch."""


def reconstruct(
    model: Reconstructs, units: Tensor, noise: Tensor, target_units: Tensor | None = None
) -> Reconstruction:
    """The masked objective of a model as a function; see `Reconstructs.reconstruct`."""
    return model.reconstruct(units, noise, target_units)


def contrast(model: Contrasts, anchors: Tensor, positives: Tensor) -> Contrast:
    """COLA's objective of a model as a function; see `Contrasts.contrast`. Nothing is added, masked or normalised."""
    return model.contrast(anchors, positives)


def chances(model: Tagger, logits: Tensor) -> Tensor:
    """Logits [..., classes] → probabilities."""
    return torch.softmax(logits, -1) if model.exclusive else torch.sigmoid(logits)
