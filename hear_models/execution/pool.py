"""What a run asks of the place where its jobs are done: processes of this machine are one (local.py)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

Job = TypeVar("Job")


@dataclass(frozen=True)
class Done(Generic[Job]):
    """A job that ended: `result` of the function, or what went wrong, in `error`."""

    job: Job
    wall_s: float
    result: Any = None
    error: str | None = None
    details: str | None = None  # the traceback of an error that is nobody's sentence


class Pool(Protocol[Job]):
    """Does jobs, `count` at once, and tells of each that ended; a job that fails or dies takes no other one with it.

    A context: leaving it ends everything that was started, at once if it is left by an exception.
    """

    count: int

    @property
    def waiting(self) -> Collection[Job]:
        """Jobs that have not begun."""

    @property
    def running(self) -> list[tuple[Job, float]]:
        """Jobs in flight, and for how many seconds."""

    @property
    def left(self) -> int:
        """How many jobs wait or run."""

    def submit(self, job: Job) -> None:
        """Add a job; it begins as soon as there is room."""

    def poll(self, timeout_s: float) -> list[Done[Job]]:
        """The jobs that ended; waits at most `timeout_s` seconds for the first one."""

    def __enter__(self) -> Pool[Job]: ...

    def __exit__(self, kind: object, *_: object) -> None: ...
