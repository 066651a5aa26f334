"""The CSV of `hear-models tasks new`: a row a clip (or an event), with labels and perhaps splits, groups and times."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field
from pathlib import Path

from hear_models.errors import FileError, UsageError
from hear_models.foreign import read_text

COLUMNS = ("file", "label", "split", "fold", "group", "start_ms", "end_ms")
ALSO = {"filename": "file", "path": "file", "labels": "label", "start": "start_ms", "end": "end_ms"}
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
LABEL_SEPARATOR = ";"

LARGEST_TABLE = 1 << 29  # bytes


@dataclass
class Clip:
    """A clip as the table describes it."""

    file: str  # as written in the table
    labels: list[str] = field(default_factory=list)
    events: list[tuple[str, float, float]] = field(default_factory=list)  # label, start and end in ms
    split: str | None = None
    fold: str | None = None
    group: str | None = None

    @property
    def said(self) -> set[str]:
        """The different labels."""
        return {*self.labels, *(event[0] for event in self.events)}


@dataclass(frozen=True)
class Table:
    """All clips in the order of their first rows, which columns there were, and which were not understood."""

    clips: list[Clip]
    columns: frozenset[str]
    ignored: list[str]

    @property
    def has_events(self) -> bool:
        return "start_ms" in self.columns


def read_table(path: str | Path) -> Table:
    """Read the CSV (a file ending in .tsv: tab-separated). Raises UsageError naming the line and what is wrong."""
    separator = "\t" if str(path).lower().endswith(".tsv") else ","
    try:
        text = read_text(path, LARGEST_TABLE).removeprefix("\ufeff")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except FileError as error:
        raise UsageError(f"{str(error).rpartition('. ')[0]}. Give a CSV file in UTF-8.") from error
    except csv.Error as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} cannot be read: {reason}. Give a CSV file in UTF-8.") from error
    if not rows:
        raise UsageError(f"{path} is empty. The first line must name the columns, for instance file,label.")
    header = [name.strip().lower() for name in rows[0][1]]
    columns = [name if name in COLUMNS else ALSO.get(name, "") for name in header]
    _check_columns(path, header, columns)
    clips: dict[str, Clip] = {}
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise UsageError(f"{path}, line {line}: {len(row)} fields, the header has {len(header)}. Repair the line.")
        cells = {column: cell.strip() for column, cell in zip(columns, row, strict=True) if column}
        _add(clips, cells, f"{path}, line {line}")
    if not clips:
        raise UsageError(f"{path} has a header and no rows. Add a row a clip.")
    ignored = [name for name, column in zip(header, columns, strict=True) if not column]
    return Table(list(clips.values()), frozenset(filter(None, columns)), ignored)


def _check_columns(path: str | Path, header: list[str], columns: list[str]) -> None:
    for needed in ("file", "label"):
        if needed not in columns:
            raise UsageError(
                f"{path} has no column {needed!r} (found: {', '.join(header)}). Name it there; commas separate."
            )
    known = [column for column in columns if column]
    for column in known:
        if known.count(column) > 1:
            raise UsageError(f"{path} has two columns for {column!r} ({', '.join(header)}). Keep one.")
    if ("start_ms" in known) != ("end_ms" in known):
        raise UsageError(f"{path} has only one of start_ms and end_ms. Event tasks need both.")
    if "split" in known and "fold" in known:
        raise UsageError(f"{path} has a column split and a column fold. Keep one.")


def _add(clips: dict[str, Clip], cells: dict[str, str], where: str) -> None:
    if not cells["file"]:
        raise UsageError(f"{where}: no file name. Repair the line.")
    first = cells["file"] not in clips
    clip = clips.setdefault(cells["file"], Clip(cells["file"]))
    for column in ("split", "fold", "group"):
        value: str | None = cells.get(column) or None
        if column == "split" and value is not None:
            value = SPLIT_NAMES.get(value.lower())
            if value is None:
                raise UsageError(f"{where}: the split {cells['split']!r} is unknown. Use train, valid or test.")
        if column in cells and column != "group" and value is None:
            raise UsageError(f"{where}: no {column}. Every row needs one, or none: then drop the column.")
        if not first and value != getattr(clip, column):
            raise UsageError(f"{where}: {cells['file']!r} had another {column} in an earlier row. Make them the same.")
        setattr(clip, column, value)
    if "start_ms" not in cells:
        labels = [label.strip() for label in cells["label"].split(LABEL_SEPARATOR)]
        clip.labels += [label for label in labels if label and label not in clip.labels]
        return
    if not cells["label"]:  # a clip without events
        return
    try:
        start, end = float(cells["start_ms"]), float(cells["end_ms"])
    except ValueError as error:
        raise UsageError(f"{where}: start_ms and end_ms must be numbers (milliseconds). Repair the line.") from error
    if not 0 <= start <= end < math.inf:
        raise UsageError(f"{where}: an event from {start:g} to {end:g} ms. It needs 0 <= start <= end.")
    clip.events.append((cells["label"], start, end))
