"""Crash points: a command in a child process that is killed, or meets a full disk, at its k-th file operation.

The child is forked from this process, which has everything imported, so that a crash point costs a tenth of a second.
File operations are those that Python audits, below one folder: opening to write, making, renaming, linking, removing.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

PATHS = {  # audit event → which of its arguments are paths
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.link": (0, 1),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "tests.request": (0,),  # of a command that writes to a server, for a folder
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


# ------------------------------------------------------------------------------------------------ commands, and strikes
@dataclass(frozen=True)
class Case:
    """A writing command: `command(folder)` writes below `folder / "out"`.

    Args:
        read: what must be equal afterwards.
        prepare: what must be there before.
    """

    command: Callable[[Path], object]
    read: Callable[[Path], object] = contents
    prepare: Callable[[Path], object] = lambda folder: None


def sounds(folder: Path, seconds: tuple[float, ...] = (0.3, 0.5, 0.4)) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i, length in enumerate(seconds):
        soundfile.write(folder / f"{i}.wav", rng.uniform(-0.1, 0.1, int(16000 * length)), 16000)
        os.utime(folder / f"{i}.wav", (1_700_000_000, 1_700_000_000))


def undisturbed(case: Case, folder: Path) -> tuple[object, int]:
    """(what an undisturbed run leaves, its file operations)."""
    sounds(folder / "in")
    case.prepare(folder)
    ended = run(lambda: case.command(folder), folder)
    assert ended.code == 0, ended.said
    return case.read(folder / "out"), ended.operations


def struck(case: Case, folder: Path, crash: Crash, wanted: object) -> None:
    """Strike, look, and run again."""
    sounds(folder / "in")
    case.prepare(folder)
    ended = run(lambda: case.command(folder), folder, crash)
    where = f"{crash}: {ended}"
    if crash.full or crash.limit is not None:
        assert ended.code != TRACEBACK and ended.code >= 0, where
        assert ended.code == 0 or ("\n" not in ended.said and ended.said), where
    else:
        assert ended.code == -9, where
    again = run(lambda: case.command(folder), folder)
    assert again.code == 0, f"{where}, then {again.said}"
    found = case.read(folder / "out")
    assert found == wanted, f"{where}: {differing(found, wanted)}"
    shutil.rmtree(folder)


def differing(found: object, wanted: object) -> object:
    """Names of the files that differ."""
    if isinstance(found, tuple) and isinstance(wanted, tuple):
        return [differing(one, other) for one, other in zip(found, wanted, strict=True)]
    if isinstance(found, dict) and isinstance(wanted, dict):
        return [name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)]
    return found if found != wanted else []


def some(operations: int, most: int) -> list[int]:
    """Crash points spread over a run, its first and last among them."""
    return sorted({1 + round(k * (operations - 1) / max(1, most - 1)) for k in range(most)})


def strike_somewhere(case: Case, folder: Path) -> None:
    """A few kills, full disks and a limit; an error of the command makes the test fail."""
    wanted, operations = undisturbed(case, folder / "clean")
    for at in some(operations, 4):
        struck(case, folder / f"kill{at}", Crash(at), wanted)
    for at in some(operations, 2):
        struck(case, folder / f"full{at}", Crash(at, full=True), wanted)
    struck(case, folder / "limit", Crash(limit=3000), wanted)


def strike_everywhere(case: Case, folder: Path) -> int:
    """A kill and a full disk at every operation, and nine sizes beyond which no file may grow; returns how many."""
    wanted, operations = undisturbed(case, folder / "clean")
    for at in range(1, operations + 1):
        struck(case, folder / f"kill{at}", Crash(at), wanted)
        struck(case, folder / f"full{at}", Crash(at, full=True), wanted)
    for limit in (0, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000):
        struck(case, folder / f"limit{limit}", Crash(limit=limit), wanted)
    return operations
