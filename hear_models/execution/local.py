"""Processes of this machine that do one job after the other: a job that fails or dies takes no other one with it.

Nothing heavy is imported here: a worker limits its threads before numpy and torch read the environment.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic

from hear_models.execution.pool import Done, Job

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
GRACE_S = 5.0  # that a worker gets to end by itself when a run is stopped


@dataclass
class _Worker(Generic[Job]):
    process: SpawnProcess
    connection: Connection
    job: Job | None = None
    began: float = 0.0


class Workers(Generic[Job]):
    """A `Pool` of `count` processes that call `function(job)` for what is submitted; nobody waits but `poll`.

    `function` must be importable, jobs and results must be picklable. Processes start when there is work for them.
    Leave the context to end them: at once if it is left by an exception, and then a job in flight is lost.
    """

    def __init__(self, function: Callable[[Job], Any], count: int) -> None:
        self.function, self.count = function, max(1, count)
        self.waiting: deque[Job] = deque()
        self._workers: list[_Worker[Job]] = []

    def __enter__(self) -> Workers[Job]:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for worker in self._workers:
            if kind is not None:
                worker.process.terminate()
            worker.connection.close()  # an idle worker ends when nobody is at the other end
        until = time.monotonic() + GRACE_S
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []

    def submit(self, job: Job) -> None:
        """Add a job; it starts at once if a process is free."""
        self.waiting.append(job)
        self._start_jobs()

    @property
    def running(self) -> list[tuple[Job, float]]:
        """Jobs in flight, and for how many seconds."""
        now = time.monotonic()
        return [(worker.job, now - worker.began) for worker in self._workers if worker.job is not None]

    @property
    def left(self) -> int:
        """Jobs that wait or run."""
        return len(self.waiting) + len(self.running)

    def poll(self, timeout_s: float) -> list[Done[Job]]:
        """The jobs that ended; waits at most `timeout_s` seconds for the first one."""
        busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
        done = [self._collect(busy[connection]) for connection in wait(list(busy), timeout_s)]  # type: ignore[index]
        self._start_jobs()
        return done

    def _collect(self, worker: _Worker[Job]) -> Done[Job]:
        job, wall_s = worker.job, time.monotonic() - worker.began
        assert job is not None
        worker.job = None
        try:
            answer = worker.connection.recv()
        except (EOFError, OSError):  # it died with the job
            worker.process.join(GRACE_S)
            self._workers.remove(worker)
            return Done(job, wall_s, error=_death(worker.process.exitcode))
        return Done(job, wall_s, **answer)

    def _start_jobs(self) -> None:
        while self.waiting:
            worker = next((worker for worker in self._workers if worker.job is None), None)
            if worker is None:
                if len(self._workers) >= self.count:
                    return
                worker = self._start_worker()
            worker.job, worker.began = self.waiting.popleft(), time.monotonic()
            with contextlib.suppress(OSError):  # it died while idle: poll sees the closed connection
                worker.connection.send(worker.job)

    def _start_worker(self) -> _Worker[Job]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.function.__module__, self.function.__name__))
        process.daemon = True
        with _environment(dict.fromkeys(THREAD_VARIABLES, "1")):
            process.start()
        theirs.close()
        worker: _Worker[Job] = _Worker(process, ours)
        self._workers.append(worker)
        return worker


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else str(-exit_code)
        hint = " That is what a system does when memory runs out; try fewer --jobs." if name == "SIGKILL" else ""
        return f"its process was ended by {name}.{hint}"
    return f"its process ended with exit code {exit_code}."


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Any:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _serve(connection: Connection, module: str, name: str) -> None:
    """A worker's life: receive a job, do it, answer; end when the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the first process decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that a judge's own process is ended too
    from importlib import import_module

    function = getattr(import_module(module), name)
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        answer = _answer(function, job)
        try:
            connection.send(answer)
        except OSError:
            return


def _answer(function: Callable[[Any], Any], job: Any) -> dict[str, Any]:
    from hear_models.errors import HearModelsError

    try:
        return {"result": function(job)}
    except HearModelsError as error:
        return {"error": str(error)}
    except Exception as error:
        text = str(error).strip().splitlines()
        first = f": {text[0]}" if text else ""
        return {"error": f"{type(error).__name__}{first}.", "details": traceback.format_exc()}
