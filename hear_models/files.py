"""Files on disk: written whole or not at all, and named by their sha256."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from hear_models.errors import CheckpointError


def shown(path: str | os.PathLike[str]) -> str:
    """A path as errors show it: quoted, control characters escaped, one line."""
    return repr(os.fspath(path))


def write_atomically(path: str | os.PathLike[str], data: bytes) -> str:
    """Write `data` to `path` so that a reader sees the old file or the whole new one; return the data's sha256.

    Raises CheckpointError if the folder does not exist or cannot be written; no part of a file is left behind.
    """
    target = Path(path)
    if target.is_dir():
        raise CheckpointError(f"{target} is a folder. Name a file to write.")
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)  # mkstemp makes a private file; the result gets the permissions of any other new file
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"{target} cannot be written: {reason}. Check the folder and the free space.") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    return hashlib.sha256(data).hexdigest()


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The whole file; CheckpointError instead of OSError."""
    try:
        return Path(path).read_bytes()
    except IsADirectoryError as error:
        raise CheckpointError(f"{path} is a folder. Name a file.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}. Check the path.") from error
