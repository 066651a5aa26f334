"""Processes of this machine that do one job after the other: a job that fails or dies takes no other one with it.

Nothing heavy is imported here: a worker limits its threads before numpy and torch read the environment.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import site
import subprocess
import sys
import sysconfig
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic

from hear_models.execution.pool import Done, Job

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
GRACE_S = 5.0  # that a worker gets to end by itself when a run is stopped


@dataclass
class _Worker(Generic[Job]):
    process: subprocess.Popen[bytes]
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
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, until - time.monotonic()))
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()
            assert worker.process.stdin is not None
            worker.process.stdin.close()
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
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(GRACE_S)
            self._workers.remove(worker)
            return Done(job, wall_s, error=_death(worker.process.poll()))
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
        ours, theirs = multiprocessing.Pipe()
        told = [clean_path(), theirs.fileno(), self.function.__module__, self.function.__name__]
        process = subprocess.Popen(
            # isolated: nothing in the current folder or in PYTHONPATH stands in for a module of Python's own
            [sys.executable, "-I", "-c", _BEGIN, json.dumps(told)],
            stdin=subprocess.PIPE,  # held open: the worker ends when it closes
            pass_fds=[theirs.fileno()],
            env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")},
        )
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


_BEGIN = """
import json, sys
path, handle, module, name = json.loads(sys.argv[1])
sys.path[:] = path
from hear_models.execution.local import serve
serve(handle, module, name)
"""


def clean_path() -> list[str]:
    """Where a worker looks for modules: in Python's own first, then in this package, then in what is installed.

    The folders of this process come last and the current folder not at all, so that a json.py or numpy.py beside
    somebody's module is not run in place of the real one.
    """
    own = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    own += [entry for entry in sys.path if entry.endswith(".zip") or Path(entry).name == "lib-dynload"]
    package = str(Path(__file__).parents[2])
    installed = [entry for entry in (*site.getsitepackages(), site.getusersitepackages()) if entry in sys.path]
    others = [os.path.abspath(entry) for entry in sys.path if entry]
    return list(dict.fromkeys([*own, package, *installed, *others]))


def _end_with_parent() -> None:
    """Standard input is a pipe that nobody writes to: it ends when the process that started this one does."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)  # unwinds, if Python gets to it
        time.sleep(GRACE_S)
        os._exit(143)

    threading.Thread(target=wait, daemon=True).start()


def serve(handle: int, module: str, name: str) -> None:
    """A worker's life: receive a job, do it, answer; end when the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the first process decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that a judge's own process is ended too
    _end_with_parent()
    connection = Connection(handle)
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
