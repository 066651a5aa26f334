"""Segments of recordings from a table, as people have them: our own columns, Audacity's, Raven's and BirdNET's.

    table       form                       recording                       from, to
    ours        CSV (, ; tab) or Parquet   path                            start_s, end_s
    Audacity    tabs, no header            the one that is embedded        first and second column
    Raven       tabs                       Begin Path, Begin File or none  Begin Time (s), End Time (s), File Offset (s)
    BirdNET     CSV, or Raven's            File, Begin Path or none        Start (s), End (s), or Raven's

Names of columns in any case, other columns as you like.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from hear_models.corpus.discover import AudioFile, Failure, Segment
from hear_models.errors import UsageError
from hear_models.files import shown
from hear_models.foreign import open_plain, read_text, reading

LARGEST_TABLE = 1 << 30  # bytes
LARGEST_PARQUET = (
    64 << 20
)  # bytes that a Parquet table unfolds to, some million rows; Python holds them in ten times that
ROWS_AT_ONCE = 1000
PATHS = ("path", "begin path", "begin file", "file", "filename")
STARTS = ("start_s", "begin time (s)", "start (s)")
ENDS = ("end_s", "end time (s)", "end (s)")
OFFSET = "file offset (s)"  # of Raven: where the selection begins in its own file; its times count over all files
ADVICE = "Give the columns path, start_s, end_s, or a table of Audacity, Raven or BirdNET."

Row = Mapping[str, Any]


def read_segments(table: str | os.PathLike[str]) -> list[tuple[str | None, Segment]]:
    """The rows of a table, each with the recording that it names, if it names one.

    Raises UsageError: no such table, or a row that is no segment, by its number (from 0, without the header).
    """
    rows = _rows(Path(table))
    found = []
    seen: set[tuple[Any, ...]] = set()
    for number, row in enumerate(rows):
        if "view" in row and "selection" in row:  # Raven writes a selection once for each view of it
            key = tuple(row.get(name) for name in ("selection", "channel", *PATHS, *STARTS, *ENDS))
            if key in seen:
                continue
            seen.add(key)
        start_s, end_s = _time(row, STARTS, table, number), _time(row, ENDS, table, number)
        if row.get(OFFSET) not in (None, ""):
            offset_s = _time(row, (OFFSET,), table, number)
            start_s, end_s = offset_s, offset_s + end_s - start_s
        if not 0 <= start_s < end_s:
            raise UsageError(
                f"{shown(table)}: row {number} reaches from {start_s:g} s to {end_s:g} s, which is no segment. "
                "A segment begins at 0 s or later and ends after that."
            )
        path = next((str(row[name]) for name in PATHS if row.get(name) not in (None, "")), None)
        found.append((path, Segment(number, start_s, end_s)))
    if not found:
        raise UsageError(f"{shown(table)} holds no segments. {ADVICE}")
    return found


def with_segments(
    sources: Sequence[AudioFile], rows: Iterable[tuple[str | None, Segment]], table: str | os.PathLike[str]
) -> tuple[list[AudioFile], list[Failure]]:
    """The recordings that a table names, each with its segments in order of their start; and names that none has.

    A name is a path, one below a given folder, or a file name that only one recording has.
    """
    by_name: dict[str, AudioFile | None] = {}
    for source in sources:
        stem = Path(source.name).name
        by_name[stem] = None if stem in by_name else source
    by_name |= {os.path.abspath(source.path): source for source in sources}
    by_name |= {source.name: source for source in sources}
    chosen: dict[str, list[Segment]] = {}
    lost: dict[str, int] = {}
    for path, segment in rows:
        found = _named(path, sources, by_name, table)
        if found is None:
            lost.setdefault(str(path), segment.row)
        else:
            chosen.setdefault(found.name, []).append(segment)
    in_order = [source for source in sources if source.name in chosen]
    return (
        [
            replace(source, segments=tuple(sorted(chosen[source.name], key=lambda s: (s.start_s, s.row))))
            for source in in_order
        ],
        [
            Failure(
                path,
                f"{shown(path)}, in row {row} of {shown(table)}, is none of the recordings that were given, "
                "or several have that name. Give its folder, or write its whole path.",
            )
            for path, row in lost.items()
        ],
    )


def _named(
    path: str | None,
    sources: Sequence[AudioFile],
    by_name: Mapping[str, AudioFile | None],
    table: str | os.PathLike[str],
) -> AudioFile | None:
    if path is None:
        if len(sources) == 1:
            return sources[0]
        raise UsageError(
            f"{shown(table)} names no recordings, and {len(sources)} were given. Give the one that it is about, or add "
            "a column `path`."
        )
    path = path.replace("\\", "/") if os.sep == "/" and path not in by_name else path
    beside_table = os.path.abspath(os.path.join(os.path.dirname(table), path))
    for name in (path, os.path.normpath(path), os.path.abspath(path), beside_table, os.path.basename(path)):
        if by_name.get(name) is not None:
            return by_name[name]
    return None


def segments_sha256(segments: Sequence[Segment]) -> str:
    """One hash of a recording's segments, by which a later run knows them again."""
    text = "\n".join(f"{segment.row} {segment.start_s!r} {segment.end_s!r}" for segment in segments)
    return sha256(text.encode()).hexdigest()


