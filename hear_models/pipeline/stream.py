"""Steps of a sound that is still going on, for patch encoders in which nothing looks ahead."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hear_models.errors import InputError, UsageError
from hear_models.frontends.running import RunningLogMel
from hear_models.pipeline.encoders import device_of
from hear_models.pipeline.model import check_clip
from hear_models.pipeline.normalise import Standardise, Statistics
from hear_models.pipeline.patch_model import PatchModel

Steps = tuple[Tensor, Tensor]


class CausalBlock(Protocol):
    """A block whose output at a token depends on the tokens before it alone."""

    def memory(self) -> Any:
        """What a block knows at the beginning of a unit: nothing."""

    def __call__(self, tokens: Tensor, memory: Any) -> Tensor:
        """Tokens [1, tokens, width] behind those that `memory` knows → the same shape; `memory` then knows them too."""


class Stream:
    """Gives the steps of `model.get_timestamp_embeddings` while the sound comes in; made by `model.stream(...)`.

    Every unit of the model (2 s) begins anew, as it does offline: the blocks forget, the class token stands in front,
    positions count from the unit's first step. So a step knows its unit up to itself, and a stream may go on for ever.
    Nothing is allowed to look ahead but the front end, by half a window: a step is final 12.5 ms behind its last frame.

    Args:
        model: its blocks are `CausalBlock`s, its steps in the order of time.
        normalise: of scope "fixed": other statistics are known at the end only.
    """

    def __init__(self, model: PatchModel, normalise: Standardise) -> None:
        self.model, self.normalise = model, normalise
        self._blocks: list[Any] = list(model.blocks)
        self._frontend = RunningLogMel(model.frontend)
        self._frames = torch.empty(0, model.frontend.n_mels, device=device_of(model))  # of a step not yet complete
        self._samples = self._steps = 0  # given, computed
        self._memories: list[Any] = []  # of the blocks, in the unit at hand
        self._finished = False

    def push(self, chunk: Tensor | np.ndarray) -> Steps:
        """More samples of the sound, at the model's sample rate.

        Args:
            chunk: [samples], floating point, range [-1, 1], mono; any number, also none.

        Returns:
            the steps that became final, float32 [steps, timestamp_embedding_size], and their centres [steps] in ms from
            the beginning of the sound; often there are none.

        Raises:
            InputError: not 1-D, not floating point, NaN or infinity; the stream is as it was before.
            UsageError: the stream is finished.
        """
        if self._finished:
            raise UsageError("the stream is finished. Begin another with model.stream(...).")
        samples = torch.as_tensor(chunk)
        if samples.shape != (0,):
            check_clip(samples, 0)
        self._samples += len(samples)
        with self._alone():
            steps = self._through(self.normalise(self._frontend.push(samples.to(self._frames))))
        return self._timed(steps)

    def finish(self) -> Steps:
        """The sound has ended: the last steps as `push` gives them, what is missing in them filled as it is offline.

        Raises InputError if there was no sample.
        """
        if self._finished:
            raise UsageError("the stream is finished already.")
        if not self._samples:
            raise InputError("the stream got no sample. A sound needs at least one.")
        self._finished = True
        with self._alone():
            frames = self.normalise(self._frontend.finish())
            missing = -(len(self._frames) + len(frames)) % self.model.grid.patch_frames
            steps = self._through(torch.cat([frames, frames.new_zeros(missing, self.model.frontend.n_mels)]))
        return self._timed(steps)

    # ------------------------------------------------------------------ inside

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """As `embed_clips` computes: the caller's autocast and training mode do not matter."""
        with (
            self.model.evaluating(),
            torch.inference_mode(),
            torch.autocast(self._frames.device.type, enabled=False),
        ):
            yield

    def _through(self, frames: Tensor) -> Tensor:
        """Normalised frames [frames, bands] behind those that wait → the steps [steps, dim] that are complete now."""
        grid = self.model.grid
        frames = torch.cat([self._frames, frames])
        whole = len(frames) // grid.patch_frames * grid.patch_frames
        self._frames = frames[whole:]
        steps = [frames.new_empty(0, self.model.timestamp_embedding_size)]
        columns = frames[:whole].unflatten(0, (-1, grid.patch_frames))  # of no unit yet
        while len(columns):
            first = self._steps % grid.columns  # in its unit
            piece, columns = columns[: grid.columns - first], columns[grid.columns - first :]
            steps.append(self._within_unit(piece.flatten(0, 1), first))
            self._steps += len(piece)
        return torch.cat(steps)

    def _within_unit(self, frames: Tensor, first: int) -> Tensor:
        """Frames of whole steps, the first of them at column `first` of the unit → steps [steps, dim]."""
        model, rows = self.model, self.model.grid.rows
        patches = model.grid.cut(frames[None].to(model.compute_dtype))
        position = model.pos_embed[0, model.class_rows + first * rows :][: patches.shape[1]]
        tokens = model.patch_embed(patches) + position
        before = 0
        if not first:
            tokens, before = model.with_class_token(tokens), model.class_rows
            self._memories = [block.memory() for block in self._blocks]
        for block, memory in zip(self._blocks, self._memories, strict=True):
            tokens = block(tokens, memory)
        return model.grid.rows_of(model.norm(tokens)[:, before:]).flatten(2)[0].float()

    def _timed(self, steps: Tensor) -> Steps:
        """The steps just computed whose centre lies inside the sound, with their centres in ms."""
        hop, patch = self.model.frontend.hop_samples, self.model.grid.patch_frames
        begun = self._steps - len(steps)
        centres = hop * (patch * np.arange(begun, self._steps) + (patch - 1) / 2)
        if not begun:  # the only step of a tiny sound is put at its end at most
            centres[:1] = np.minimum(centres[:1], self._samples)
        times = torch.from_numpy(centres[centres <= self._samples] * (1000.0 / self.model.sample_rate))
        return steps[: len(times)].clone(), times.to(steps.device, torch.float32)


def open_stream(model: PatchModel, normalize: Any, layout: str) -> Stream:
    """A stream of a causal model; `normalize` as `HearModel.stream` takes it, `layout` that of the model's steps.

    Raises UsageError where a step would not be known before the end of its unit, or of the sound.
    """
    if layout != "corrected":
        raise UsageError(
            f"a step of layout={layout!r} holds tokens from all over its unit. Load the model with layout='corrected'."
        )
    if model.timestamps == "official":
        raise UsageError("official times depend on the length of the sound. Load the model with timestamps='centres'.")
    known = model.normalise if normalize in (None, "fixed") else normalize
    if isinstance(known, Statistics):
        known = (float(known.mean), float(known.std(1)))
    if isinstance(known, (tuple, list)):
        known = Standardise.fixed(known)
    if not isinstance(known, Standardise) or known.scope != "fixed":
        raise UsageError(
            "mean and deviation of a clip are known at its end only. Give those of similar sounds: "
            "s = model.statistics(clips); model.stream(normalize=(float(s.mean), float(s.std(1))))."
        )
    return Stream(model, known)
