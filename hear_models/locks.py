"""Keeps two runs from writing to one output."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hear_models.errors import UsageError
from hear_models.files import shown


@contextmanager
def only_writer(folder: Path, shown_as: Path, other: str = "--output") -> Iterator[None]:
    """Refuse a second run on the same output while the first one writes (where the system has file locks)."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"Another run is writing to {shown(shown_as)}. Wait for it, or choose another {other}."
            ) from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)
