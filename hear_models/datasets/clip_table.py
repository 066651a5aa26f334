"""Tables of labelled clips: a row a clip (or an event), with labels and perhaps splits, groups and times.

One dialect for whatever takes such a table, in the forms that people have them: separated by commas, semicolons, tabs
or bars, with our names of columns or those of well-known data sets.
"""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from hear_models.errors import FileError, UsageError
from hear_models.foreign import read_bytes, read_text

COLUMNS = ("file", "label", "split", "fold", "group", "start_ms", "end_ms")
ALSO = {"filename": "file", "path": "file", "labels": "label"}
IF_NO_OTHER = {  # other names for a column, where none has a better one; the first of them counts
    "file": (
        *("files", "fname", "file_name", "filepath", "file_path", "audio", "audio_file", "audio_path", "recording"),
        *("slice_file_name", "wav"),
    ),
    "label": (
        *("event_label", "event_labels", "category", "class", "class_name", "species", "primary_label", "tag", "tags"),
        *("classes", "categories"),
    ),
    "group": ("speaker", "speaker_id", "client_id", "recorder", "site"),
}
SEPARATORS = ",;\t|"
TIME = re.compile(
    r"(?:event[ _-]?)?(?P<edge>start|begin|onset|end|stop|offset)(?:[ _-]?time)?"
    r"(?:[ _-]?\(?(?P<unit>ms|msecs?|milliseconds?|s|secs?|seconds?)\)?)?"
)
FIRST_EDGES = ("start", "begin", "onset")
SECONDS_BY_CUSTOM = ("onset", "offset")  # of annotations of sound events
MS_A_SECOND = 1000.0
UNITS = "Name them start_s,end_s for seconds or start_ms,end_ms for milliseconds; onset,offset are seconds"
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
LABEL_SEPARATOR = ";"
LABEL_COMMA = re.compile(r",(?! )")  # names of AudioSet's classes have commas, each followed by a space
PLURALS = ("labels", "tags", "classes", "categories", "event_labels")
BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")  # of UTF-16, Excel's "Unicode text"

LARGEST_TABLE = 1 << 29  # bytes
RECORDING = re.compile(r".+\.[a-z0-9]{2,4}")  # a name with an ending


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
    time_ms: float = 1.0  # the unit in which the table gives times, in ms

    @property
    def has_events(self) -> bool:
        return "start_ms" in self.columns


def read_table(path: str | Path) -> Table:
    """Read a table of clips; the separator is the one that makes sense of its header.

    Several labels of a clip are joined by ";", or where a column of a plural name (`labels`) has none of these by ","
    without a space. Raises UsageError naming the line and what is wrong.
    """
    text = _text(path)
    separators = "\t" + SEPARATORS if str(path).lower().endswith(".tsv") else SEPARATORS
    if named := re.match(r"sep=(.)\r?\n", text, re.IGNORECASE):  # a hint of Excel's
        separators, text = named[1], text[named.end() :]
    first = text.lstrip("\r\n").partition("\n")[0].rstrip("\r")
    separator = max(separators, key=lambda mark: _sense(first, mark))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise UsageError(f"{path} cannot be read: {error}. Give a CSV file in UTF-8.") from error
    if not rows:
        raise UsageError(f"{path} is empty. The first line must name the columns, for instance file,label.")
    header = [name.strip().lower() for name in rows[0][1]]
    columns = _columns(header)
    if _is_row(header, columns):
        header, columns = ["file", "label"], ["file", "label"]
    else:
        rows = rows[1:]
    unit_ms = _time_unit(path, header, columns)
    _check_columns(path, header, columns)
    clips: dict[str, Clip] = {}
    by_comma = _joined_by_commas(header, columns, [row for _, row in rows])
    for line, row in rows:
        if len(row) != len(header):
            raise UsageError(f"{path}, line {line}: {len(row)} fields, the header has {len(header)}. Repair the line.")
        cells = {column: cell.strip() for column, cell in zip(columns, row, strict=True) if column}
        _add(clips, cells, f"{path}, line {line}", unit_ms, by_comma)
    if not clips:
        raise UsageError(f"{path} has a header and no rows. Add a row a clip.")
    ignored = [name for name, column in zip(header, columns, strict=True) if not column]
    return Table(list(clips.values()), frozenset(filter(None, columns)), ignored, unit_ms)


def _text(path: str | Path) -> str:
    try:
        data = read_bytes(path, LARGEST_TABLE)
        if data.startswith(BYTE_ORDER_MARKS):
            return data.decode("utf-16")
        return read_text(path, LARGEST_TABLE)
    except FileError as error:
        advice = "Give a CSV file in UTF-8 (Excel: save as CSV UTF-8)."
        raise UsageError(f"{str(error).rpartition('. ')[0]}. {advice}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is neither UTF-8 nor UTF-16 text. Give a CSV file in UTF-8.") from error


