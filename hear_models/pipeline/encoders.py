"""Many clips through a model: in batches, one at a time on all cores, or of small networks several at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from hear_models.pipeline.batching import inference_workers
from hear_models.pipeline.model import HearModel
from hear_models.pipeline.plan import Purpose

Tag = TypeVar("Tag")
Embed = Callable[[Sequence[Tensor], Purpose], list[Any]]  # as `HearModel.embed_clips`


class Encoders:
    """Calls `embed` on batches; the bits do not depend on how many workers there are.

    Args:
        embed: `model.embed_clips`, or what does the same for another model.
        workers: calls at once; with one there are no threads.
    """

    def __init__(self, embed: Embed, workers: int = 1) -> None:
        self.embed, self.workers = embed, workers
        self._calls: list[Future[Any]] = []
        self._pool: ThreadPoolExecutor | None = None
        if self.workers > 1:
            threads = torch.get_num_threads()
            self._pool = ThreadPoolExecutor(
                self.workers, thread_name_prefix="embed", initializer=torch.set_num_threads, initargs=(1,)
            )
            # start all of them now: each sets its own number, and torch's number for everybody else is put back
            for ready in [self._pool.submit(torch.get_num_threads) for _ in range(self.workers)]:
                ready.result()
            torch.set_num_threads(threads)

    @classmethod
    def of(cls, model: HearModel, device: torch.device, clips: int) -> Encoders:
        """For a model on its device and at least `clips` clips: fewer than cores are better embedded one by one."""
        parameters = sum(parameter.numel() for parameter in model.parameters())
        return cls(model.embed_clips, inference_workers(device, parameters, clips))

    def submit(self, clips: Sequence[Tensor], purpose: Purpose) -> Future[list[Any]]:
        """The embeddings of a batch as `embed_clips` returns or raises them; with one worker they are there already."""
        if self._pool is not None:
            future = self._pool.submit(self.embed, clips, purpose)
            self._calls = [call for call in self._calls if not call.done()] + [future]
            return future
        future = Future()
        try:
            future.set_result(self.embed(clips, purpose))
        except Exception as error:
            future.set_exception(error)
        return future

    @property
    def idle_share(self) -> float:
        """Share of the workers that have nothing to do at this moment, 0 to 1."""
        return max(0.0, 1.0 - sum(not call.done() for call in self._calls) / self.workers)

    def close(self) -> None:
        """End the threads; what is being embedded is completed, what only waits is dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


class Batch(Generic[Tag]):
    """Clips that went to the model together: the caller's `tags`, and the `result` once it is there."""

    def __init__(self, stream: ClipStream[Tag], clips: Sequence[tuple[Tag, np.ndarray | Tensor]]) -> None:
        self.tags = [tag for tag, _ in clips]
        self._stream, self._clips = stream, clips
        tensors = [clip if isinstance(clip, Tensor) else torch.from_numpy(clip) for _, clip in clips]
        self._call = stream.encoders.submit([tensor.to(stream.device) for tensor in tensors], stream.purpose)

    @property
    def done(self) -> bool:
        """Whether `result` returns at once."""
        return self._call.done()

    def result(self) -> list[Any]:
        """What the model gave for each clip, or what it raised."""
        return self._call.result()

    def one_by_one(self) -> Iterator[Batch[Tag]]:
        """The clips again, each by itself: finds which of them failed, and makes do with less memory."""
        for tag, clip in self._clips:
            if self._stream.keep(tag):
                yield Batch(self._stream, [(tag, clip)])


class ClipStream(Generic[Tag]):
    """Clips in, batches of embeddings out, in the order of the clips; as many batches in work as there are encoders.

    A batch is closed when it holds `batch_samples` of audio, or `batch_clips` clips. With neither all clips are one:
    so a model whose clips depend on their neighbours gets the batches that its caller means.

    Args:
        encoders: run the model; closed by the caller.
        device: where the clips are moved when their batch is closed.
        purpose: "scene" or "timestamps".
        keep: asked before a clip goes to the model; False leaves it out.
    """

    def __init__(
        self,
        encoders: Encoders,
        device: torch.device,
        purpose: Purpose,
        *,
        batch_samples: float | None = None,
        batch_clips: int | None = None,
        keep: Callable[[Tag], bool] = lambda tag: True,
    ) -> None:
        self.encoders, self.device, self.purpose, self.keep = encoders, device, purpose, keep
        self.batch_samples, self.batch_clips = batch_samples, batch_clips
        self._open: list[tuple[Tag, np.ndarray | Tensor]] = []
        self._open_samples = 0
        self._in_work: deque[Batch[Tag]] = deque()

    def add(self, tag: Tag, clip: np.ndarray | Tensor) -> Iterator[Batch[Tag]]:
        """One more clip, float32 [samples]; iterate over what is finished."""
        self._open.append((tag, clip))
        self._open_samples += len(clip)
        full = self.batch_samples is not None and self._open_samples >= self.batch_samples
        if full or len(self._open) == self.batch_clips:
            self._submit()
            while self._in_work and (len(self._in_work) > self.encoders.workers or self._in_work[0].done):
                yield self._in_work.popleft()

    def finish(self) -> Iterator[Batch[Tag]]:
        """No more clips: iterate over all that is still to come."""
        self._submit()
        while self._in_work:
            yield self._in_work.popleft()

    def _submit(self) -> None:
        clips = [(tag, clip) for tag, clip in self._open if self.keep(tag)]
        self._open, self._open_samples = [], 0
        if clips:
            self._in_work.append(Batch(self, clips))


def device_of(model: HearModel) -> torch.device:
    """Where a model is; one without tensors is on the CPU."""
    return next(model.parameters(), next(model.buffers(), torch.zeros(0))).device
