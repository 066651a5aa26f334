"""Batches made a few steps ahead by a thread; each is a function of its step alone."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Queue
from threading import Event, Thread
from typing import Generic, TypeVar

import numpy as np

Batch = TypeVar("Batch")


class Batches(Generic[Batch]):
    """What a training loop draws from. A subclass supplies `batch`."""

    def batch(self, step: int, size: int) -> Batch:
        """The examples of one step, the same whenever it is asked for."""
        raise NotImplementedError

    def stream(self, first_step: int, last_step: int, size: int, ahead: int = 4) -> Iterator[Batch]:
        """Batches of the steps [first_step, last_step), made by a thread a few steps ahead."""
        queue: Queue[Batch | BaseException] = Queue(ahead)
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


def shuffled_rounds(n: int, first: int, size: int, seed: int) -> Iterator[int]:
    """The draws [first, first + size) of endless rounds through n examples, each round in a new order."""
    order: tuple[int, np.ndarray] | None = None
    for draw in range(first, first + size):
        if order is None or order[0] != draw // n:
            order = draw // n, np.random.Generator(np.random.PCG64([seed, draw // n, 2])).permutation(n)
        yield int(order[1][draw % n])