def _sense(line: str, separator: str) -> tuple[int, int]:
    """How many columns of a header are understood if its fields are separated so, and how many fields there are."""
    try:
        header = [name.strip().lower() for name in next(csv.reader([line], delimiter=separator))]
    except (csv.Error, StopIteration):
        return 0, 0
    return len({*filter(None, _columns(header))}), len(header)


def _is_row(header: list[str], columns: list[str]) -> bool:
    """Whether the first line of two fields is no header but a recording and its label."""
    return len(header) == 2 and not any(columns) and RECORDING.fullmatch(header[0]) is not None


def _joined_by_commas(header: list[str], columns: list[str], rows: list[list[str]]) -> bool:
    if "label" not in columns or header[place := columns.index("label")] not in PLURALS:
        return False
    return not any(LABEL_SEPARATOR in row[place] for row in rows if len(row) > place)


def _columns(header: list[str]) -> list[str]:
    """What each column is; "" for one that is not understood."""
    columns = [name if name in COLUMNS else ALSO.get(name, "") for name in header]
    for column, names in IF_NO_OTHER.items():
        found = next((name for name in names if name in header), None)
        if found is not None and column not in columns:
            columns[header.index(found)] = column
    for k, name in enumerate(header):
        if _ms(name):
            columns[k] = _edge(name)
    return columns


def _time_unit(path: str | Path, header: list[str], columns: list[str]) -> float:
    """The unit of the times in ms; UsageError where the names do not say it, or say two."""
    bare = [name for name in header if _edge(name) and not _ms(name) and _edge(name) not in columns]
    if bare:
        says = "does not say its unit" if len(bare) == 1 else "do not say their unit"
        raise UsageError(f"{path}: {' and '.join(map(repr, bare))} {says}: seconds or milliseconds? {UNITS}.")
    units = {_ms(name) for name, column in zip(header, columns, strict=True) if column in ("start_ms", "end_ms")}
    if len(units) > 1:
        raise UsageError(f"{path} gives times in seconds and in milliseconds ({', '.join(header)}). Use one unit.")
    return units.pop() if units else 1.0


def _edge(name: str) -> str:
    """start_ms or end_ms for the name of a column of times, else ""."""
    match = TIME.fullmatch(name)
    return "" if match is None else "start_ms" if match["edge"] in FIRST_EDGES else "end_ms"


def _ms(name: str) -> float:
    """The unit that the name of a column of times says, in ms; 0 if it says none."""
    match = TIME.fullmatch(name)
    if match is None:
        return 0.0
    unit = match["unit"] or ("s" if match["edge"] in SECONDS_BY_CUSTOM else "")
    return 1.0 if unit.startswith("m") else MS_A_SECOND if unit else 0.0


def _check_columns(path: str | Path, header: list[str], columns: list[str]) -> None:
    for needed in ("file", "label"):
        if needed not in columns:
            raise UsageError(
                f"{path} has no column {needed!r} (found: {', '.join(header)[:200]}). Its first line must name the "
                "columns, for instance file,label."
            )
    known = [column for column in columns if column]
    for column in known:
        if known.count(column) > 1:
            raise UsageError(f"{path} has two columns for {column!r} ({', '.join(header)}). Keep one.")
    if ("start_ms" in known) != ("end_ms" in known):
        raise UsageError(f"{path} has only one of start_ms and end_ms, or of start_s and end_s. Event tasks need both.")
    if "split" in known and "fold" in known:
        raise UsageError(f"{path} has a column split and a column fold. Keep one.")


def _add(clips: dict[str, Clip], cells: dict[str, str], where: str, unit_ms: float, by_comma: bool) -> None:
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
        said = LABEL_COMMA.split(cells["label"]) if by_comma else cells["label"].split(LABEL_SEPARATOR)
        labels = [label.strip() for label in said]
        clip.labels += [label for label in labels if label and label not in clip.labels]
        return
    if not cells["label"]:  # a clip without events
        return
    try:
        start, end = (round(float(cells[edge]) * unit_ms, 6) for edge in ("start_ms", "end_ms"))
    except (ValueError, OverflowError) as error:
        unit = "seconds" if unit_ms == MS_A_SECOND else "milliseconds"
        raise UsageError(f"{where}: start and end must be numbers ({unit}). Repair the line.") from error
    if not 0 <= start <= end < math.inf:
        shown = f"{start / unit_ms:g} to {end / unit_ms:g} {'s' if unit_ms == MS_A_SECOND else 'ms'}"
        raise UsageError(f"{where}: an event from {shown}. It needs 0 <= start <= end.")
    clip.events.append((cells["label"], start, end))
