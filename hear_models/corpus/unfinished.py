"""The finished windows of a recording that is not finished, in a file beside the outputs: a killed run loses seconds.

    line 1      {"format": 1, "recording": what it was made of, "settings": ..., "dtype": ...} as JSON
    then        blocks: counts, times, rows, and the digest of all of it and of the block before

What a kill or a power cut left of the last block is cut off. When the recording is in its output, the file goes.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from hear_models.corpus.options import DTYPES
from hear_models.corpus.prefetch import Done
from hear_models.corpus.settings import AudioFileState, EmbeddingSettings
from hear_models.errors import FileError
from hear_models.files import open_to_write, remove_left_over
from hear_models.foreign import open_plain, parse_json, reading

KEEP_S = 10.0  # windows are written so often: what a kill costs at most
BEGIN, END = ".unfinished-", ".windows"  # of the name
FORMAT = 1
LONGEST_HEAD = 1 << 20
_COUNTS = struct.Struct("<QQQQ")  # rows and their width in this block; windows and samples that are done with it
_DIGEST = 32

Block = tuple[np.ndarray, np.ndarray]  # rows [n, dim], times in ms [n]


class Unfinished:
    """The windows of one recording that are kept.

    Args:
        folder: of the output.
        settings: for this recording: its windows are set.
        recording: as it is now.
    """

    def __init__(self, folder: Path, settings: EmbeddingSettings, recording: AudioFileState) -> None:
        about = {"format": FORMAT, "recording": recording.as_dict(), "settings": settings.as_dict()}
        self.head = (json.dumps(about, sort_keys=True) + "\n").encode()
        self.dtype = np.dtype(settings.dtype)
        self._name = recording.name
        self.folder = folder
        self.path = folder / f"{_prefix(recording.name)}{_hash(self.head)}{END}"
        self.done = Done()
        self._waiting: list[Block] = []
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256(self.head).digest()
        self._end = 0  # of what was found in the file
        self._kept_at = time.monotonic()

    # ------------------------------------------------------------------------------------------- of an earlier run
    def find(self) -> Done:
        """How far an earlier run came; a file that is damaged, or of something else, counts up to there."""
        for _ in self.blocks():
            pass
        return self.done

    def blocks(self) -> Iterator[Block]:
        """What was kept, verified; `done`, and what is kept next, go on from there."""
        if not os.path.lexists(self.path):
            return
        with suppress(FileError, OSError), open_plain(self.path) as file:
            if file.readline(LONGEST_HEAD) != self.head:
                return
            for block, digest, done, end in _verified(file, self.head, self.dtype):
                self._digest, self.done, self._end = digest, done, end
                yield block

    # --------------------------------------------------------------------------------------------------- of this one
    def add(self, rows: np.ndarray, times_ms: np.ndarray, end_sample: int) -> None:
        """One more window, which ends at that sample of the recording."""
        self._waiting.append((np.ascontiguousarray(rows, self.dtype), np.asarray(times_ms, np.float64)))
        self.done = Done(self.done.windows + 1, max(end_sample, self.done.n_samples))
        if time.monotonic() - self._kept_at >= KEEP_S:
            self.keep()

    def keep(self) -> None:
        """Write what was added since, and flush it to the disk. Raises OSError."""
        if not self._waiting:
            return
        rows = np.concatenate([rows for rows, _ in self._waiting])
        times = np.concatenate([times for _, times in self._waiting])
        data = _COUNTS.pack(*rows.shape, self.done.windows, self.done.n_samples) + times.tobytes() + rows.tobytes()
        if self._file is None:
            remove_left_over(self.folder)
            self._file = os.fdopen(open_to_write(self.path, append=self._end > 0), "ab" if self._end else "wb")
            self._file.truncate(self._end)
            self._file.seek(self._end)
            if not self._end:
                self._file.write(self.head)
        self._digest = hashlib.sha256(self._digest + data).digest()
        self._file.write(data + self._digest)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._waiting, self._kept_at = [], time.monotonic()

    @property
    def is_there(self) -> bool:
        """Whether some windows are on the disk."""
        return self._file is not None or os.path.lexists(self.path)

    def close(self) -> None:
        """Keep everything for a later run; a disk that is full takes no more."""
        with suppress(OSError):
            if self.done.windows > 1:  # a single window is computed again sooner
                self.keep()
        self._close()

    def remove(self) -> None:
        """The recording is in its output, or failed: what was kept of it goes, of other settings too."""
        self._close()
        forget(self.folder, [self._name])

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
        self._waiting = []


def forget(folder: Path, names: Iterable[str]) -> None:
    """Remove the windows of recordings that are in their outputs, or failed."""
    with suppress(OSError):
        if there := unfinished_in(folder):
            prefixes = tuple(map(_prefix, names))
            for name in there:
                if name.startswith(prefixes):
                    os.unlink(folder / name)


def unfinished_in(folder: Path) -> list[str]:
    """The names of all such files in a folder. Raises OSError."""
    return [name for name in os.listdir(folder) if name.startswith(BEGIN) and name.endswith(END)]


def verify_unfinished(path: Path) -> None:
    """FileError unless every byte is as it was written, up to its end."""
    with reading(path, FileError, "Delete it.", what="windows of a recording"), open_plain(path) as file:
        head = file.readline(LONGEST_HEAD)
        if (name := parse_json(head)["settings"]["dtype"]) not in DTYPES:
            raise ValueError(f"its numbers are of kind {name!r}")
        dtype = np.dtype(str(name))
        ends = [len(head), *(end for _, _, _, end in _verified(file, head, dtype))]
        if ends[-1] != os.fstat(file.fileno()).st_size:
            raise ValueError("its last block is not whole")


def _verified(file: IO[bytes], head: bytes, dtype: np.dtype[Any]) -> Iterator[tuple[Block, bytes, Done, int]]:
    """Blocks up to the first that is not as it was written: rows, the digest up to there, what is done, its end."""
    size, end = os.fstat(file.fileno()).st_size, len(head)
    digest = hashlib.sha256(head).digest()
    while len(counts := file.read(_COUNTS.size)) == _COUNTS.size:
        n, dim, windows, samples = _COUNTS.unpack(counts)
        n_bytes = n * 8 + n * dim * dtype.itemsize
        if n_bytes + _DIGEST > size - end:
            return
        data = file.read(n_bytes)
        digest = hashlib.sha256(digest + counts + data).digest()
        if file.read(_DIGEST) != digest:
            return
        end += _COUNTS.size + n_bytes + _DIGEST
        rows = np.frombuffer(data, dtype, offset=8 * n).reshape(n, dim)
        yield (rows, np.frombuffer(data, np.float64, n)), digest, Done(windows, samples), end


def _prefix(name: str) -> str:
    return f"{BEGIN}{_hash(os.fsencode(name))}-"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