def _rows(table: Path) -> list[Row]:
    if table.suffix.lower() == ".parquet":
        return _parquet_rows(table)
    text = read_text(table, LARGEST_TABLE).removeprefix("\ufeff")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("\\")]
    if not lines:
        return []
    separator = next((mark for mark in "\t;," if mark in lines[0]), ",")
    with reading(table, UsageError, ADVICE, what="a table of segments"):
        cells = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=separator))
    header = [name.strip().lower() for name in cells[0]]
    if separator == "\t" and len(header) >= 2 and _is_number(header[0]) and _is_number(header[1]):  # Audacity
        return [{"start_s": row[0], "end_s": row[1] if len(row) > 1 else ""} for row in cells]
    return [dict(zip(header, map(str.strip, row), strict=False)) for row in cells[1:]]


def _parquet_rows(table: Path) -> list[Row]:
    from hear_models.corpus.parquet import import_pyarrow

    _, parquet = import_pyarrow()
    known = {*PATHS, *STARTS, *ENDS, OFFSET}
    with (
        reading(table, UsageError, ADVICE, what="a Parquet table"),
        open_plain(table) as file,
        parquet.ParquetFile(file) as reader,
    ):
        names = [name for name in reader.schema_arrow.names if name.lower() in known]
        found: list[Row] = []
        n_bytes = 0
        for batch in reader.iter_batches(ROWS_AT_ONCE, columns=names):
            n_bytes += sum(map(_unfolded, batch.columns))
            if n_bytes > LARGEST_PARQUET:
                raise ValueError(f"it unfolds to more than {LARGEST_PARQUET:,} bytes")
            found += batch.to_pylist()
    return [{name.lower(): value for name, value in row.items()} for row in found]


def _unfolded(column: Any) -> int:
    """Bytes of a column's values; at most, where Arrow keeps each text once."""
    texts = getattr(column, "dictionary", None)
    if texts is None:
        return int(column.nbytes)
    return len(column) * max((len(str(text)) for text in texts.to_pylist()), default=0)


def _time(row: Row, names: Sequence[str], table: str | os.PathLike[str], number: int) -> float:
    for name in names:
        if row.get(name) not in (None, ""):
            text = row[name]
            if _is_number(text):
                return float(str(text).replace(",", "."))
            raise UsageError(f"{shown(table)}: row {number} has {text!r} as {name}. Give seconds.")
    raise UsageError(f"{shown(table)}: row {number} has no {names[0]}. {ADVICE}")


def _is_number(text: Any) -> bool:
    try:
        return math.isfinite(float(str(text).replace(",", ".")))
    except ValueError:
        return False
