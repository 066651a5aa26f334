"""Batches through a model in several threads, each computing alone: on a CPU that beats sharing every operation.

A small network's operations last some tens of microseconds, and splitting each over the cores costs as much again. A
model of ours has no state while it embeds, so whole batches can run side by side; torch works outside Python's lock.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import TypeVar

import torch

MOST_THREADS = 8  # more wait for Python's lock

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Generator[tuple[Item, Callable[[], Result]], None, None]:
    """Each item with a call that gives (or raises) what `function` gave for it, in order, a few items ahead.

    As many threads as torch may use are divided among `threads` of ours. They are daemons: Ctrl-C does not wait for
    them, and nobody misses what they were at. One thread means none: the calling one does the work when asked.
    """
    in_all = torch.get_num_threads()
    threads = min(threads, in_all, MOST_THREADS)
    if threads <= 1:
        for item in items:
            yield item, lambda item=item: function(item)  # type: ignore[misc]
        return
    jobs: queue.Queue[tuple[Item, Future[Result]] | None] = queue.Queue()

    def work() -> None:
        torch.set_num_threads(in_all // threads)  # of this thread, and of threads that begin later: see below
        while (job := jobs.get()) is not None:
            item, future = job
            try:
                future.set_result(function(item))
            except BaseException as error:
                future.set_exception(error)

    workers = [threading.Thread(target=work, daemon=True, name=f"model-{k}") for k in range(threads)]
    for worker in workers:
        worker.start()
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, Future()))
            jobs.put(waiting[-1])
            if len(waiting) > threads:
                done, future = waiting.popleft()
                yield done, future.result
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result
    finally:
        while not jobs.empty():
            jobs.get()
        for _ in workers:
            jobs.put(None)
        torch.set_num_threads(in_all)
