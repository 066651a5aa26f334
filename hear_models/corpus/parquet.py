"""One Parquet table for all recordings, one row an embedding; until the end it grows as parts in a folder beside it.

    path                 text, the recording's name below the given folder
    start_ms             float64, start of the recording (0) or window (scene); or
    timestamp_ms         float64, centre of the step (timestamps)
    embedding            fixed-size list of float32 or float16
    source_bytes, source_modified_s, source_sample_rate, source_channels, source_duration_s

The schema's metadata holds the settings as JSON under "hear_models". A row a step, rather than a list a file, keeps one
form for both kinds, filters by time, and stays small for recordings of hours. A part is complete when its name ends in
.parquet; all rows of a recording are in one part, so what a part holds is done. A later run adds to a finished table.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hear_models.corpus.discover import AudioFile
from hear_models.corpus.rows import Rows
from hear_models.corpus.settings import AudioFileState, EmbeddingSettings, refuse_mixture
from hear_models.errors import HearModelsError, UsageError
from hear_models.files import move_into_place, shown, whole_file

PART_BYTES = 64 << 20  # a part is closed at this size,
PART_SECONDS = 30.0  # or this age: what a killed run has to compute again
GROUP_BYTES = 8 << 20  # rows that are written together
KEY = b"hear_models"


class ParquetOutput:
    """The table: which recordings are done, writing one more, and joining the parts at the end."""

    threads = 1

    def __init__(self, table: Path, settings: EmbeddingSettings, overwrite: bool) -> None:
        self.pyarrow, self.parquet = _import_pyarrow()
        self.table, self.settings = table, settings
        self.folder = table.with_name(table.name + ".parts")
        if table.is_dir():
            raise UsageError(f"{shown(table)} is a folder. Give another name for the table.")
        table.parent.mkdir(parents=True, exist_ok=True)
        if overwrite:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._old = [] if overwrite or not table.exists() else [table]
        self._old += sorted(self.folder.glob("part-*.parquet"))
        self._done: dict[str, tuple[int, int]] = {}
        for file in self._old:
            self._done.update(self._read_done(file))
        self._replaced: set[str] = set()
        self.folder.mkdir(exist_ok=True)
        self._writer: Any = None
        self._group: list[Any] = []
        self._group_bytes = self._part_bytes = 0
        self._part_began = 0.0
        self._part_number = len(self._old)

    def is_done(self, source: AudioFile, info: AudioFileState) -> bool:
        """Whether the recording, unchanged since, has its rows in the table or in a part."""
        found = self._done.get(_text(source.name))
        if found is None:
            return False
        if found != (info.bytes, info.modified_s):
            self._replaced.add(_text(source.name))
            return False
        return True

    def write(self, source: AudioFile, info: AudioFileState, rows: Rows) -> None:
        """Add a recording's rows to the current part."""
        try:
            self._append(source, info, rows)
        except BaseException:  # Ctrl-C too: a part that lacks rows of a recording must not count
            self._discard_part()
            raise
        old = self._part_began and time.monotonic() - self._part_began > PART_SECONDS
        if old or self._part_bytes + self._group_bytes >= PART_BYTES:
            self._close_part()
        else:
            self._part_began = self._part_began or time.monotonic()

    def _append(self, source: AudioFile, info: AudioFileState, rows: Rows) -> None:
        arrow = self.pyarrow
        schema = self._schema(rows)
        for embeddings, times in rows.chunks():
            n = len(embeddings)
            values = arrow.array(embeddings.reshape(-1))
            columns = [
                arrow.array([_text(source.name)] * n, arrow.string()),
                arrow.array(times),
                arrow.FixedSizeListArray.from_arrays(values, rows.dim),
                arrow.array([info.bytes] * n, arrow.int64()),
                arrow.array([info.modified_s] * n, arrow.int64()),
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
        files = [*self._old, *(file for file in sorted(self.folder.glob("part-*.parquet")) if file not in self._old)]
        if files and files != [self.table]:
            schema = self.parquet.read_schema(files[-1])
            with (
                whole_file(self.table, temporary=self.table.with_name(f".{self.table.name}.tmp")) as temporary,
                self.parquet.ParquetWriter(temporary, schema, **_OPTIONS) as writer,
            ):
                for file in files:
                    for group in self._groups(file):
                        writer.write_table(group)
        shutil.rmtree(self.folder)

    def close(self) -> None:
        """Keep what is finished: called when a run stops early, too."""
        if self.folder.exists():
            self._close_part()
            if not any(self.folder.iterdir()):
                self.folder.rmdir()

    def _groups(self, file: Path) -> Iterator[Any]:
        """The row groups of a file, without the recordings that were embedded again since."""
        with self.parquet.ParquetFile(file) as reader:
            for index in range(reader.num_row_groups):
                group = reader.read_row_group(index)
                if file in self._old and self._replaced:
                    keep = [path not in self._replaced for path in group.column("path").to_pylist()]
                    group = group.filter(self.pyarrow.array(keep))
                yield group

    def _schema(self, rows: Rows) -> Any:
        arrow = self.pyarrow
        value = arrow.float16() if rows.dtype.itemsize == 2 else arrow.float32()
        return arrow.schema(
            [
                ("path", arrow.string()),
                ("timestamp_ms" if self.settings.kind == "timestamps" else "start_ms", arrow.float64()),
                ("embedding", arrow.list_(value, rows.dim)),
                ("source_bytes", arrow.int64()),
                ("source_modified_s", arrow.int64()),
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
            while (path := self.folder / f"part-{self._part_number:06d}.parquet").exists():
                self._part_number += 1
            self._part_path = path
            self._writer = self.parquet.ParquetWriter(f"{path}.tmp", self._group[0].schema, **_OPTIONS)
        self._writer.write_table(self.pyarrow.Table.from_batches(self._group))
        self._part_bytes += self._group_bytes
        self._group, self._group_bytes = [], 0

    def _close_part(self) -> None:
        self._write_group()
        if self._writer is None:
            return
        try:
            self._writer.close()
            move_into_place(Path(f"{self._part_path}.tmp"), self._part_path)
            self._writer, self._part_bytes, self._part_began = None, 0, 0.0
        except BaseException:
            self._discard_part()
            raise

    def _discard_part(self) -> None:
        self._group, self._group_bytes, self._part_bytes, self._part_began = [], 0, 0, 0.0
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(Exception):  # the disk may be full
                writer.close()
            Path(f"{self._part_path}.tmp").unlink(missing_ok=True)

    def _read_done(self, file: Path) -> dict[str, tuple[int, int]]:
        try:
            with self.parquet.ParquetFile(file) as reader:
                found = json.loads((reader.schema_arrow.metadata or {}).get(KEY, b"{}"))
                refuse_mixture(str(file), found, self.settings)
                done: dict[str, tuple[int, int]] = {}
                for batch in reader.iter_batches(columns=["path", "source_bytes", "source_modified_s"]):
                    done.update((path, (n, at)) for path, n, at in zip(*batch.to_pydict().values(), strict=True))
                return done
        except (self.pyarrow.ArrowException, OSError, KeyError) as error:
            raise HearModelsError(
                f"{shown(file)} cannot be read as a table of embeddings: {error}. Replace it with --overwrite."
            ) from error


_OPTIONS: dict[str, Any] = {"compression": "zstd", "use_dictionary": ["path"]}


def _text(name: str) -> str:
    """A file name as text that Parquet takes: bytes that are no UTF-8 become \\x escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            'Parquet output needs pyarrow. `pip install "hear-models[parquet]"`, or give a folder for .npz files.'
        ) from error
    return pyarrow, pyarrow.parquet
