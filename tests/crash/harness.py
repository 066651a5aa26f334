"""Crash points: a command in a child process that is killed, or meets a full disk, at its k-th file operation.

The child is forked from this process, which has everything imported, so that a crash point costs a tenth of a second.
File operations are those that Python audits, below one folder: opening to write, making, renaming, linking, removing.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PATHS = {  # audit event → which of its arguments are paths
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.link": (0, 1),
    "os.symlink": (1,),
    "os.truncate": (0,),
}
FAILED, TRACEBACK = 1, 99


@dataclass(frozen=True)
class Crash:
    """What strikes: at operation `at` (from 1) a kill, or, `full`, a full disk's error; or no file above `limit`."""

    at: int | None = None
    full: bool = False
    limit: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code (negative: a signal), the operations it did, and what it said of an error."""

    code: int
    operations: int
    said: str


def run(command: Callable[[], object], folder: Path, crash: Crash | None = None) -> Ended:
    """`command()` in a child; operations below `folder` are counted, and struck."""
    counted, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(counted)
        _be_the_child(command, folder, crash or Crash(), told)
    os.close(told)
    with os.fdopen(counted, "rb") as file:
        text = file.read().decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    operations, _, said = text.rpartition("|")[2].partition(":") if "|" in text else ("0", "", "")
    return Ended(os.waitstatus_to_exitcode(status), int(operations or 0), said)


def _be_the_child(command: Callable[[], object], folder: Path, crash: Crash, told: int) -> None:
    from hear_models.errors import HearModelsError

    count, root = 0, os.fspath(folder)

    def note(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                return
            paths = (path,)
        elif event in PATHS:
            paths = tuple(arguments[place] for place in PATHS[event])
        else:
            return
        if not any(
            isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(root) for path in paths
        ):
            return
        count += 1
        if count == crash.at:
            if crash.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(paths[0]))
            os.write(told, f"|{count}:".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    code, said = 0, ""
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        if crash.limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (crash.limit, resource.RLIM_INFINITY))
        sys.addaudithook(note)
        command()
    except HearModelsError as error:
        code, said = error.exit_code, str(error)
    except BaseException:
        code, said = TRACEBACK, traceback.format_exc()
    os.write(told, f"|{count}:{said}".encode("utf-8", "replace")[:60_000])
    os._exit(code)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too; empty folders as b"/"."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            found[name] = path.read_bytes()
        elif not any(path.iterdir()):
            found[name] = b"/"
    return found
