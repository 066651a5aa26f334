"""Keeps two runs from writing to one output: a lock that ends with its process, and says whose it is.

The lock is the system's (`flock`) on a small hidden file, so a killed owner holds it no longer; the file names the
owner for whoever has to wait. Where a system or a file system has no locks, nobody is kept out.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hear_models.errors import FileError, UsageError


class InUse(UsageError):
    """Another process holds the lock."""


POLL_S = 0.2
GLANCE_S = 0.01
BEGIN, END = ".hear-models", ".lock"
LONGEST_NAME = 100  # bytes of a target's name in another
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def take(handle: int) -> bool | None:
    """Lock an open file or folder without waiting: True, False if another holds it, None where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            return None
        raise
    return True


def is_at(handle: int, path: str | os.PathLike[str]) -> bool:
    """Whether `path` still names the open file: somebody may have removed or replaced it since."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    ours = os.fstat(handle)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def inside(folder: Path) -> Path:
    """The lock of a folder that is there."""
    return folder / f"{BEGIN}{END}"


def beside(target: Path) -> Path:
    """The lock of a file or folder that may come and go."""
    return target.with_name(f"{BEGIN}-{short_name(target)}{END}")


def short_name(target: Path) -> str:
    """A path's name as a part of another: itself, or a digest where both would be too long for a disk."""
    raw = os.fsencode(target.name)
    return target.name if len(raw) <= LONGEST_NAME else hashlib.sha256(raw).hexdigest()[:32]


@contextlib.contextmanager
def only_writer(
    lock: Path,
    shown_as: Path,
    other: str = "--output",
    wait: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Hold `lock` (see `inside` and `beside`); a second run is refused, or waits.

    Args:
        shown_as: what is written to, for the message.
        other: what to choose another of.
        wait: given one sentence on the owner, once, before the waiting begins; None: do not wait.

    Raises:
        InUse: another process holds it.
        FileError: the folder cannot be written.
    """
    told = False
    while (handle := _hold(lock)) is None:
        owner = f"Another run{_owner(lock)} is writing to {os.fspath(shown_as)!r}."
        if wait is None:
            raise InUse(f"{owner} Wait for it, or choose another {other}.")
        if not told:
            wait(f"{owner} Waiting for it.")
            told = True
        time.sleep(POLL_S)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if is_at(handle, lock):
                os.unlink(lock)
        os.close(handle)


def _hold(lock: Path) -> int | None:
    """The open and locked file, with this process in it; None if another holds it."""
    while True:
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | NO_FOLLOW, 0o666)
        except OSError as error:
            raise FileError(
                f"{lock} cannot be written: {error.strerror}. Check the folder, its permissions and the free space."
            ) from error
        try:
            taken = take(handle)
            for _ in range(3):  # somebody may just be looking whether it has an owner
                if taken is False:
                    time.sleep(GLANCE_S)
                    taken = take(handle)
            if taken is False:
                os.close(handle)
                return None
            if taken is None or is_at(handle, lock):
                _sign(handle)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its owner removed it between the two calls


def _sign(handle: int) -> None:
    owner = {
        "process": os.getpid(),
        "machine": socket.gethostname(),
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": " ".join(sys.argv)[:200],
    }
    with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, json.dumps(owner).encode())


def _owner(lock: Path) -> str:
    """ " (process 12 on HOST, since ...)", as far as the lock says it."""
    try:
        with open(lock, "rb") as file:
            owner = json.loads(file.read(4096))
        process, machine, since = int(owner["process"]), str(owner["machine"]), str(owner["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f" (process {process} on {machine!r}, since {since})"
