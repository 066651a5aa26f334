"""Worker processes: a job that fails, raises or dies takes no other job with it, and nothing outlives the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from worker_jobs import work

from hear_models.execution.local import Done, Workers


def everything(workers: Workers) -> list[Done]:
    done: list[Done] = []
    until = time.monotonic() + 120
    while workers.left:
        assert time.monotonic() < until, "the workers do not end"
        done += workers.poll(1.0)
    return done


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


def test_jobs_that_raise_exit_or_are_killed_fail_alone_and_say_why():
    jobs = [
        ("double", 1),
        ("raise", "no\nsecond line"),
        ("kill", 0),
        ("double", 2),
        ("exit", 7),
        ("refuse", "x"),
        ("double", 3),
    ]
    with Workers(work, 2) as workers:
        for job in jobs:
            workers.submit(job)
        assert len(workers.running) == 2 and workers.left == len(jobs)
        done = {tuple(d.job): d for d in everything(workers)}
    assert len(done) == len(jobs)
    assert [done["double", n].result for n in (1, 2, 3)] == [2, 4, 6]
    assert [done["double", n].error for n in (1, 2, 3)] == [None] * 3
    assert done["raise", "no\nsecond line"].error == "ZeroDivisionError: no."
    assert "Traceback" in done["raise", "no\nsecond line"].details
    assert done["refuse", "x"].error == "x is refused. Do something else."
    assert done["refuse", "x"].details is None
    assert "SIGKILL" in done["kill", 0].error and "memory" in done["kill", 0].error
    assert "exit code 7" in done["exit", 7].error


def test_a_worker_has_one_thread_and_this_process_keeps_its_own_setting(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    with Workers(work, 1) as workers:
        workers.submit(("threads", None))
        assert [d.result for d in everything(workers)] == ["1"]
    assert os.environ["OMP_NUM_THREADS"] == "5"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_no_process_outlives_a_run_that_is_stopped(tmp_path):
    with pytest.raises(KeyboardInterrupt), Workers(work, 2) as workers:
        for name in "ab":
            workers.submit(("sleep", str(tmp_path / name)))
        until = time.monotonic() + 60
        while len(pids := [p.read_text() for p in tmp_path.iterdir()]) < 2 or not all(pids):
            assert time.monotonic() < until
            time.sleep(0.05)
        began = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - began < 30
    assert not any(alive(int(pid)) for pid in pids)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_workers_end_with_the_process_that_started_them(tmp_path, how):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from worker_jobs import work; from hear_models.execution.local import Workers\n"
        "with Workers(work, 1) as workers:\n"
        "    workers.submit(('sleep', sys.argv[2]))\n"
        "    while workers.left: workers.poll(1.0)"
    )
    note = tmp_path / "pid"
    command = [sys.executable, "-c", program, os.path.dirname(__file__), str(note)]
    process = subprocess.Popen(command)
    until = time.monotonic() + 60
    while not (note.exists() and note.read_text()):
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(getattr(signal, how))
    process.wait()
    worker = int(note.read_text())
    until = time.monotonic() + 30
    while alive(worker):
        assert time.monotonic() < until, "the worker goes on without its parent"
        time.sleep(0.05)


def test_no_module_in_the_current_folder_or_beside_somebodys_stands_in_for_another(tmp_path, monkeypatch):
    for name in ("json", "multiprocessing", "pickle", "numpy", "random"):
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write('{name}')\nraise SystemExit(9)"
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    with Workers(work, 1) as workers:
        workers.submit(("double", 2))
        assert [d.result for d in everything(workers)] == [4]
    assert not (tmp_path / "ran").exists()
