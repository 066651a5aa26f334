"""From records to tables: what may stand in one table, and every figure of it.

One table holds one protocol and one origin of tasks, and several judges only where they are known to agree bit for bit.
Shuffled labels never enter; quick looks get tables of their own.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from hear_models.errors import UsageError
from hear_models.evaluation.board.about import About, about, dates
from hear_models.evaluation.board.beside import Own, PublishedLine, own_row, rows_beside
from hear_models.evaluation.board.bootstrap import Comparison
from hear_models.evaluation.board.choosing import Options, by_judge, choose, listed, same_bits_as
from hear_models.evaluation.board.identity import identities, labels
from hear_models.evaluation.board.published import NO_VERDICT, Published, Verdict, lookup, verdict
from hear_models.evaluation.board.results import Result
from hear_models.evaluation.board.statistics import Aggregate, Interval, aggregate, interval
from hear_models.evaluation.board.ties import Marked, mark_ties
from hear_models.evaluation.judges.protocols import NOT_COMPARABLE
from hear_models.evaluation.runs.record import IMPORTED, ModelFacts
from hear_models.evaluation.runs.summary import seeds_text
from hear_models.tasks.known_tasks import known_tasks
from hear_models.tasks.origin import OFFICIAL, SYNTHETIC, UNOFFICIAL, USER

ORIGINS = {
    OFFICIAL: "HEAR tasks",
    UNOFFICIAL: "unofficial tasks: HEAR names, but other data or data not seen",
    SYNTHETIC: "toy tasks of generated sound",
    USER: "tasks of the user's own",
}
BEST, TIED, WORSE = "best", "tied", "worse"


@dataclass(frozen=True)
class Cell:
    """A model on a task. `interval` is in the metric's unit (fractions); `mark` is BEST, TIED, WORSE or None."""

    interval: Interval
    scores: dict[int, float]  # by seed
    judges: tuple[str, ...]
    mark: str | None = None
    comparison: Comparison | None = None
    published: Published | None = None  # None: nothing is printed beside this task at all
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Undefined:
    """A model on a task with seeds that have no score: how many seeds it has there, and which have none, and why."""

    seeds: int
    why: str


@dataclass(frozen=True)
class ModelRow:
    """A model of one table; `label` is unique in it."""

    label: str
    model: ModelFacts
    own: Own  # its published scores
    about: About = field(default_factory=About)
    rank: str = ""  # by s(m) as printed, "2=" where several have it; "" without s(m)

    @property
    def key(self) -> str | None:
        """Of its published scores."""
        return self.own.key

    @property
    def remarks(self) -> list[str]:
        """What a reader must know: random weights."""
        return [] if self.model.trained else ["random weights, not trained"]


@dataclass(frozen=True)
class TaskColumn:
    """A task of one table; `ties` says why no model is marked, None where they are."""

    name: str
    short: str
    metric: str
    lower_is_better: bool
    counts: dict[str, int]
    ties: str | None = None

    @property
    def percent(self) -> bool:
        """Whether the metric is a share: printed times 100."""
        return self.metric != "d_prime"


@dataclass(frozen=True)
class Table:
    """Models x tasks of one protocol and one origin. Rows are sorted: best s(m) first, else by name."""

    protocol: str
    origin: str
    judges: tuple[str, ...]
    tasks: list[TaskColumn]
    models: list[ModelRow]
    cells: dict[tuple[str, str], Cell]  # (label, task name)
    aggregate: Aggregate | None
    notes: list[str]
    resamples: int | None = None  # as asked for; None: the default
    undefined: dict[tuple[str, str], Undefined] = field(
        default_factory=dict
    )  # (label, task name); a cell is of the other seeds
    beside: list[PublishedLine] = field(default_factory=list)
    dates: str = ""  # of the results

    @property
    def quick_look(self) -> bool:
        return self.protocol == NOT_COMPARABLE

    @property
    def title(self) -> str:
        if self.quick_look:
            return f"Quick look ({', '.join(self.judges)}), {ORIGINS[self.origin]}: not comparable with any leaderboard"
        return f"Protocol {self.protocol}, {ORIGINS[self.origin]}"


@dataclass(frozen=True)
class Board:
    """Everything to print: tables, and notes on what was left out."""

    tables: list[Table]
    notes: list[str]
    title: str = ""


def build(
    results: Iterable[Result], options: Options | None = None, progress: Callable[[str], None] | None = None
) -> Board:
    """The tables of these results.

    Raises UsageError if nothing is left to show, if a model with random weights is among them and was not allowed, or
    if two records contradict each other.
    """
    options = options or Options()
    chosen, notes = choose(list(results), options)
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in chosen:
        groups[(result.record.protocol, result.record.task.origin)].append(result)
    tables = []
    for protocol, origin in sorted(
        groups, key=lambda key: (key[0] == NOT_COMPARABLE, key[0], list(ORIGINS).index(key[1]))
    ):
        for part in by_judge(groups[(protocol, origin)], notes):
            tables.append(_table(protocol, origin, part, options, progress))
    return Board(tables, notes, options.title)


