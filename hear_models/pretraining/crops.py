"""Batches of normalised crops, each a function of (seed, step) alone, so that a resumed run sees what it would have seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import Queue
from threading import Event, Thread

import numpy as np

from hear_models.pretraining.features import Source
from hear_models.pretraining.recipe import Data

GAP_FLOOR = -15.9  # log-mel of digital silence; a gap lies between it and the quiet part of its neighbours


class Crops:
    """Draws crops from a mixture of sources.

    Args:
        sources: (source, share) pairs; shares are relative.
        data: gaps and shares of the recipe.
        frames: length of a crop.
        view: the family's `training_view(clip, rng)`: a clip's log-mel [frames, bands] → a normalised crop.
        seed: of the run.
    """

    def __init__(
        self,
        sources: list[tuple[Source, float]],
        data: Data,
        frames: int,
        view: Callable[[np.ndarray, np.random.Generator], np.ndarray],
        seed: int,
    ) -> None:
        self.sources = [source for source, _ in sources]
        shares = np.array([share for _, share in sources], dtype=np.float64)
        self.shares = shares / shares.sum()
        # a crop is drawn from every second of sound alike, so long recordings are drawn more often
        self.odds = [np.cumsum(s.frames / s.frames.sum()) for s in self.sources]
        self.data, self.frames, self.view, self.seed = data, frames, view, seed

    def clip(self, rng: np.random.Generator) -> np.ndarray:
        """One clip's unnormalised log-mel, float32 [frames, bands]; at least a crop long, or one short recording alone."""
        which = rng.choice(len(self.sources), p=self.shares)
        source, odds = self.sources[which], self.odds[which]

        def draw() -> np.ndarray:
            return source[min(int(np.searchsorted(odds, rng.random(), side="right")), len(source) - 1)]

        recording = draw()
        if len(recording) >= self.frames or rng.random() < self.data.alone:
            return recording
        pieces, length = [], 0
        while length < self.frames or not pieces:
            gap = self._gap(recording, rng)
            pieces += [gap, recording]
            length += len(gap) + len(recording)
            recording = draw()
        return np.concatenate(pieces)

    def _gap(self, neighbour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Random-length near-silence before `neighbour`: each band between digital silence and its quietest frames."""
        frames = round(rng.uniform(*self.data.gap_ms) / 10)
        quiet = np.quantile(neighbour, 0.05, axis=0)
        level = GAP_FLOOR + rng.random() * (quiet - GAP_FLOOR)
        # the power of a band of noise is about exponentially distributed, so its logarithm scatters by about 0.5 after smoothing
        return np.maximum(level + 0.5 * rng.standard_normal((frames, len(level))), GAP_FLOOR).astype(np.float32)

    def batch(self, step: int, size: int) -> np.ndarray:
        """The crops of one step, float32 [size, frames, bands]."""
        rng = np.random.Generator(np.random.PCG64([self.seed, step]))
        return np.stack([self.view(self.clip(rng), rng) for _ in range(size)])

    def stream(self, first_step: int, last_step: int, size: int, ahead: int = 4) -> Iterator[np.ndarray]:
        """Batches of the steps [first_step, last_step), made by a thread a few steps ahead."""
        queue: Queue[np.ndarray | BaseException] = Queue(ahead)
        stopped = Event()

        def work() -> None:
            try:
                for step in range(first_step, last_step):
                    queue.put(self.batch(step, size))
                    if stopped.is_set():
                        return
            except BaseException as error:  # handed to the consumer, where it is raised
                queue.put(error)

        worker = Thread(target=work, daemon=True)
        worker.start()
        try:
            for _ in range(first_step, last_step):
                item = queue.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stopped.set()
            while worker.is_alive():
                while not queue.empty():
                    queue.get_nowait()
                worker.join(0.05)
