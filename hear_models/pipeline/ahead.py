"""Loads things in threads, a little ahead of who uses them, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def load_ahead(
    load: Callable[[Item], Iterable[Result]], items: Iterable[Item], workers: int, ahead: int | None = None
) -> Generator[Result, None, None]:
    """What `load` gives for each item, one after the other, in the order of the items.

    Args:
        load: called in threads; several things for one item spare waking a thread for each.
        items: iterated over in the caller's thread.
        workers: threads.
        ahead: items that are loaded or being loaded at once; None: four a worker.

    Raises what `load` raises, at its item; when the generator is closed, what only waits is dropped.
    """
    waiting: deque[Future[Iterable[Result]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="load")
    try:
        for item in items:
            waiting.append(pool.submit(load, item))
            if len(waiting) >= (ahead or 4 * workers):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
