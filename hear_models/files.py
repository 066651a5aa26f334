"""Files and folders that are written whole or not at all, flushed, and never through a link of somebody else's.

What is in work has a hidden name that no other run can have, `.hear-models-….part`, and is locked by its process. So
whatever has such a name and no owner was left by a killed run: the next run that writes to the folder deletes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hear_models import locks
from hear_models.errors import FileError, UsageError

BEGIN, END = ".hear-models-", ".part"  # of the name of what is in work
BEGUN, REPLACED = ".begun", ".replaced"  # instead of END: what a later run goes on with, or puts back
UNOWNED_S = 86_400.0  # where nobody can lock: what is older was left
_swept: set[Path] = set()


def shown(path: str | os.PathLike[str]) -> str:
    """A path as errors show it: quoted, control characters escaped, one line."""
    return repr(os.fspath(path))


def as_text(path: str | os.PathLike[str]) -> str:
    """A path as text that any file takes: bytes that are no UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def unwritable(
    path: str | os.PathLike[str], error: OSError, advice: str = "Check the folder and the free space."
) -> str:
    """The sentence on a file or folder that cannot be written."""
    return f"{shown(path)} cannot be written: {error.strerror or error}. {advice}"


# ----------------------------------------------------------------------------------------------- whole or not at all
@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], *, flush: bool = True, lasting: bool = True) -> Iterator[Path]:
    """An empty file beside `path` to write to; at the end it becomes `path`, after an error nothing is left.

    Args:
        path: in a folder that exists. A reader sees the old file or the whole new one; a link is replaced.
        flush: to the disk before it gets its name, so that it is whole after the power went out, too.
        lasting: flush the folder too, so that the new name is there after that.

    Raises OSError.
    """
    target = Path(path)
    part, handle = _new(target.parent, folder=False)
    try:
        yield part
        if flush:
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(part, target)
        if flush and lasting:
            sync_folder(target.parent)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        _close(handle)


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """A folder beside `path` to fill; at the end all of it is flushed and it becomes `path`, or it vanishes.

    Args:
        replace: the place of one that is there, which is deleted then; the caller holds a lock on `path`, and calls
            `put_back` before it looks what is there.

    Raises OSError; without `replace`, `path` must not be there.
    """
    target = Path(path)
    part, handle = _new(target.parent, folder=True)
    try:
        yield part
        sync_tree(part)
        if replace and target.is_dir():
            os.rename(target, _hidden(target, REPLACED))
        os.rename(part, target)
        sync_folder(target.parent)
    finally:
        if replace:
            put_back(target)
        shutil.rmtree(part, ignore_errors=True)
        _close(handle)


def put_back(path: Path) -> None:
    """Undo what a killed run left between the two names of `whole_folder(path, replace=True)`."""
    aside = _hidden(path, REPLACED)
    if aside.is_dir():
        if not os.path.lexists(path):
            os.rename(aside, path)
        shutil.rmtree(aside, ignore_errors=True)


def remove_folder(path: Path, aside: Path | None = None) -> None:
    """Delete a folder, which has its name with all that is in it, or not at all. Raises OSError.

    Args:
        aside: a folder on the same disk for it to vanish in; None: that around it.
    """
    part, handle = _new(aside or path.parent, folder=True)
    try:
        os.rename(path, part / "gone")
        shutil.rmtree(part)
    finally:
        _close(handle)


def remove_file(path: Path) -> None:
    """Delete a file if it is there. Raises FileError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"{path} cannot be deleted: {error.strerror or error}. Check its permissions.") from None


class GrowingFile:
    """A file that grows over several runs, beside the target whose name it gets when it is whole.

    What it is a part of is noted beside it. A killed run leaves both, for the next run with the same target.
    """

    def __init__(self, target: Path) -> None:
        self.target, self.path = target, _hidden(target, BEGUN)
        self.note = self.path.with_name(f"{self.path.name}.json")

    def size(self) -> int:
        """Bytes that are there."""
        with contextlib.suppress(OSError):
            about = os.stat(self.path, follow_symlinks=False)
            return about.st_size if stat.S_ISREG(about.st_mode) else 0
        return 0

    def part_of(self) -> bytes | None:
        """What was noted when it was begun; None: nothing is there, or nobody knows what it is."""
        with contextlib.suppress(OSError), os.fdopen(os.open(self.note, os.O_RDONLY | locks.NO_FOLLOW), "rb") as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file.read(1 << 16)
        return None

    def begin(self, note: bytes) -> None:
        """Note what the bytes to come are a part of. Raises FileError."""
        write_atomically(self.note, note)

    def forget(self) -> None:
        """Begin anew. Raises OSError."""
        self.note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def appending(self) -> Iterator[IO[bytes]]:
        """The file, open at its end. Raises OSError."""
        with os.fdopen(open_to_write(self.path, append=True), "ab") as file:
            yield file

    def finish(self) -> None:
        """Flush it, and give it its name. Raises OSError."""
        with os.fdopen(os.open(self.path, os.O_RDWR | locks.NO_FOLLOW), "rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.target)
        self.note.unlink(missing_ok=True)
        sync_folder(self.target.parent)


@contextlib.contextmanager
def growing_file(path: Path) -> Iterator[GrowingFile]:
    """What there is of a file, for one process at a time. Raises InUse, FileError."""
    with locks.only_writer(locks.beside(path), path, "place"):
        yield GrowingFile(path)


def _hidden(target: Path, end: str) -> Path:
    """A name beside `target` that is always the same."""
    return target.with_name(f"{BEGIN}{locks.short_name(target)}{end}")


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A private folder among the system's temporary files, removed at the end; after a kill, by the next one."""
    part, handle = _new(Path(tempfile.gettempdir()), folder=True, mode=0o700)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)
        _close(handle)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> str:
    """Write `data` to `path` so that a reader sees the old file or the whole new one; return the data's sha256.

    Raises FileError if the folder does not exist or cannot be written; no part of a file is left behind.
    """
    target = Path(path)
    if target.is_dir():
        raise FileError(f"{target} is a folder. Name a file to write.")
    try:
        with whole_file(target) as part:
            part.write_bytes(data)
    except OSError as error:
        raise FileError(unwritable(target, error)) from error
    return hashlib.sha256(data).hexdigest()


