"""A leaderboard as one HTML file: a real table, sortable and filterable, that asks nobody for anything.

The table is complete without JavaScript; the script sorts rows, hides rows and columns, and reads nothing but the
table. Everything from records is escaped, and a content policy with the hashes of our own style and script lets nothing
else run.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

from hear_models.evaluation.board.beside import PublishedLine
from hear_models.evaluation.board.leaderboard import BEST, TIED, Board, Cell, ModelRow, Table, TaskColumn
from hear_models.evaluation.board.published import NO_VERDICT, NOT_REPRODUCED, REPRODUCED, SEPARATOR
from hear_models.evaluation.board.wording import (
    ABSENT,
    UNDEFINED,
    beside_rule,
    beside_seeds,
    beside_sources,
    caveats,
    introduction,
    number,
    points_width,
    public_lines,
    published_figure,
    row_source,
    seeds,
    verdict_rule,
)
from hear_models.pages import fill, policy
from hear_models.version import __version__

HERE = Path(__file__).parent
TITLE = "Leaderboard"
SIGNS = {REPRODUCED: "\u2713", NOT_REPRODUCED: "\u2717", NO_VERDICT: "\u2013"}  # beside the words, never alone
SIGNS_RULE = f"Below a score: the published figure, {', '.join(f'{sign} {word}' for word, sign in SIGNS.items())}."
WORDS = {BEST: "best", TIED: "tied"}
MANY = 12  # tasks: on paper the letters get smaller
SVG_WIDTH, SVG_HEIGHT, SVG_MARGIN = 96, 14, 5


@dataclass(frozen=True)
class Axis:
    """The common axis of a column, in its unit."""

    low: float
    high: float

    def x(self, value: float) -> str:
        """Where a value lies, in the units of the SVG."""
        span = self.high - self.low or 1.0
        return f"{SVG_MARGIN + (SVG_WIDTH - 2 * SVG_MARGIN) * (value - self.low) / span:.2f}"


def page(board: Board) -> str:
    """The whole page. It needs no other file and makes no request, from a server and from a folder alike."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    body = "\n".join(_section(table, index) for index, table in enumerate(board.tables))
    notes = "".join(f"<p>{escape(note)}</p>" for note in board.notes)
    parts = {
        "POLICY": policy(style, script),
        "TITLE": escape(board.title or TITLE),
        "STYLE": style,
        "INTRODUCTION": _contents(board) + notes,
        "FOOTER": f"Made by hear-models {escape(__version__)} on {_today()}; one file, no request to anywhere.",
        "SCRIPT": script,
        "BODY": body,
    }
    return fill((HERE / "page.html").read_text(encoding="utf-8"), parts)


def _today() -> str:
    """The day in UTC; SOURCE_DATE_EPOCH, where it is set, makes the same page again."""
    now = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    return datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date().isoformat()


def _contents(board: Board) -> str:
    if len(board.tables) < 2:
        return ""
    links = "".join(f'<li><a href="#board-{i}">{escape(t.title)}</a></li>' for i, t in enumerate(board.tables))
    return f"<p>Tables that may not be mixed stand apart:</p><ul>{links}</ul>"


# ------------------------------------------------------------------------------------------------------- one table
def _section(table: Table, index: int) -> str:
    shows = _shows_published(table)
    notes = [*caveats(table, WORDS), *([verdict_rule()] if shows else [])]
    notes += [SIGNS_RULE] if shows else []
    notes += [beside_rule(len(table.beside), len(table.beside))] if table.beside else []
    public = public_lines(table) if shows else []
    return f"""<section class="board" aria-labelledby="board-{index}">
<h2 id="board-{index}">{escape(table.title)}</h2>
<p>{escape(introduction(table))}</p>
{_controls(table, index, shows)}
<div class="scroll" role="region" aria-labelledby="board-{index}" tabindex="0">
<table{' class="many"' if len(table.tasks) > MANY else ""}>
<caption><span>{escape(_caption(table))}</span></caption>
{_head(table)}
<tbody>
{_rows(table)}
</tbody>{_published_rows(table)}
</table>
</div>
{_legend(shows)}
<h3>How to read this table</h3>
<ul>{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>
{_details("Models", [line for row in table.models if (line := _model_line(row))])}
{_details("Published rows", _sources(table) if shows else [])}
{_details("Best of the public leaderboard (protocol hear, one run)", public)}
{_details("Tasks", [_task_line(column) for column in table.tasks])}
</section>"""


def _shows_published(table: Table) -> bool:
    return any(cell.published for cell in table.cells.values())


def _sources(table: Table) -> list[str]:
    """Where each model's published figures are from, or why there are none."""
    return [*map(row_source, table.models), *beside_sources(table.beside)]


def _caption(table: Table) -> str:
    ties = "; best and tied with the best by a test over clips" if any(c.ties is None for c in table.tasks) else ""
    figures = f"{table.title}: mean score and 95 % half width over probe seeds only{ties}."
    return f"{figures} Press a column's name to sort by it."


