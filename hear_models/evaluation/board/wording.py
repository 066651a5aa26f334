"""How a leaderboard speaks: numbers, marks and caveats, the same in the terminal, in Markdown and on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hear_models.evaluation.board.beside import PublishedLine
from hear_models.evaluation.board.bootstrap import ALPHA, RESAMPLES
from hear_models.evaluation.board.leaderboard import BEST, ORIGINS, TIED, ModelRow, Table, TaskColumn
from hear_models.evaluation.board.published import EXPECTED_POINTS, SEPARATOR, Published, find, public_best
from hear_models.evaluation.board.statistics import Interval
from hear_models.evaluation.runs.record import IMPORTED
from hear_models.tasks.origin import OFFICIAL, SYNTHETIC, UNOFFICIAL

ABSENT = "-"
UNDEFINED = "n.d."
WIDEST_POINTS = 50.0  # half the scale of s(m): an interval that spans all of it says nothing
MARKS = {BEST: "*", TIED: "="}


def number(value: float | None, percent: bool = True) -> str:
    """One decimal of a percentage, three of anything else; "-" for None."""
    if value is None:
        return ABSENT
    return f"{100 * value:.1f}" if percent else f"{value:.3f}"


def mean_and_width(mean: float | None, half_width: float | None, percent: bool = True) -> str:
    """ "81.2 ±0.4"; without a width only the mean."""
    if mean is None:
        return ABSENT
    width = "" if half_width is None else f" ±{number(half_width, percent)}"
    return number(mean, percent) + width


def score(table: Table, label: str, column: TaskColumn) -> str:
    """A cell's mean, half width and mark, "81.2 ±0.4 *"; "n.d." for a score that is not defined, "-" for none."""
    cell = table.cells.get((label, column.name))
    if cell is None:
        return UNDEFINED if (label, column.name) in table.undefined else ABSENT
    mark = f" {MARKS[cell.mark]}" if cell.mark in MARKS else ""
    return mean_and_width(cell.interval.mean, cell.interval.half_width, column.percent) + mark


def points(of_means: float, spread: Interval | None) -> str:
    """s(m), which is in points already."""
    width = points_width(spread)
    return f"{of_means:.1f}{'' if width is None else f' ±{width:.1f}'}"


def points_width(spread: Interval | None) -> float | None:
    """The half width of s(m), None where there is none or it says nothing because it spans the whole scale."""
    width = None if spread is None else spread.half_width
    return None if width is None or width > WIDEST_POINTS else width


def published_figure(figure: Published | None) -> str:
    """As printed by its table, or "-"."""
    if figure is None or figure.value is None:
        return ABSENT
    decimals = 1 if figure.decimals is None else figure.decimals
    spread = "" if figure.spread is None else f" ±{100 * figure.spread:.{decimals}f}"
    return f"{100 * figure.value:.{decimals}f}{spread}"


def seeds(table: Table, label: str) -> str:
    """How many seeds a model has: "10", or "3-10" where tasks differ."""
    counts = {cell.interval.n for (name, _), cell in table.cells.items() if name == label}
    counts |= {found.seeds for key, found in table.undefined.items() if key[0] == label and key not in table.cells}
    return str(min(counts)) if len(counts) == 1 else f"{min(counts)}-{max(counts)}"


def introduction(table: Table) -> str:
    """One line on what the table holds."""
    models, tasks = len(table.models), len(table.tasks)
    widths = any(cell.interval.half_width is not None for cell in table.cells.values())
    scaled = "x 100" if all(column.percent for column in table.tasks) else ""
    said = " ".join(part for part in (scaled, "with 95 % half widths over seeds" if widths else "") if part)
    return (
        f"{models} model{'s' * (models != 1)}, {tasks} task{'s' * (tasks != 1)}, judge: {' and '.join(table.judges)}. "
        f"{f'Scores {said}.' if said else ''}{f' Results of {table.dates}.' if table.dates else ''}".strip()
    )


def caveats(table: Table, marks: Mapping[str, str] = MARKS) -> list[str]:
    """Everything that a reader must know before comparing, a sentence or two each; `marks` are those of the output."""
    lines = [*_origin(table), *_judges(table)]
    if any(cell.interval.half_width is not None for cell in table.cells.values()):
        lines.append(
            "±: 95 % half width (Student, n-1) over probe seeds only: the luck of training the probe. It covers "
            "neither pretraining nor the choice of clips. No width: one seed."
        )
    if not table.quick_look:
        lines += [*_aggregate(table), *_ties(table, marks)]
    lines += _undefined(table)
    lines += table.notes
    lines += [f"{row.label}: {remark}." for row in table.models for remark in row.remarks]
    if lower := [column.short for column in table.tasks if column.lower_is_better]:
        lines.append(f"Lower is better: {', '.join(lower)}.")
    return lines


def _undefined(table: Table) -> list[str]:
    shorts = {column.name: column.short for column in table.tasks}
    lines = [f"{label} on {shorts[task]}, {found.why}" for (label, task), found in table.undefined.items()]
    about = f"{UNDEFINED}: not defined, which is not 0; such seeds are in no mean."
    return [f"{about} {'; '.join(lines)}."] if lines else []