def check_writable(path: Path) -> Path:
    """A file that may be written. UsageError for a folder or a place that is not there: before anything is computed."""
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written. Name a file in a folder that exists.")
    return path


# ---------------------------------------------------------------------------------------------- what killed runs left
def is_left_over(name: str) -> bool:
    """Whether a file or folder of this name is, or was, in work, or the lock of a run."""
    lock = name.startswith(locks.BEGIN) and name.endswith(locks.END)
    return lock or (name.startswith(BEGIN) and name.endswith(END))


def remove_left_over(folder: Path) -> None:
    """Delete what killed runs left in a folder; what a living process works on stays."""
    with contextlib.suppress(OSError):
        names = set(os.listdir(folder))
        for name in names:
            note_alone = name.endswith(f"{BEGUN}.json") and name.removesuffix(".json") not in names
            if is_left_over(name) or (name.startswith(BEGIN) and note_alone):
                with contextlib.suppress(OSError):
                    _remove_unowned(folder / name)


def _remove_unowned(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | locks.NO_FOLLOW)
    try:
        taken = locks.take(handle)
        about = os.fstat(handle)
        if taken is None:
            taken = time.time() - about.st_mtime > UNOWNED_S
        if not taken or not locks.is_at(handle, path):
            return
        if stat.S_ISDIR(about.st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    finally:
        os.close(handle)


def _close(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


def _new(parent: Path, *, folder: bool, mode: int = 0o777) -> tuple[Path, int | None]:
    """(a new hidden file or folder, its locked handle); what killed runs left there goes first, once a process.

    Where there are no locks, there is no handle: such systems rename nothing that is open.
    """
    key = parent.absolute()
    if key not in _swept:
        _swept.add(key)
        remove_left_over(parent)
    while True:
        path = parent / f"{BEGIN}{secrets.token_hex(8)}{END}"
        if folder:
            os.mkdir(path, mode)
        try:
            flags = os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT | os.O_EXCL
            handle = os.open(path, flags | locks.NO_FOLLOW, 0o666)
        except FileNotFoundError:
            if folder and parent.is_dir():  # taken for a left one before it was locked
                continue
            raise
        taken = locks.take(handle)
        if taken and locks.is_at(handle, path):
            return path, handle
        os.close(handle)
        if taken is None:
            return path, None


# -------------------------------------------------------------------------------------------------- below an output
def open_to_write(path: str | os.PathLike[str], *, append: bool = False) -> int:
    """A handle on a plain file that is made if it is not there; a link is not followed. Raises OSError."""
    ends = os.O_APPEND if append else os.O_TRUNC
    binary = getattr(os, "O_BINARY", 0)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | ends | binary | locks.NO_FOLLOW, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no plain file", os.fspath(path))
    return handle


def make_folder(root: Path, folder: Path) -> None:
    """Make `folder`, which lies below `root`, unless a link leads out of `root` on the way. Raises OSError."""
    inner = root.resolve()
    for part in reversed([folder, *folder.parents]):
        if part.is_symlink() and part != root and part.is_relative_to(root) and inner not in part.resolve().parents:
            raise OSError(errno.ELOOP, f"it is a link that leads out of {shown(root)}", os.fspath(part))
    folder.mkdir(parents=True, exist_ok=True)


def rename_aside(path: Path, name: str) -> Path:
    """Give a file another name in its folder, or NAME.2, NAME.3 ... where one has it: nothing is written over.

    Returns what it is called now. Raises OSError; FileNotFoundError if it is not there.
    """
    for number in itertools.count(1):
        target = path.with_name(name if number == 1 else f"{name}.{number}")
        try:
            os.link(path, target, follow_symlinks=False)
        except FileExistsError:
            continue
        except FileNotFoundError:
            raise
        except OSError:  # a file system without hard links
            if target.exists():
                continue
            os.rename(path, target)
            return target
        os.unlink(path)
        return target
    raise AssertionError("unreachable")


def allocate(path: str | os.PathLike[str], n_bytes: int) -> None:
    """Make a new file of zeros whose room on the disk is taken.

    To be called before a file is mapped into memory: writing to a map for which there is no room kills the process.
    Raises OSError.
    """
    Path(path).unlink(missing_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        if not n_bytes:
            return
        try:
            os.posix_fallocate(handle, 0, n_bytes)
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in locks.WITHOUT_LOCKS:
                raise
            for at in range(0, n_bytes, 1 << 20):
                os.write(handle, bytes(min(1 << 20, n_bytes - at)))
    finally:
        os.close(handle)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and flush it to the disk, in a folder that gets its name later. Raises OSError."""
    with os.fdopen(open_to_write(path), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_tree(folder: Path) -> None:
    """Flush everything below a folder to the disk. Raises OSError."""
    for where, _, names in os.walk(folder, topdown=False):
        for name in names:
            if os.path.islink(os.path.join(where, name)):
                continue
            handle = os.open(os.path.join(where, name), os.O_RDONLY | locks.NO_FOLLOW)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(where))