# --------------------------------------------------------------------------------------------------------- one table
def _table(
    protocol: str,
    origin: str,
    results: list[Result],
    options: Options,
    progress: Callable[[str], None] | None,
) -> Table:
    identity = identities(results)
    label_of = labels(identity(result.record) for result in results)
    of: dict[str, dict[str, dict[int, Result]]] = defaultdict(lambda: defaultdict(dict))  # label → task → seed
    for result in results:
        _place(of[label_of[identity(result.record)]][result.record.task.name], result)
    models = {label: next(iter(next(iter(tasks.values())).values())).record.model for label, tasks in of.items()}
    columns = _columns(of)
    undefined = {
        (label, task): Undefined(len(seeds), why)
        for label, tasks in of.items()
        for task, seeds in tasks.items()
        if (why := _why_undefined(seeds))
    }
    scores = {
        label: {
            task: {seed: float(r.record.score) for seed, r in sorted(seeds.items()) if r.record.score is not None}
            for task, seeds in tasks.items()
            if any(r.record.score is not None for r in seeds.values())
        }
        for label, tasks in of.items()
    }
    whole, notes = (None, []) if protocol == NOT_COMPARABLE else _aggregate(scores, columns)
    notes += _mixed_judges(of)
    shows_published = origin == OFFICIAL and protocol != NOT_COMPARABLE and options.published
    imported = all(result.record.judge.name == IMPORTED for result in results)
    rank_of = ranks(whole)
    rows = {
        label: ModelRow(
            label,
            model,
            own_row(model, imported, protocol, options) if shows_published else Own(None),
            about(model, (result for seeds in of[label].values() for result in seeds.values())),
            rank_of.get(label, ""),
        )
        for label, model in models.items()
    }
    cells = {}
    for number, column in enumerate(columns):
        of_task = {
            label: {seed: of[label][column.name][seed] for seed in tasks[column.name]}
            for label, tasks in scores.items()
            if column.name in tasks
        }
        if not of_task:
            columns[number] = replace(column, ties="no model has a score")
            continue
        intervals = {label: interval(scores[label][column.name].values()) for label in of_task}
        best = (min if column.lower_is_better else max)(intervals, key=lambda label: intervals[label].mean)
        marked = (
            Marked({}, "quick looks are not compared")
            if protocol == NOT_COMPARABLE
            else mark_ties(
                {label: list(seeds.values()) for label, seeds in of_task.items()},
                column.metric,
                best,
                options.resamples,
                progress,
            )
        )
        columns[number] = replace(column, ties=marked.reason)
        for label, seeds in of_task.items():
            cell = Cell(
                interval=intervals[label],
                scores=scores[label][column.name],
                judges=tuple(sorted({result.record.judge.name for result in seeds.values()})),
                mark=None if protocol == NOT_COMPARABLE or len(of_task) < 2 else _mark(label, best, marked),
                comparison=marked.comparisons.get(label),
            )
            if shows_published:
                cell = _with_published(cell, rows[label], column, protocol)
            cells[(label, column.name)] = cell
    order = sorted(rows, key=lambda label: (-whole.of_means[label] if whole else 0.0, label))
    judges = tuple(sorted({result.record.judge.name for result in results}))
    chosen = [rows[label] for label in order]
    return Table(
        protocol,
        origin,
        judges,
        columns,
        chosen,
        cells,
        whole,
        notes,
        options.resamples,
        undefined,
        rows_beside({c.name: c.metric for c in columns}, protocol, options.rows) if shows_published else [],
        dates(results),
    )


def ranks(whole: Aggregate | None) -> dict[str, str]:
    """By s(m) as it is printed; models that print the same share a rank: "1", "2=", "2=", "4"."""
    if whole is None:
        return {}
    printed = {label: round(value, 1) for label, value in whole.of_means.items()}
    values = list(printed.values())
    return {
        label: f"{1 + sum(other > value for other in values)}{'=' * (values.count(value) > 1)}"
        for label, value in printed.items()
    }


def _with_published(cell: Cell, row: ModelRow, column: TaskColumn, protocol: str) -> Cell:
    figure = lookup(row.key, column.name, column.metric)
    if row.key is None:
        figure = replace(figure, absent=row.own.why)
    judged = verdict(cell.interval, protocol, figure)
    if not row.model.trained:
        judged = Verdict(NO_VERDICT, "random weights, not the published ones")
    return replace(cell, published=figure, verdict=judged)


