"""Writes finished recordings while the model goes on: flushing a file to the disk can take longer than embedding it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from hear_models.corpus.discover import AudioFile
from hear_models.corpus.rows import Rows
from hear_models.corpus.settings import AudioFileState
from hear_models.errors import HearModelsError

WAITING_FILES = 16
WAITING_BYTES = 64 << 20


class NameRefused(HearModelsError):
    """The file system does not take the name of one recording's file; the others have nothing to do with it."""


class Output(Protocol):
    """Where embeddings go: `NpzOutput` or `ParquetOutput`.

    `folder`: where it works, for temporary files. `threads`: how many recordings it can write at a time.
    `why_not`: why it cannot take a recording, as a sentence. `write`: a recording whose windows are kept (`rows.kept`)
    is on the disk afterwards.
    """

    folder: Path
    threads: int

    def refuse_others(self, sources: Sequence[AudioFile]) -> None: ...
    def why_not(self, source: AudioFile) -> str | None: ...
    def is_done(self, source: AudioFile, info: AudioFileState) -> bool: ...
    def write(self, source: AudioFile, info: AudioFileState, rows: Rows) -> None: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...


class WriteBehind:
    """Hands rows to `out.write` in threads, with a bound on what waits. A failed write is raised by a later call.

    Args:
        out: the output.
        written: called in the caller's thread, with the number of rows, once a recording is safely on the disk.
        refused: called there with a recording whose name the file system does not take, and the reason.
    """

    def __init__(self, out: Output, written: Callable[[int], None], refused: Callable[[AudioFile, str], None]) -> None:
        self.out, self.written, self.refused = out, written, refused
        self._waiting: deque[tuple[Future[None], AudioFile, int, int]] = deque()
        self._pool = ThreadPoolExecutor(out.threads, thread_name_prefix="write")

    def write(self, source: AudioFile, info: AudioFileState, rows: Rows) -> None:
        """Queue one recording; closes `rows` when they are written."""
        while self._waiting and (
            len(self._waiting) >= WAITING_FILES or sum(size for *_, size in self._waiting) >= WAITING_BYTES
        ):
            self._take_first()
        self._waiting.append((self._pool.submit(self._write, source, info, rows), source, rows.n, rows.n_bytes))
        while self._waiting and self._waiting[0][0].done():
            self._take_first()

    def finish(self) -> None:
        """Wait until everything is written."""
        while self._waiting:
            self._take_first()

    def close(self) -> None:
        """End the threads: what is being written is completed, what only waits is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _write(self, source: AudioFile, info: AudioFileState, rows: Rows) -> None:
        try:
            self.out.write(source, info, rows)
            if rows.kept is not None:
                rows.kept.remove()
        finally:
            rows.close()

    def _take_first(self) -> None:
        future, source, n_rows, _ = self._waiting.popleft()
        try:
            future.result()
        except NameRefused as error:
            self.refused(source, str(error))
        else:
            self.written(n_rows)
