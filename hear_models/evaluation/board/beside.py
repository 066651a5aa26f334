"""Published figures beside ours: which row is a model's own, and which others stand below as a measure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from hear_models.checkpoints.manifest import read_manifests
from hear_models.errors import UsageError
from hear_models.evaluation.board.about import manifest_of
from hear_models.evaluation.board.choosing import Options, is_named
from hear_models.evaluation.board.published import Published, PublishedRow, PublishedTable, find, lookup, tables
from hear_models.evaluation.runs.record import ModelFacts

ALL, NONE = "all", "none"
MOST = 10  # rows in a table that is read from top to bottom
SAYS_LITTLE = frozenset(
    (
        *("base", "tiny", "small", "medium", "large", "huge", "mini", "nano", "model"),
        *("audio", "music", "speech", "lab", "time", "avg", "cat", "fuse"),
    )
)
_LEADING = re.compile(r"^(hear_?configs|hear_?baseline|hear_?(20)?21|hear)[._-]*")
_ENDING = re.compile(r"[._-]*(hear_?(20)?21|hear(_api)?)$")


# ------------------------------------------------------------------------------------------------- a model's own row
@dataclass(frozen=True)
class Own:
    """The row of published figures of a model, None: there is none, `why` says so; `by_name`: nobody named it."""

    key: str | None
    by_name: bool = False
    why: str = "no published scores are known for this model"


def own_row(model: ModelFacts, imported: bool, protocol: str, options: Options) -> Own:
    """A model's published row: as the options say, as its manifest says, or the one row of its name.

    An imported result says nothing but a name, so there the names of this package's models count too.
    Raises UsageError for a key that does not exist.
    """
    for name, key in options.keys.items():
        if is_named(model, name):
            find(key)
            return Own(key)
    if model.family is not None:
        manifest = manifest_of(model)
        return Own(manifest.published_scores if manifest else None)
    if imported:
        for name, manifest in read_manifests().items():
            if _compact(name) == _compact(model.name) and manifest.published_scores:
                return Own(manifest.published_scores, by_name=True)
    return _row_called(model.name, protocol)


@cache
def _row_called(name: str, protocol: str) -> Own:
    """The one row that a name means, of the table's protocol if there is one."""
    bare = _ENDING.sub("", _LEADING.sub("", name.lower()))
    words = _words(bare)
    telling = [word for word in words if word not in SAYS_LITTLE and len(word) > 2]
    if not telling:
        return Own(None)
    rows = [(t, r) for t, r in _rows() if words <= _words(r.model) or _compact(bare) == _compact(r.model)]
    rows = [(t, r) for t, r in rows if _compact(bare) == _compact(r.model)] or rows
    rows = [(t, r) for t, r in rows if t.protocol == protocol] or rows
    if len(rows) == 1:
        return Own(rows[0][1].key, by_name=True)
    if not rows:
        return Own(None)
    several = ", ".join(sorted(row.model for _, row in rows)[:4])
    return Own(None, why=f"several published rows could be this model ({several}); --published MODEL=KEY names one")


def _rows() -> Iterable[tuple[PublishedTable, PublishedRow]]:
    """The rows with a figure on a task of HEAR."""
    for table in tables():
        if any(column.task for column in table.columns.values()):
            yield from ((table, row) for row in table.rows)


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", name.lower()))


def _compact(name: str) -> str:
    return "".join(re.findall(r"[a-z0-9]+", name.lower()))


# -------------------------------------------------------------------------------------------------------- other rows
@dataclass(frozen=True)
class PublishedLine:
    """A published row below ours: its figures by task, in fractions; `apart` says what is not comparable with ours."""

    label: str
    key: str
    table: PublishedTable
    figures: Mapping[str, Published]
    apart: str


def rows_beside(tasks: Mapping[str, str], protocol: str, wanted: Sequence[str] = ()) -> list[PublishedLine]:
    """Published rows with figures on `tasks` (name → metric), those of the protocol first, then by their mean.

    Args:
        wanted: names of models or keys, * stands for anything; "all", "none". Empty: every table but ablations, rows
            with figures on at least half of the tasks.

    Raises UsageError for a name that no row has.
    """
    if list(wanted) == [NONE]:
        return []
    found: list[PublishedLine] = []
    for table, row in _rows():
        ablation = len({other.group for other in table.rows}) > 1
        if not wanted and ablation:
            continue
        if wanted and ALL not in wanted and not any(_is_meant(row, name) for name in wanted):
            continue
        figures = {task: lookup(row.key, task, metric) for task, metric in tasks.items()}
        there = sum(figure.value is not None for figure in figures.values())
        if there and (wanted or 2 * there >= len(tasks)):
            label = f"{row.model}, {row.group}" if row.group and ablation else row.model
            found.append(PublishedLine(label, row.key, table, figures, _apart(table, protocol)))
    for name in wanted:
        if name not in (ALL, NONE) and not any(_is_meant(row, name) for _, row in _rows()):
            raise UsageError(f"no published row is called {name!r}. `hear-models leaderboard --keys` lists all.")
    labels = [line.label for line in found]
    found = [_renamed(line) if labels.count(line.label) > 1 else line for line in found]
    return sorted(found, key=lambda line: (line.table.protocol != protocol, -_mean(line), line.label))


def _is_meant(row: PublishedRow, name: str) -> bool:
    wanted = name.lower()
    return any(fnmatchcase(said.lower(), wanted) for said in (row.model, row.key)) or _compact(row.model) == _compact(
        name
    )


def _renamed(line: PublishedLine) -> PublishedLine:
    return PublishedLine(f"{line.label} ({line.table.name})", line.key, line.table, line.figures, line.apart)


def _mean(line: PublishedLine) -> float:
    values = [figure.value for figure in line.figures.values() if figure.value is not None]
    return sum(values) / len(values)


def _apart(table: PublishedTable, protocol: str) -> str:
    """What keeps a table's figures from being compared with ours, as a clause."""
    parts = []
    if table.protocol != protocol:
        parts.append(f"not comparable: protocol {table.protocol or 'not stated'}, ours is {protocol}")
    statistic = table.statistic
    if statistic is None or statistic.samples is None:
        parts.append("over what the figures are averaged is not stated")
    else:
        parts.append(f"{statistic.samples} run{'s' * (statistic.samples != 1)} each")
    return "; ".join(parts)