def _controls(table: Table, index: int, shows: bool) -> str:
    """Hidden until the script is there that makes them work."""
    names = _column_names(table)
    options = "".join(f'<option value="{i}">{escape(name)}</option>' for i, name in enumerate(names) if i)
    narrow = 2
    tick = '<label class="tick"><input type="checkbox" checked> published figures</label>' if shows else ""
    return f"""<div class="controls" role="group" aria-label="Filter" hidden>
<label>Models with these words <input type="search" autocomplete="off" spellcheck="false"></label>
<label>Columns <select data-narrow="{narrow}"><option value="">all</option>{options}</select></label>
{tick}
<output aria-live="polite"></output>
</div>"""


def _legend(shows: bool) -> str:
    axis = Axis(0, 1)
    mine = _svg(axis, 0.5, 0.35, None)
    theirs = f"<span>{_svg(axis, None, None, 0.5)} published</span>" if shows else ""
    return (
        f'<div class="legend"><span>{mine} mean and 95 % half width, one axis for each column</span>{theirs}'
        '<span><span class="mark">best</span> best mean of the column</span>'
        '<span><span class="mark">tied</span> not significantly different from it</span></div>'
    )


def _column_names(table: Table) -> list[str]:
    whole = ["rank", "s(m)"] if table.aggregate else []
    return ["model", *whole, "seeds", *(column.short for column in table.tasks)]


def _head(table: Table) -> str:
    """Every header a button; the column that the rows are sorted by carries aria-sort."""
    sorted_by = "s(m)" if table.aggregate else "model"
    cells = [_head_cell("model", "text", "ascending", sorted_by, ())]
    if table.aggregate:
        pool = (f"pool: {len(table.models)} models", f"{len(table.aggregate.tasks)} tasks")
        cells.append(_head_cell("rank", "number", "ascending", sorted_by, ()))
        cells.append(_head_cell("s(m)", "number", "descending", sorted_by, pool))
    cells.append(_head_cell("seeds", "number", "descending", sorted_by, ()))
    for column in table.tasks:
        first = "ascending" if column.lower_is_better else "descending"
        axis = _axis(table, column)
        scale = f"axis {number(axis.low, column.percent)} to {number(axis.high, column.percent)}"
        remark = (column.metric, *(["lower is better"] if column.lower_is_better else []), scale)
        cells.append(_head_cell(column.short, "number", first, sorted_by, remark))
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


def _head_cell(name: str, kind: str, first: str, sorted_by: str, remarks: Iterable[str]) -> str:
    sort = f' aria-sort="{first}"' if name == sorted_by else ""
    small = "".join(f"<small>{escape(remark)}</small>" for remark in remarks)
    return (
        f'<th scope="col" data-kind="{kind}" data-first="{first}" data-name="{escape(name, quote=True)}"{sort}>'
        f'<button type="button">{escape(name)}</button>{small}</th>'
    )


def _rows(table: Table) -> str:
    return "\n".join(_row(table, row) for row in table.models)


def _row(table: Table, row: ModelRow) -> str:
    remarks = [*row.remarks, *([row.about.words] if row.about.words else [])]
    if _shows_published(table):
        said = " (by its name)" if row.own.by_name else ""
        where = " / ".join(row.key.split(SEPARATOR)[:2]) + said if row.key else f"{ABSENT} (none known)"
        remarks.append(f"published: {where}")
    small = "".join(f"<small>{escape(remark)}</small>" for remark in remarks)
    cells = [f'<th scope="row" data-sort="{escape(row.label, quote=True)}">{escape(row.label)}{small}</th>']
    if table.aggregate:
        cells.append(f'<td class="few" data-sort="{row.rank.rstrip("=")}">{row.rank}</td>')
        cells.append(_s_cell(table, row))
    shown = seeds(table, row.label)
    cells.append(f'<td class="few" data-sort="{shown.partition("-")[0]}">{escape(shown)}</td>')
    cells += [_cell(table, row, column) for column in table.tasks]
    return f"<tr>{''.join(cells)}</tr>"


def _published_rows(table: Table) -> str:
    """Rows of others in a group of their own, in grey; they sort and filter with ours, and stay below them."""
    if not table.beside:
        return ""
    head = f'<tr class="group"><th scope="rowgroup" colspan="{len(_column_names(table))}">Published by others</th></tr>'
    rows = "\n".join(_published_row(table, line) for line in table.beside)
    return f'\n<tbody class="others">\n{head}\n{rows}\n</tbody>'


def _published_row(table: Table, line: PublishedLine) -> str:
    remark = f"{line.table.topic} / {line.table.name}; {line.apart}"
    name = escape(line.label)
    cells = [f'<th scope="row" data-sort="{escape(line.label, quote=True)}">{name}<small>{escape(remark)}</small></th>']
    cells += ['<td class="few" data-sort=""></td>', '<td data-sort=""></td>'] if table.aggregate else []
    runs = beside_seeds(line)
    cells.append(f'<td class="few" data-sort="{"" if runs == ABSENT else runs}">{runs}</td>')
    for column in table.tasks:
        figure = line.figures[column.name]
        value = "" if figure.value is None else repr(figure.value)
        cells.append(f'<td data-sort="{value}">{escape(published_figure(figure))}</td>')
    return f'<tr class="theirs">{"".join(cells)}</tr>'


