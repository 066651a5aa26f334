"""Runs a model over batches of clips: one at a time on all cores, or small networks several at once on a core each."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from hear_models.pipeline.batching import inference_workers
from hear_models.pipeline.model import HearModel
from hear_models.pipeline.plan import Purpose


class Encoders:
    """Calls `model.embed_clips` on batches; the bits do not depend on how many workers there are.

    Args:
        model: on its device.
        device: the model's.
        clips: how many there are at least; fewer clips than cores are better embedded one after the other.
    """

    def __init__(self, model: HearModel, device: torch.device, clips: int) -> None:
        self.model = model
        parameters = sum(parameter.numel() for parameter in model.parameters())
        self.workers = inference_workers(device, parameters, clips)
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

    def submit(self, clips: Sequence[Tensor], purpose: Purpose) -> Future[list[Any]]:
        """The embeddings of a batch as `embed_clips` returns or raises them; with one worker they are there already."""
        if self._pool is not None:
            future = self._pool.submit(self.model.embed_clips, clips, purpose)
            self._calls = [call for call in self._calls if not call.done()] + [future]
            return future
        future = Future()
        try:
            future.set_result(self.model.embed_clips(clips, purpose))
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
