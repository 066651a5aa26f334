"""Published scores as data: benchmarks/published/*.json, read strictly, found by key, compared with ours.

The layout ("hear-models/published/1") is explained in docs/leaderboard.md. A key names a row as
"TOPIC / TABLE / GROUP / MODEL", or "TOPIC / TABLE / MODEL" where the table has no groups: what manifests in weights/
carry as `published_scores`. A figure that is not there has a reason instead of a value; nobody fills it in by guessing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from hear_models.errors import FileError, HearModelsError, UsageError
from hear_models.evaluation.board.statistics import Interval
from hear_models.foreign import parse_json, read_text
from hear_models.resources import resource

SCHEMA = "hear-models/published/1"
SEPARATOR = " / "
PERCENT, FRACTION = "percent", "fraction"
EXPECTED_POINTS = 0.4  # the authors' own second evaluation of the published MW-MAE weights: at most 0.4 points off
REPRODUCED, NOT_REPRODUCED, NO_VERDICT = "reproduced", "not reproduced", "not comparable"


class PublishedError(HearModelsError):
    """A file of published scores is not laid out as documented."""


@dataclass(frozen=True)
class Statistic:
    """What the figures are: `value` and `spread` in words, of how many samples (None: not stated), decimals."""

    value: str
    spread: str | None = None
    samples: int | None = None
    decimals: int | None = None  # None: printed unrounded
    note: str | None = None


@dataclass(frozen=True)
class PublishedColumn:
    """`task` is a HEAR task's folder name, None for anything else; `metric` as the kit names it where it is a kit's."""

    task: str | None
    metric: str
    label: str


@dataclass(frozen=True)
class Figure:
    """One printed figure in its table's unit, or the reason why there is none."""

    value: float | None
    spread: float | None = None
    absent: str | None = None


@dataclass(frozen=True)
class PublishedRow:
    """A table's line: `figures` by column name."""

    key: str
    group: str | None
    model: str
    figures: dict[str, Figure]
    note: str | None = None


@dataclass(frozen=True)
class PublishedTable:
    """One published table. `protocol` is "paper" or "hear" where it is one of the two, None where it is not known.

    `absent` says why a table that exists has no rows here.
    """

    topic: str
    paper: str
    name: str
    about: str
    source: str | None
    protocol: str | None
    unit: str
    statistic: Statistic | None
    columns: dict[str, PublishedColumn]
    rows: list[PublishedRow]
    absent: str | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Published:
    """A figure found for one model on one task, in fractions, with everything needed to cite and to judge it."""

    key: str | None
    table: PublishedTable | None
    value: float | None  # fraction
    spread: float | None = None  # fraction
    absent: str | None = None

    @property
    def decimals(self) -> int | None:
        """Printed decimals, of the figure in percent."""
        if self.table is None or self.table.statistic is None or self.table.statistic.decimals is None:
            return None
        return self.table.statistic.decimals - (2 if self.table.unit == FRACTION else 0)


@dataclass(frozen=True)
class Verdict:
    """`word` is REPRODUCED, NOT_REPRODUCED or NO_VERDICT; `reason` is a clause that explains it."""

    word: str
    reason: str
    difference_points: float | None = None  # ours minus published
    allowed_points: float | None = None


# --------------------------------------------------------------------------------------------------------- looking up
def tables(folder: Path | None = None) -> list[PublishedTable]:
    """Every table of every file in `folder` (default: benchmarks/published), files in the order of their names."""
    return list(_all_tables(folder or resource("benchmarks/published")))


def find(key: str, folder: Path | None = None) -> tuple[PublishedTable, PublishedRow]:
    """The row of that key; UsageError says which part of the key is not known."""
    parts = key.split(SEPARATOR)
    known = tables(folder)
    for length, what in ((1, "topic"), (2, "table")):
        names = {SEPARATOR.join((table.topic, table.name)[:length]) for table in known}
        if SEPARATOR.join(parts[:length]) not in names:
            siblings = sorted(name for name in names if length == 1 or name.startswith(parts[0] + SEPARATOR))
            raise UsageError(f"No published {what} has the key {key!r}. Known: {'; '.join(siblings)}.")
    for table in known:
        for row in table.rows:
            if row.key == key:
                return table, row
    raise UsageError(f"No row of published scores has the key {key!r}. `hear-models leaderboard --keys` lists all.")


def lookup(key: str | None, task: str, metric: str, folder: Path | None = None) -> Published:
    """The figure of `key` on the HEAR task folder `task`; without one, the reason.

    Raises UsageError for a key that does not exist.
    """
    if key is None:
        return Published(None, None, None, absent="no published scores are known for this model")
    table, row = find(key, folder)
    for name, column in table.columns.items():
        if column.task == task and column.metric == metric:
            figure = row.figures[name]
            if figure.value is None:
                return Published(key, table, None, absent=figure.absent)
            scale = 0.01 if table.unit == PERCENT else 1.0
            return Published(key, table, figure.value * scale, None if figure.spread is None else figure.spread * scale)
    return Published(key, table, None, absent=f"{table.topic}, {table.name} has no column of {metric} on this task")