def _why_undefined(seeds: Mapping[int, Result]) -> str:
    """Which of these seeds have no score, and why; "" if all have one."""
    reasons: dict[str, list[int]] = defaultdict(list)
    for seed, result in sorted(seeds.items()):
        if result.record.score is None:
            reasons[f"{result.record.task.primary} ({result.record.why_undefined})"].append(seed)
    if not reasons:
        return ""
    return "; ".join(f"{seeds_text(of)}: {reason}" for reason, of in reasons.items())


def _mixed_judges(of: Mapping[str, Mapping[str, Mapping[int, Result]]]) -> list[str]:
    """Which means are over seeds that different versions of a judge's code scored."""
    mixed = []
    for label, tasks in of.items():
        for task, seeds in tasks.items():
            versions = {(r.record.judge.name, r.record.code_sha256) for r in seeds.values()}
            if len(versions) > len({name for name, _ in versions}):
                mixed.append(f"{label} on {task}")
    return [f"Seeds scored by different versions of a judge stand in one mean: {listed(mixed)}."] if mixed else []


def _place(seeds: dict[int, Result], result: Result) -> None:
    """Put a result at its seed; of two judges the judge of record counts; two of one judge must say the same."""
    other = seeds.setdefault(result.record.seed, result)
    if other is result:
        return
    a, b = other.record, result.record
    where = f"{b.model.name} on {b.task.name}, protocol {b.protocol}, seed {b.seed}"
    if a.judge.name == b.judge.name and (a.score != b.score or a.task.data_sha256 != b.task.data_sha256):
        raise UsageError(f"Two results contradict each other: {where} ({other.path} and {result.path}). Remove one.")
    seeds[b.seed] = result if same_bits_as(a.judge.name) == b.judge.name else other


def _columns(of: Mapping[str, Mapping[str, Mapping[int, Result]]]) -> list[TaskColumn]:
    """The tasks in the order of hear_tasks.json, others behind; UsageError if models saw different data."""
    known = list(known_tasks())
    names = sorted(
        {task for tasks in of.values() for task in tasks}, key=lambda t: (known.index(t) if t in known else 99, t)
    )
    columns = []
    for name in names:
        records = {label: [r.record for r in tasks[name].values()] for label, tasks in of.items() if name in tasks}
        for label, of_label in records.items():
            if len({record.task.data_sha256 for record in of_label}) > 1:
                raise UsageError(f"The seeds of {label} on {name} were made from different data. Evaluate it again.")
        facts = [record.task for of_label in records.values() for record in of_label]
        if len({(f.primary, f.higher_is_better, json.dumps(f.counts, sort_keys=True)) for f in facts}) > 1:
            raise UsageError(
                f"Results on {name} were made from different data: "
                f"{'; '.join(sorted({f'{f.primary}, {f.counts}' for f in facts}))}. Make a table of each."
            )
        columns.append(TaskColumn(name, _short(name), facts[0].primary, not facts[0].higher_is_better, facts[0].counts))
    shorts = [column.short for column in columns]
    return [replace(c, short=c.name) if shorts.count(c.short) > 1 else c for c in columns]


def _short(name: str) -> str:
    known = known_tasks().get(name)
    return known.short if known else name.split("-")[0]


def _aggregate(
    scores: Mapping[str, Mapping[str, Mapping[int, float]]], columns: list[TaskColumn]
) -> tuple[Aggregate | None, list[str]]:
    """s(m) over the tasks that every model has, and what a reader must know of it."""
    if len(scores) < 2:
        return None, ["No s(m): it needs at least two models."]
    common = [column.name for column in columns if all(column.name in tasks for tasks in scores.values())]
    if not common:
        return None, ["No s(m): no task has a score of every model."]
    notes = []
    if len(common) < len(columns):
        lacking = sorted(label for label, tasks in scores.items() if len(tasks) < len(columns))
        notes.append(
            f"s(m) is over the {len(common)} tasks that every model has; tasks are lacking for {', '.join(lacking)}."
        )
    lower = frozenset(column.name for column in columns if column.lower_is_better)
    whole = aggregate(scores, common, lower)
    for label, seeds in whole.seeds.items():
        every = {seed for task in common for seed in scores[label][task]}
        if set(seeds) != every:
            notes.append(
                f"{label}: the interval of s(m) is over the {len(seeds)} of {len(every)} seeds that all tasks have."
            )
    return whole, notes


def _mark(label: str, best: str, marked: Marked) -> str | None:
    if label == best:
        return BEST
    comparison = marked.comparisons.get(label)
    return None if comparison is None else TIED if comparison.tied else WORSE
