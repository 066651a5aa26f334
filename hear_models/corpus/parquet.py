"""One Parquet table for all recordings, one row an embedding; until the end it grows as parts in a folder beside it.

    path                 text, the recording's name below the given folder
    start_ms, end_ms     float64, of the recording, window or segment (scene); or
    timestamp_ms         float64, centre of the step (timestamps)
    clock                text, the time of day of that, ISO 8601; "" where it is not known (with --clock)
    row                  of a segment: the row of the table that names it
    embedding            fixed-size list of float32 or float16
    source_path, source_bytes, source_modified_ns, source_segments_sha256, source_sample_rate, source_channels,
    source_duration_s

The schema's metadata holds the settings as JSON under "hear_models". A row a step, rather than a list a file, keeps one
form for both kinds, filters by time, and stays small for recordings of hours. A part is complete when its name ends in
.parquet; all rows of a recording are in one part, so what a part holds is done. A later run adds to a finished table.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from hear_models.corpus.clock import began_at, clock_times
from hear_models.corpus.discover import AudioFile
from hear_models.corpus.rows import Rows
from hear_models.corpus.settings import AudioFileState, EmbeddingSettings, refuse_mixture, window_ends_ms
from hear_models.errors import FileError, HearModelsError, UsageError
from hear_models.files import as_text, remove_left_over, shown, whole_file
from hear_models.foreign import open_plain, reading, reason
from hear_models.seals import UNSEALED, seal, verify_seal

PART_BYTES = 64 << 20  # a part is closed at this size,
PART_SECONDS = 30.0  # or this age: what a killed run has to compute again
GROUP_BYTES = 8 << 20  # rows that are written together
KEY = b"hear_models"
KNOWN_BY = ("path", "bytes", "modified_ns", "segments_sha256")  # of the source: see `AudioFileState`
PART_NAME = re.compile(r"part-\d{6,}\.parquet")


class ParquetOutput:
    """The table: which recordings are done, writing one more, and joining the parts at the end.

    A recording that stands in several files (embedded again because it changed; a run killed between the finished table
    and the removal of its parts) counts where it is newest: the table is the oldest, parts follow by their number.
    """

    threads = 1

    def __init__(self, table: Path, settings: EmbeddingSettings, overwrite: bool) -> None:
        self.pyarrow, self.parquet = import_pyarrow()
        self.table, self.settings = table, settings
        self.folder = parts_of(table)
        if self.folder.is_symlink():
            raise UsageError(f"{shown(self.folder)} is a link. Give another name for the table, or remove it.")
        if overwrite:
            shutil.rmtree(self.folder, ignore_errors=True)
        remove_left_over(self.folder)
        self._newest: dict[str, Path] = {}  # recording → the file whose rows of it count
        self._done: dict[str, dict[str, Any]] = {}
        for file in self._files(overwrite):
            done = self._read_done(file)
            self._done.update(done)
            self._newest.update(dict.fromkeys(done, file))
        self._old = self._files(overwrite)
        self.folder.mkdir(exist_ok=True)
        self._writer: Any = None
        self._sink: IO[bytes]
        self._temporary: AbstractContextManager[Path] | None = None
        self._group: list[Any] = []
        self._in_part: set[str] = set()
        self._group_bytes = self._part_bytes = 0
        self._part_began = 0.0
        self._part_number = max((int(file.stem.rpartition("-")[2]) for file in self._parts()), default=0)

    def _parts(self) -> list[Path]:
        there = self.folder.iterdir() if self.folder.exists() else ()
        return sorted(file for file in there if PART_NAME.fullmatch(file.name))

    def _files(self, overwrite: bool) -> list[Path]:
        """What is there, the newest last."""
        return [*([self.table] if self.table.exists() and not overwrite else []), *self._parts()]

    def is_done(self, source: AudioFile, info: AudioFileState) -> bool:
        """Whether the recording, unchanged since, has its rows in the table or in a part."""
        found = self._done.get(as_text(source.name))
        return found is not None and info.is_that(str(self.table), found)

    def refuse_others(self, sources: Sequence[AudioFile]) -> None:
        """Nothing is left to compare: a table has one set of settings, looked at when it was opened."""

    def why_not(self, source: AudioFile) -> str | None:
        """A table takes every name."""
        return None

    def write(self, source: AudioFile, info: AudioFileState, rows: Rows) -> None:
        """Add a recording's rows to the current part."""
        try:
            with self._disk():
                self._append(source, info, rows)
            self._in_part.add(as_text(source.name))
        except BaseException:  # Ctrl-C too: a part that lacks rows of a recording must not count
            self._discard_part()
            raise
        old = rows.kept is not None or (self._part_began and time.monotonic() - self._part_began > PART_SECONDS)
        if old or self._part_bytes + self._group_bytes >= PART_BYTES:
            self._close_part()
        else:
            self._part_began = self._part_began or time.monotonic()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Arrow tells of a full disk in an exception of its own."""
        try:
            yield
        except self.pyarrow.ArrowException as error:
            raise OSError(errno.EIO, reason(error), str(self.table)) from error

    def _append(self, source: AudioFile, info: AudioFileState, rows: Rows) -> None:
        arrow = self.pyarrow
        schema = self._schema(rows)
        segments, began = list(source.segments or ()), began_at(info.name)
        for embeddings, times in rows.chunks():
            n = len(embeddings)
            own, segments = segments[:n], segments[n:]
            ends = 1000.0 * np.array([segment.end_s for segment in own]) if own else None
            if ends is None:
                ends = window_ends_ms(times, self.settings.of(info.duration_s).window_s, info.duration_s)
            values = arrow.array(embeddings.reshape(-1))
            columns = [
                arrow.array([as_text(source.name)] * n, arrow.string()),
                arrow.array(times),
                *([arrow.array(ends)] if self.settings.kind == "scene" else []),
                *([arrow.array(clock_times(began, times.tolist()), arrow.string())] if self.settings.clock else []),
                *([arrow.array([segment.row for segment in own], arrow.int64())] if own else []),
                arrow.FixedSizeListArray.from_arrays(values, rows.dim),
                arrow.array([info.path] * n, arrow.string()),
                arrow.array([info.bytes] * n, arrow.int64()),
                arrow.array([info.modified_ns] * n, arrow.int64()),
                arrow.array([info.segments_sha256] * n, arrow.string()),
                arrow.array([info.sample_rate] * n, arrow.int32()),
                arrow.array([info.channels] * n, arrow.int32()),
                arrow.array([info.duration_s] * n, arrow.float64()),
            ]
            self._group.append(arrow.RecordBatch.from_arrays(columns, schema=schema))
            self._group_bytes += embeddings.nbytes
            if self._group_bytes >= GROUP_BYTES:
                self._write_group()

    def finish(self) -> None:
        """Join the old table and all parts into the table, and remove the parts."""
        self._close_part()
        with self._disk():
            self._join()
        shutil.rmtree(self.folder)

    def _join(self) -> None:
        parts = self._parts()
        files = [*([self.table] if self.table in self._old else []), *parts]
        if parts:
            with open_plain(files[-1]) as newest:
                schema = self.parquet.read_schema(newest)
            with (
                whole_file(self.table) as temporary,
                open(temporary, "r+b") as file_object,  # not its name, which Arrow might take for an address
                self.parquet.ParquetWriter(file_object, schema, **_OPTIONS) as writer,
            ):
                for file in files:
                    for group in self._groups(file):
                        writer.write_table(group)
                _finish(writer, file_object)

    def close(self) -> None:
        """Keep what is finished: called when a run stops early, too."""
        if self.folder.exists():
            self._close_part()
            if not any(self.folder.iterdir()):
                self.folder.rmdir()

    def _groups(self, file: Path) -> Iterator[Any]:
        """The rows of a file that count: those of recordings that stand in no newer one. The whole file is verified."""
        advice = _damaged(file, self.table)
        with reading(file, HearModelsError, advice, what="a table of embeddings"):
            for group in verified_groups(file, advice):
                keep = [self._newest[name] == file for name in group.column("path").to_pylist()]
                yield group if all(keep) else group.filter(self.pyarrow.array(keep))

    def _schema(self, rows: Rows) -> Any:
        arrow = self.pyarrow
        value = arrow.float16() if rows.dtype.itemsize == 2 else arrow.float32()
        return arrow.schema(
            [
                ("path", arrow.string()),
                ("timestamp_ms" if self.settings.kind == "timestamps" else "start_ms", arrow.float64()),
                *([("end_ms", arrow.float64())] if self.settings.kind == "scene" else []),
                *([("clock", arrow.string())] if self.settings.clock else []),
                *([("row", arrow.int64())] if self.settings.segments else []),
                ("embedding", arrow.list_(value, rows.dim)),
                ("source_path", arrow.string()),
                ("source_bytes", arrow.int64()),
                ("source_modified_ns", arrow.int64()),
                ("source_segments_sha256", arrow.string()),
                ("source_sample_rate", arrow.int32()),
                ("source_channels", arrow.int32()),
                ("source_duration_s", arrow.float64()),
            ],
            metadata={KEY: json.dumps(self.settings.as_dict()).encode()},
        )

    def _write_group(self) -> None:
        if not self._group:
            return
        if self._writer is None:
            self._part_number += 1
            self._part_path = self.folder / f"part-{self._part_number:06d}.parquet"
            self._temporary = whole_file(self._part_path)
            self._sink = open(self._temporary.__enter__(), "r+b")  # noqa: SIM115 - closed with the part
            self._writer = self.parquet.ParquetWriter(self._sink, self._group[0].schema, **_OPTIONS)
        table = self.pyarrow.Table.from_batches(self._group)
        self._writer.write_table(table)
        self._part_bytes += self._group_bytes
        self._group, self._group_bytes = [], 0

    def _close_part(self) -> None:
        try:
            with self._disk():
                self._write_group()
            if self._writer is None:
                return
            with self._disk():
                _finish(self._writer, self._sink)
            self._sink.close()
            assert self._temporary is not None
            temporary, self._temporary = self._temporary, None
            temporary.__exit__(None, None, None)
            self._newest.update(dict.fromkeys(self._in_part, self._part_path))
            self._forget_part()
        except BaseException:
            self._discard_part()
            raise

    def _discard_part(self) -> None:
        writer, temporary = self._writer, self._temporary
        self._forget_part()
        if writer is not None:
            with suppress(Exception):  # the disk may be full
                writer.close()
                self._sink.close()
        if temporary is not None:
            with suppress(_Abandoned):
                temporary.__exit__(_Abandoned, _Abandoned(), None)

    def _forget_part(self) -> None:
        self._writer = self._temporary = None
        self._group, self._in_part = [], set()
        self._group_bytes, self._part_bytes, self._part_began = 0, 0, 0.0

    def _read_done(self, file: Path) -> dict[str, dict[str, Any]]:
        with (
            reading(file, HearModelsError, _damaged(file, self.table), what="a table of embeddings"),
            open_plain(file) as handle,
            self.parquet.ParquetFile(handle) as reader,
        ):
            found = json.loads((reader.schema_arrow.metadata or {}).get(KEY, b"{}"))
            if not isinstance(found, dict):
                raise ValueError("it lacks its settings")
            refuse_mixture(str(file), found, self.settings)
            if self.settings.kind == "scene" and "end_ms" not in reader.schema_arrow.names:
                raise UsageError(
                    f"{shown(str(file))} was made before tables had a column end_ms. Choose another --output, or "
                    "replace it with --overwrite."
                )
            done: dict[str, dict[str, Any]] = {}
            for batch in reader.iter_batches(columns=["path", *(f"source_{name}" for name in KNOWN_BY)]):
                for name, *values in zip(*batch.to_pydict().values(), strict=True):
                    done.setdefault(name, dict(zip(KNOWN_BY, values, strict=True)))
            return done


def _finish(writer: Any, file: IO[bytes]) -> None:
    """Close a table with the digest of all of it inside."""
    writer.add_key_value_metadata({"digest": UNSEALED.decode()})
    writer.close()
    file.flush()
    seal(file, at_end=True)


def verify_table(file: Path, advice: str = "Embed the recordings again.") -> None:
    """FileError unless every byte of a table or a part is as it was written."""
    with reading(file, FileError, advice, what="a table of embeddings"), open_plain(file) as handle:
        verify_seal(handle, at_end=True)


def verified_groups(file: Path, advice: str = "Embed the recordings again.") -> Iterator[Any]:
    """The row groups of a table or a part, as Arrow tables; FileError first, unless the file is as it was written."""
    import pyarrow.parquet

    verify_table(file, advice)
    with open_plain(file) as handle, pyarrow.parquet.ParquetFile(handle) as reader:
        for index in range(reader.num_row_groups):
            yield reader.read_row_group(index)


class _Abandoned(Exception):
    """Tells `whole_file` that a part is not to be kept."""


def _damaged(file: Path, table: Path) -> str:
    """What to do about a table or a part that cannot be read."""
    if file == table:
        return "Move it away, or replace it with --overwrite."
    return "Delete that part; the same command embeds its recordings again."


def parts_of(table: Path) -> Path:
    """The folder in which a table grows."""
    return table.with_name(table.name + ".parts")


_OPTIONS: dict[str, Any] = {"compression": "zstd", "use_dictionary": ["path"]}


def import_pyarrow() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet; UsageError without them."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            'Parquet output needs pyarrow. `pip install "hear-models[parquet]"`, or give a folder for .npz files.'
        ) from error
    return pyarrow, pyarrow.parquet