@dataclass(frozen=True)
class PublicBest:
    """The best entry of the public leaderboard on one task; `entries` have a score there."""

    model: str
    value: float  # fraction
    entries: int


def public_best(task: str) -> PublicBest | None:
    """The best of the public HEAR leaderboard (protocol "hear", one run) on a task folder; None without a column."""
    for table in tables():
        for name, column in table.columns.items():
            if table.topic == "hear_leaderboard" and column.task == task:
                scored = [(row.figures[name].value, row.model) for row in table.rows]
                there = [(value, model) for value, model in scored if value is not None]
                value, model = max(there)
                return PublicBest(model, value, len(there))
    return None


# ------------------------------------------------------------------------------------------------------------ judging
def verdict(ours: Interval, protocol: str, published: Published) -> Verdict:
    """Whether our mean of fractions agrees with a published figure.

    Reproduced: both rounded to the published decimals differ by at most 0.4 points, or by at most the sum of both 95 %
    half widths, whichever is more. 0.4 points is how far the authors' second evaluation of the published MW-MAE weights
    lay from the paper. Not comparable: another protocol, or fewer seeds than the published figure
    has, because the interval of few seeds is so wide that everything lies within it.
    """
    table = published.table
    if published.value is None or table is None:
        return Verdict(NO_VERDICT, published.absent or "no published figure")
    if table.protocol != protocol:
        return Verdict(NO_VERDICT, f"published with the protocol {table.protocol or 'not stated'}, ours is {protocol}")
    samples = table.statistic.samples if table.statistic else None
    if samples is None:
        return Verdict(NO_VERDICT, "over what the published figure is averaged is not stated")
    if ours.n < samples:
        return Verdict(NO_VERDICT, f"{ours.n} of the {samples} seeds of the published figure")
    mean, other = 100 * ours.mean, 100 * published.value
    widths = [100 * width for width in (ours.half_width, published.spread) if width is not None]
    if published.decimals is not None:
        mean, other = round(mean, published.decimals), round(other, published.decimals)
    difference = mean - other
    allowed = max(EXPECTED_POINTS, sum(widths))
    reason = f"{difference:+.1f} points, allowed {allowed:.1f}"
    within = abs(difference) <= allowed + 1e-9  # 96.3 - 95.9 is 0.4 only nearly
    return Verdict(REPRODUCED if within else NOT_REPRODUCED, reason, difference, allowed)


# ------------------------------------------------------------------------------------------------------------ reading
@lru_cache(maxsize=8)
def _all_tables(folder: Path) -> tuple[PublishedTable, ...]:
    found: list[PublishedTable] = []
    for path in sorted(folder.glob("*.json")):
        try:
            content = parse_json(read_text(path), constants=False)
            if isinstance(content, dict) and content.get("schema") == SCHEMA:  # hear_tasks.json is of another kind
                found.extend(_table(content, table) for table in content["tables"])
        except (FileError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise PublishedError(
                f"{path} is not laid out as docs/leaderboard.md says: {error!r}. Correct it."
            ) from error
    keys = [row.key for table in found for row in table.rows]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise PublishedError(f"two rows have the key {min(twice)!r} in {folder}. Give one another group or model.")
    return tuple(found)


def _table(content: dict[str, Any], table: dict[str, Any]) -> PublishedTable:
    if table["unit"] not in (PERCENT, FRACTION):
        raise ValueError(f"unit {table['unit']!r} is neither {PERCENT} nor {FRACTION}")
    if bool(table["rows"]) == bool(table.get("absent")):
        raise ValueError(f"{table['name']}: either rows, or `absent` with the reason")
    columns = {name: PublishedColumn(**column) for name, column in table["columns"].items()}
    statistic = Statistic(**table["statistic"]) if table["statistic"] else None
    start = (content["topic"], table["name"])
    return PublishedTable(
        topic=content["topic"],
        paper=content["paper"],
        name=table["name"],
        about=table["about"],
        source=table["source"],
        protocol=table["protocol"],
        unit=table["unit"],
        statistic=statistic,
        columns=columns,
        rows=[_row(start, row, columns) for row in table["rows"]],
        absent=table.get("absent"),
        notes=list(table.get("notes", [])),
    )


def _row(start: Sequence[str], row: dict[str, Any], columns: dict[str, PublishedColumn]) -> PublishedRow:
    group, model = row.get("group"), row["model"]
    key = SEPARATOR.join([*start, *([group] if group else []), model])
    figures = {name: _figure(value, f"{key}, {name}") for name, value in row["values"].items()}
    if missing := columns.keys() ^ figures.keys():
        raise ValueError(f"{key}: columns and values differ in {sorted(missing)}")
    return PublishedRow(key, group, model, figures, row.get("note"))


def _figure(value: Any, where: str) -> Figure:
    if isinstance(value, dict) and list(value) == ["absent"] and isinstance(value["absent"], str) and value["absent"]:
        return Figure(None, None, value["absent"])
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], (int, float)):
        return Figure(float(value[0]), None if value[1] is None else float(value[1]))
    raise ValueError(f"{where}: {value!r} is neither [value, spread] nor {{'absent': reason}}")