def _origin(table: Table) -> list[str]:
    if table.quick_look:
        return [f"A quick look ({' and '.join(table.judges)}), not the leaderboard's classifier. For yourself only."]
    if table.origin == OFFICIAL:
        return []
    meaning = {
        SYNTHETIC: "Their scores say nothing of the HEAR tasks of the same names",
        UNOFFICIAL: "Their scores cannot be compared with those of the HEAR tasks",
    }.get(table.origin, "They are in no published table")
    return [f"These are {ORIGINS[table.origin]}. {meaning}: no published figure stands beside."]


def _judges(table: Table) -> list[str]:
    if table.judges == (IMPORTED,):
        return [
            "Imported from folders that hear-eval-kit wrote elsewhere: versions, weights and data are not known, and "
            "whether the models were trained is not known either."
        ]
    if len(table.judges) > 1:
        return ["Both judges gave the same logits, bit for bit, under the versions that computed these scores."]
    return []


def _aggregate(table: Table) -> list[str]:
    if table.aggregate is None:
        return []
    shorts = {column.name: column.short for column in table.tasks}
    wide = [
        label
        for label, spread in table.aggregate.intervals.items()
        if spread is not None and spread.half_width is not None and points_width(spread) is None
    ]
    vague = f" No width beside {', '.join(wide)}: their seeds spread over the whole scale; run more." if wide else ""
    return [
        f"s(m): mean over {', '.join(shorts[task] for task in table.aggregate.tasks)} of "
        f"100 (x - worst) / (best - worst); worst and best mean of the pool, which is the {len(table.models)} models "
        f"of this table: {', '.join(row.label for row in table.models)}. Another pool or other tasks give other "
        f"values: never compare it with the s(m) of another table or paper. rank: by s(m) as printed.{vague}"
    ]


def _ties(table: Table, marks: Mapping[str, str]) -> list[str]:
    lines = []
    if any(column.ties is None for column in table.tasks):
        resamples = f"{RESAMPLES:,} resamples" if table.resamples is None else f"{table.resamples:,} resamples"
        lines.append(
            f"{marks[BEST]}: best mean of the column; {marks[TIED]}: not significantly different from it (paired "
            f"bootstrap over test clips, {resamples}, Holm-corrected over the models of the column, "
            f"{100 * ALPHA:.0f} %). It compares these embeddings on these clips, not the methods."
        )
    reasons: dict[str, list[str]] = {}
    for column in table.tasks:
        if column.ties:
            reasons.setdefault(column.ties, []).append(column.short)
    lines += [
        f"{marks[BEST]}: best mean of the column; not tested against the others on {', '.join(shorts)}: {reason}."
        for reason, shorts in reasons.items()
    ]
    return lines


def verdict_rule() -> str:
    """What "reproduced" means."""
    return (
        f"reproduced: as printed, ours and the published figure differ by at most {EXPECTED_POINTS} points or the sum "
        "of both half widths; ours has at least as many seeds, the same protocol, task and metric."
    )


def row_source(row: ModelRow) -> str:
    """Where the published figures of one of our models are from, or why there are none."""
    if row.own.key is None:
        return f"{row.label}: {ABSENT} ({row.own.why})"
    source, _ = find(row.own.key)
    said = " (found by the model's name)" if row.own.by_name else ""
    return f"{row.label}{said}: {row.own.key}. {source.paper}. Read in: {source.source}."


def beside_seeds(line: PublishedLine) -> str:
    """Over how many runs a published row's figures are, "-" where its source does not say."""
    statistic = line.table.statistic
    return ABSENT if statistic is None or statistic.samples is None else str(statistic.samples)


def beside_sources(lines: Sequence[PublishedLine]) -> list[str]:
    """Where published rows are from, and what of them is not comparable: a line for each table they are from."""
    of_table: dict[str, list[PublishedLine]] = {}
    for line in lines:
        of_table.setdefault(SEPARATOR.join((line.table.topic, line.table.name)), []).append(line)
    return [
        f"{name} ({', '.join(line.label for line in there)}): {there[0].table.paper}. Read in: "
        f"{there[0].table.source}. {there[0].apart[:1].upper()}{there[0].apart[1:]}."
        for name, there in of_table.items()
    ]


def beside_rule(shown: int, there: int) -> str:
    """What the published rows below ours are."""
    more = f" {there - shown} more: --published-rows all." if shown < there else ""
    return (
        "published: rows as their sources print them; nothing of them was evaluated here, and s(m), rank and marks are "
        f"of our rows only.{more}"
    )


def public_lines(table: Table) -> list[str]:
    """The best of the public leaderboard on each official task, as a measure."""
    lines = []
    for column in table.tasks if table.origin == OFFICIAL and not table.quick_look else []:
        if best := public_best(column.name):
            lines.append(f"{column.short} {100 * best.value:.1f} ({best.model}, of {best.entries})")
    return lines
