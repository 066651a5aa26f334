"""Functions that the workers of the tests call: good ones, and ones that fail in each way that a job can."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from hear_models.errors import UsageError


def work(job: tuple[str, object]) -> object:
    """Do what the job says."""
    what, value = job
    if what == "double":
        return 2 * value
    if what == "threads":
        return os.environ["OMP_NUM_THREADS"]
    if what == "raise":
        raise ZeroDivisionError(str(value))
    if what == "refuse":
        raise UsageError(f"{value} is refused. Do something else.")
    if what == "exit":
        os._exit(int(value))
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "sleep":
        Path(value).write_text(str(os.getpid()))
        time.sleep(60)
    return None