def _s_cell(table: Table, row: ModelRow) -> str:
    whole = table.aggregate
    assert whole is not None
    value, half_width = whole.of_means[row.label], points_width(whole.intervals[row.label])
    axis = _span((whole.of_means[label], points_width(spread)) for label, spread in whole.intervals.items())
    width = "" if half_width is None else f" \u00b1{half_width:.1f}"
    drawn = _svg(axis, value, half_width, None)
    return f'<td data-sort="{value!r}"><span class="score"><b>{value:.1f}</b>{width}</span>{drawn}</td>'


def _cell(table: Table, row: ModelRow, column: TaskColumn) -> str:
    cell = table.cells.get((row.label, column.name))
    undefined = table.undefined.get((row.label, column.name))
    if cell is None and undefined is not None:
        return f'<td data-sort="">{UNDEFINED}<small>not defined: {escape(undefined.why)}</small></td>'
    if cell is None:
        return f'<td data-sort="">{ABSENT}<span class="unheard">no score</span></td>'
    mean, half_width = cell.interval.mean, cell.interval.half_width
    width = "" if half_width is None else f" \u00b1{number(half_width, column.percent)}"
    mark = f' <span class="mark">{WORDS[cell.mark]}</span>' if cell.mark in WORDS else ""
    theirs = cell.published.value if cell.published else None
    drawn = _svg(_axis(table, column), mean, half_width, theirs)
    best = ' class="best"' if cell.mark == BEST else ""
    text = f'<span class="score"><b>{number(mean, column.percent)}</b>{width}</span>{mark}'
    return f'<td data-sort="{mean!r}"{best}>{text}{drawn}{_beside(cell, row)}</td>'


def _beside(cell: Cell, row: ModelRow) -> str:
    """The published figure and the verdict; for a model that has no published row, the row's header says so."""
    if cell.published is None or cell.verdict is None or row.key is None:
        return ""
    word = f'<span class="long"> {escape(cell.verdict.word)}</span>'
    verdict = f'<span class="verdict">{SIGNS[cell.verdict.word]}{word}</span>'
    figure = escape(published_figure(cell.published))
    why = f'<span class="long">: {escape(cell.verdict.reason)}</span>'
    return f'<span class="published"><span class="long">published </span>{figure} {verdict}{why}</span>'


# ---------------------------------------------------------------------------------------------------- drawn intervals
def _axis(table: Table, column: TaskColumn) -> Axis:
    """From the lowest to the highest end of an interval or published figure of the column."""
    cells = [cell for (_, task), cell in table.cells.items() if task == column.name]
    theirs = [(cell.published.value, None) for cell in cells if cell.published and cell.published.value is not None]
    return _span([*((cell.interval.mean, cell.interval.half_width) for cell in cells), *theirs])


def _span(values: Iterable[tuple[float, float | None]]) -> Axis:
    ends = [end for mean, half_width in values for end in (mean - (half_width or 0), mean + (half_width or 0))]
    ends = ends or [0.0, 1.0]  # no score at all
    return Axis(min(ends), max(ends))


def _svg(axis: Axis, mean: float | None, half_width: float | None, theirs: float | None) -> str:
    """A dot with its interval, a diamond for the published figure. For the eye only: the numbers stand beside."""
    middle = SVG_HEIGHT / 2
    parts = [f'<line class="axis" x1="0" x2="{SVG_WIDTH}" y1="{middle:g}" y2="{middle:g}"/>']
    if theirs is not None:
        x = float(axis.x(theirs))
        diamond = " ".join(f"{x + dx:.2f},{middle + dy:g}" for dx, dy in ((0, -5), (4, 0), (0, 5), (-4, 0)))
        parts.append(f'<polygon class="theirs" points="{diamond}"/>')
    if mean is not None:
        if half_width:
            left, right = axis.x(mean - half_width), axis.x(mean + half_width)
            parts.append(f'<line class="width" x1="{left}" x2="{right}" y1="{middle:g}" y2="{middle:g}"/>')
            parts += [
                f'<line class="width" x1="{x}" x2="{x}" y1="{middle - 4:g}" y2="{middle + 4:g}"/>'
                for x in (left, right)
            ]
        parts.append(f'<circle class="mean" cx="{axis.x(mean)}" cy="{middle:g}" r="3"/>')
    return f'<svg class="interval" viewBox="0 0 {SVG_WIDTH} {SVG_HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>'


def _details(summary: str, lines: list[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<details><summary>{escape(summary)}</summary><ul>{items}</ul></details>"


def _model_line(row: ModelRow) -> str:
    """What is known of a model of this package, with the paper behind it; "" of any other."""
    said = ". ".join(part for part in (row.about.words, row.about.paper) if part)
    return f"{row.label}: {said}." if row.about.paper else ""


def _task_line(column: TaskColumn) -> str:
    counts = ", ".join(f"{split} {count}" for split, count in column.counts.items())
    return f"{column.short}: {column.name}, {column.metric}{f'; clips: {counts}' if counts else ''}"
