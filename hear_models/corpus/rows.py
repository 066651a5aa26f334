"""The embeddings of one recording before they are written: in memory while few, then in a nameless file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hear_models.corpus.unfinished import Unfinished
from hear_models.errors import HearModelsError

IN_MEMORY_BYTES = 64 << 20
CHUNK_ROWS = 4096


class Rows:
    """Rows [n, dim] in `dtype` with a time in ms each, appended window by window at bounded memory.

    The spool has no name in the file system, so a killed process leaves nothing behind. Times are float64: float32
    milliseconds are 4 ms apart after ten hours. kept: where the windows of a long recording are kept besides, until it
    is in its output.
    """

    def __init__(self, folder: Path, dtype: str, kept: Unfinished | None = None) -> None:
        self.dtype, self.kept = np.dtype(dtype), kept
        self.dim = 0
        self.n = 0
        self._times: list[np.ndarray] = []
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=str(folder))  # noqa: SIM115 - closed below

    def append(self, rows: np.ndarray, times_ms: np.ndarray) -> None:
        """Add rows float32 [n, dim] and times [n]; raises HearModelsError where float16 cannot hold a value."""
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(rows, dtype=self.dtype)
        if not np.isfinite(stored).all():
            cause = "Use --dtype float32." if np.isfinite(rows).all() else "This is a fault of the model."
            raise HearModelsError(f"An embedding is not finite as {self.dtype}. {cause}")
        self.dim = stored.shape[1]
        self.n += len(stored)
        self._times.append(np.asarray(times_ms, dtype=np.float64))
        self._file.write(stored.data if stored.size else b"")

    @property
    def n_bytes(self) -> int:
        """Of all rows, without their times."""
        return self.n * self.dim * self.dtype.itemsize

    @property
    def times_ms(self) -> np.ndarray:
        """float64 [n]."""
        return np.concatenate(self._times) if self._times else np.zeros(0)

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (rows [<= CHUNK_ROWS, dim], times [..]) in order."""
        self._file.seek(0)
        times = self.times_ms
        for start in range(0, self.n, CHUNK_ROWS):
            count = min(CHUNK_ROWS, self.n - start)
            data = self._file.read(count * self.dim * self.dtype.itemsize)
            yield np.frombuffer(data, dtype=self.dtype).reshape(count, self.dim), times[start : start + count]

    def close(self) -> None:
        self._file.close()
