"""A leaderboard as LaTeX: one `table` with booktabs' rules for each of its tables, to be put into a paper."""

from __future__ import annotations

import re

from hear_models.evaluation.board.beside import MOST, PublishedLine
from hear_models.evaluation.board.leaderboard import BEST, TIED, Board, ModelRow, Table, TaskColumn
from hear_models.evaluation.board.wording import (
    ABSENT,
    beside_rule,
    beside_seeds,
    beside_sources,
    caveats,
    introduction,
    number,
    points_width,
    published_figure,
    score,
    seeds,
)

PREAMBLE = r"% \usepackage{booktabs} and \usepackage{xcolor} in the preamble; bold: best, underlined: tied with it"
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "…": r"\ldots{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
MARKS = {BEST: "bold", TIED: "underlined"}


def latex(board: Board, most: int | None = MOST) -> str:
    """One floating table for each table of the board; the caveats are comments below it.

    `most`: published rows below ours, in grey; None: all that were chosen.
    """
    tables = [_table(table, board.title, index, most) for index, table in enumerate(board.tables, start=1)]
    notes = [f"% {_one_line(note)}" for note in board.notes]
    return "\n\n".join([PREAMBLE, *tables, *notes]) + "\n"


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(SPECIAL.get(character, character) for character in _one_line(text))


def _table(table: Table, title: str, index: int, most: int | None) -> str:
    whole = table.aggregate is not None
    head = [
        "model",
        *(["rank", "$s(m)$"] if whole else []),
        "seeds",
        *(escaped(column.short) for column in table.tasks),
    ]
    lines = table.beside[:most]
    rows = [_row(table, row) for row in table.models]
    if lines:
        rows += [r"\midrule", *(_published(table, line) for line in lines)]
    said = [
        *caveats(table, MARKS),
        *([beside_rule(len(lines), len(table.beside)), *beside_sources(lines)] if lines else []),
    ]
    caption = f"{title}. {table.title}. {introduction(table)}" if title else f"{table.title}. {introduction(table)}"
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            r"\small",
            rf"\caption{{{escaped(caption)}}}",
            rf"\label{{tab:leaderboard-{index}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            " & ".join(head) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            *(f"% {_one_line(text)}" for text in said),
            r"\end{table}",
        ]
    )


def _row(table: Table, row: ModelRow) -> str:
    cells = [escaped(row.label)]
    if table.aggregate:
        width = points_width(table.aggregate.intervals[row.label])
        mean = f"{table.aggregate.of_means[row.label]:.1f}"
        cells += [row.rank, _figure(mean, None if width is None else f"{width:.1f}")]
    cells += [escaped(seeds(table, row.label)), *(_score(table, row, column) for column in table.tasks)]
    return " & ".join(cells) + r" \\"


def _score(table: Table, row: ModelRow, column: TaskColumn) -> str:
    cell = table.cells.get((row.label, column.name))
    if cell is None:
        return score(table, row.label, column)
    mean, half_width = cell.interval.mean, cell.interval.half_width
    figure = number(mean, column.percent)
    if cell.mark == BEST:
        figure = rf"\textbf{{{figure}}}"
    if cell.mark == TIED:
        figure = rf"\underline{{{figure}}}"
    return _figure(figure, None if half_width is None else number(half_width, column.percent))


def _figure(mean: str, half_width: str | None) -> str:
    return mean if not half_width else rf"{mean} {{\scriptsize $\pm${half_width}}}"


def _published(table: Table, line: PublishedLine) -> str:
    cells = [line.label, *(["", ""] if table.aggregate else []), beside_seeds(line)]
    cells += [published_figure(line.figures[column.name]) for column in table.tasks]
    grey = (rf"\textcolor{{gray}}{{{escaped(cell)}}}" if cell not in ("", ABSENT) else cell for cell in cells)
    return " & ".join(grey) + r" \\"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)
