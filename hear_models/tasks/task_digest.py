"""The digest of a task's data: what goes into cache keys and records, so that a changed clip is never overlooked."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hear_models.errors import HearModelsError
from hear_models.files import write_atomically
from hear_models.foreign import file_sha256, read_json
from hear_models.resources import cache_folder

if TYPE_CHECKING:
    from hear_models.tasks.task import Task

LARGEST_MEMORY = 1 << 30  # bytes of a remembered task: 100 a clip
SETTLED_S = 2.0  # a file changed so recently may change again within the same tick of the clock: not remembered


def data_sha256(task: Task, sample_rate: int) -> str:
    """See `Task.data_sha256`."""
    from hear_models.tasks.task import METADATA, VOCABULARY, TaskError

    root = task.folder.absolute()
    memory = _memory_file(root, sample_rate)
    remembered, seen = _read_memory(memory), {}
    files = [METADATA, VOCABULARY, *(f"{split}.json" for split in task.splits)]
    files += [f"{sample_rate}/{split}/{file}" for split in task.splits for file in sorted(task.items(split))]
    total, now = hashlib.sha256(f"hear-models task 1\n{sample_rate}\n".encode()), time.time()
    try:
        for name in files:
            stat = os.stat(root / name)
            size, changed, digest = remembered.get(name, (-1, -1, ""))
            if (size, changed) != (stat.st_size, stat.st_mtime_ns):
                digest = file_sha256(root / name)
            if now - stat.st_mtime > SETTLED_S:
                seen[name] = [stat.st_size, stat.st_mtime_ns, digest]
            total.update(f"{name}\0{digest}\n".encode("utf-8", "surrogateescape"))
    except FileNotFoundError as error:
        raise TaskError(
            f"{error.filename} is missing. `hear-models tasks check` lists what else is; "
            f"`hear-models tasks resample` makes {sample_rate} Hz from another rate."
        ) from error
    except OSError as error:
        raise TaskError(f"{error.filename} cannot be read: {error.strerror}. Check the task folder.") from error
    if seen != remembered:
        with suppress(OSError, HearModelsError):  # a cache only: without it the next call reads the audio again
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(memory, json.dumps(seen).encode())
    return total.hexdigest()


def tables_sha256(folder: Path) -> str:
    """sha256 over metadata, vocabulary and every SPLIT.json of a task folder: all that `read_task` reads but its name.

    Raises TaskError, FileError, OSError.
    """
    from hear_models.tasks.task import METADATA, VOCABULARY, read_metadata

    names = [METADATA, VOCABULARY, *(f"{split}.json" for split in read_metadata(folder)["splits"])]
    digests = (f"{name}\0{file_sha256(folder / name)}\n" for name in names)
    return hashlib.sha256("".join(digests).encode("utf-8", "surrogateescape")).hexdigest()


def _memory_file(root: Path, sample_rate: int) -> Path:
    """Outside of the task folder: it may be read-only, and it should stay as it was unpacked."""
    key = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return cache_folder() / "task-digests" / f"{root.name}.{sample_rate}.{key}.json"


def _read_memory(path: Path) -> dict[str, list[Any]]:
    with suppress(HearModelsError):
        found = read_json(path, LARGEST_MEMORY)
        if isinstance(found, dict) and all(isinstance(v, list) and len(v) == 3 for v in found.values()):
            return found
    return {}
