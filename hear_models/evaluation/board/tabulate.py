"""A leaderboard as text for a terminal of 80 columns, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hear_models.evaluation.board.beside import MOST, PublishedLine
from hear_models.evaluation.board.leaderboard import BEST, Board, ModelRow, Table, TaskColumn
from hear_models.evaluation.board.wording import (
    ABSENT,
    MARKS,
    beside_rule,
    beside_seeds,
    beside_sources,
    caveats,
    introduction,
    mean_and_width,
    points,
    public_lines,
    published_figure,
    row_source,
    score,
    seeds,
    verdict_rule,
)
from hear_models.markdown import inline

WIDTH = 80


# ----------------------------------------------------------------------------------------------------------- terminal
def terminal(board: Board, width: int = WIDTH, most: int | None = MOST) -> str:
    """Plain text, no line longer than `width` where names allow it; many tasks become several blocks.

    `most`: published rows beside ours; None: all that were chosen.
    """
    parts = ["\n".join(_wrap(board.title, width))] if board.title else []
    for table in board.tables:
        parts.append("\n".join(_wrap(table.title, width)) + "\n" + "=" * min(width, len(table.title)))
        parts.append("\n".join(_wrap(introduction(table), width)))
        parts += _blocks(table, table.beside[:most], width)
        parts.append(_about(table, width))
        said = [*caveats(table), *_of_beside(table, most)]
        parts.append("\n".join(line for text in said for line in _wrap(text, width, "  ")))
        parts += _published_blocks(table, width)
    parts += ["\n".join(_wrap(note, width, "  ")) for note in board.notes]
    return "\n\n".join(part for part in parts if part) + "\n"


def _of_beside(table: Table, most: int | None) -> list[str]:
    """What must be said of the published rows that are shown."""
    lines = table.beside[:most]
    return [beside_rule(len(lines), len(table.beside)), *beside_sources(lines)] if lines else []


def _blocks(table: Table, lines: list[PublishedLine], width: int) -> list[str]:
    """Rank, s(m) and seeds first, then as many tasks a block as fit beside the names; published rows below ours."""
    gap = [""] if lines else []

    def below(cells: list[str]) -> list[str]:
        return [*gap, *cells]

    columns = [
        (
            column.short,
            _aligned(
                [score(table, row.label, column) for row in table.models]
                + below([published_figure(line.figures[column.name]) for line in lines])
            ),
        )
        for column in table.tasks
    ]
    columns.insert(0, ("seeds", [seeds(table, r.label) for r in table.models] + below([*map(beside_seeds, lines)])))
    if table.aggregate:
        nothing = below([""] * len(lines))
        columns.insert(0, ("s(m)", [*(_s(table, row) for row in table.models), *nothing]))
        columns.insert(0, ("rank", [*(_rank(row) for row in table.models), *nothing]))
    shown = [*(row.label for row in table.models), *(["published:"] if lines else []), *(line.label for line in lines)]
    names, full = _fitting(shown, max(20, width // 3))
    room = width - max(map(len, names)) - 2
    blocks: list[list[tuple[str, list[str]]]] = [[]]
    for column in columns:
        used = sum(_width(other) + 2 for other in blocks[-1])
        if blocks[-1] and used + _width(column) > room:
            blocks.append([])
        blocks[-1].append(column)
    grids = [_grid([("model", names), *block]) for block in blocks]
    return [*grids, "\n".join(line for text in full for line in _wrap(text, width, "    "))]


def _rank(row: ModelRow) -> str:
    """A shared rank's mark hangs out to the right."""
    return row.rank if row.rank.endswith("=") else f"{row.rank} "


def _about(table: Table, width: int) -> str:
    """Dimensions, parameters, licence, where anything of it is known."""
    if not any(row.about.words for row in table.models):
        return ""
    names, _ = _fitting([row.label for row in table.models], max(20, width // 3))
    about = [row.about for row in table.models]
    return _grid(
        [
            ("model", names),
            ("dims", [_or_absent(a.dims) for a in about]),
            ("parameters", [a.size for a in about]),
            ("licence", [a.licence or ABSENT for a in about]),
        ],
        left=(0, 3),
    )


def _aligned(scores: list[str]) -> list[str]:
    """Room for a mark behind every score of a column that has one."""
    marks = tuple(f" {mark}" for mark in MARKS.values())
    if not any(text.endswith(marks) for text in scores):
        return scores
    return [text if text.endswith(marks) else f"{text}  " for text in scores]


def _grid(columns: list[tuple[str, list[str]]], left: Sequence[int] = (0,)) -> str:
    """The columns of `left` to the left, the others aligned right."""
    widths = [_width(column) for column in columns]
    rows = [
        [name for name, _ in columns],
        ["-" * w for w in widths],
        *zip(*(cells for _, cells in columns), strict=True),
    ]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _width(column: tuple[str, list[str]]) -> int:
    return max(map(len, (column[0], *column[1])))


def _s(table: Table, row: ModelRow) -> str:
    assert table.aggregate is not None
    return points(table.aggregate.of_means[row.label], table.aggregate.intervals[row.label])


def _published_blocks(table: Table, width: int) -> list[str]:
    if not _shows_published(table):
        return []
    parts = ["Published figures\n-----------------"]
    for row in table.models:
        entries = [
            (column, table.cells[(row.label, column.name)])
            for column in table.tasks
            if (row.label, column.name) in table.cells
        ]
        head = f"{row.label}: {row.key}{' (found by its name)' if row.own.by_name else ''}"
        if row.key is None:
            parts.append("\n".join(_wrap(row_source(row), width, "  ")))
            continue
        columns: list[tuple[str, list[str]]] = [
            (name, []) for name in ("task", "ours", "published", "difference", "allowed", "verdict")
        ]
        reasons: dict[str, list[str]] = {}
        for column, cell in entries:
            judged = cell.verdict
            assert judged is not None
            texts = (
                column.short,
                mean_and_width(cell.interval.mean, cell.interval.half_width, column.percent),
                published_figure(cell.published),
                ABSENT if judged.difference_points is None else f"{judged.difference_points:+.1f}",
                ABSENT if judged.allowed_points is None else f"{judged.allowed_points:.1f}",
                judged.word,
            )
            for (_, cells), text in zip(columns, texts, strict=True):
                cells.append(text)
            if judged.difference_points is None:
                reasons.setdefault(judged.reason, []).append(column.short)
        lines = [f"{', '.join(shorts)}: {reason}." for reason, shorts in reasons.items()]
        block = [*_wrap(head, width, "  "), _grid(columns), *(w for line in lines for w in _wrap(line, width, "  "))]
        parts.append("\n".join(block))
    parts.append("\n".join(_wrap(verdict_rule(), width, "  ")))
    if public := public_lines(table):
        text = f"Best of the public leaderboard (protocol hear, one run): {'; '.join(public)}."
        parts.append("\n".join(_wrap(text, width, "  ")))
    return parts


def _shows_published(table: Table) -> bool:
    return any(cell.published is not None for cell in table.cells.values())


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _fitting(labels: list[str], width: int) -> tuple[list[str], list[str]]:
    """Labels of at most `width` characters, long ones cut and numbered; and the lines that say the numbers' names."""
    names: list[str] = []
    full: list[str] = []
    for label in labels:
        if len(label) > width:
            number = f"…[{len(full) + 1}]"
            full.append(f"[{len(full) + 1}] {label}")
            label = label[: width - len(number)] + number
        names.append(label)
    return names, full


# ----------------------------------------------------------------------------------------------------------- Markdown
def markdown(board: Board, most: int | None = MOST) -> str:
    """Tables with a row for each model, the best of a column bold; then the published figures and the caveats.

    `most`: published rows below ours, in italics; None: all that were chosen.
    """
    parts = [f"# {_md(board.title)}"] if board.title else []
    for table in board.tables:
        parts += [f"### {_md(table.title)}", _md(introduction(table))]
        head = [
            "model",
            *(["rank", "s(m)"] if table.aggregate else []),
            "seeds",
            *(_md(column.short) for column in table.tasks),
        ]
        rows = [
            [
                _md(row.label),
                *([row.rank, _s(table, row)] if table.aggregate else []),
                seeds(table, row.label),
                *(_md_score(table, row, column) for column in table.tasks),
            ]
            for row in table.models
        ]
        rows += [
            [
                f"*{_md(line.label)}*",
                *(["", ""] if table.aggregate else []),
                beside_seeds(line),
                *(_md(published_figure(line.figures[column.name])) for column in table.tasks),
            ]
            for line in table.beside[:most]
        ]
        parts.append(_md_table(head, rows))
        if any(row.about.words for row in table.models):
            about = [
                [_md(row.label), *map(_md, (_or_absent(row.about.dims), row.about.size, row.about.licence or ABSENT))]
                for row in table.models
            ]
            parts.append(_md_table(["model", "dims", "parameters", "licence"], about))
        if _shows_published(table):
            parts.append(_md_published(table))
        lines = [*caveats(table), *_of_beside(table, most)]
        if _shows_published(table):
            lines.append(verdict_rule())
            lines += [
                f"Best of the public leaderboard (protocol hear, one run): {line}." for line in public_lines(table)
            ]
        parts.append("\n".join(f"- {_md(line)}" for line in lines))
    parts += [_md(note) for note in board.notes]
    return "\n\n".join(parts) + "\n"


def _or_absent(value: int | None) -> str:
    return ABSENT if value is None else str(value)


def _md_score(table: Table, row: ModelRow, column: TaskColumn) -> str:
    cell = table.cells.get((row.label, column.name))
    if cell is None or cell.mark != BEST:
        return _md(score(table, row.label, column))
    figure = mean_and_width(cell.interval.mean, cell.interval.half_width, column.percent)
    return f"**{_md(figure)}** {_md(MARKS[BEST])}"


def _md_published(table: Table) -> str:
    rows = []
    for row in table.models:
        for column in table.tasks:
            cell = table.cells.get((row.label, column.name))
            if cell and cell.verdict:
                ours = mean_and_width(cell.interval.mean, cell.interval.half_width, column.percent)
                texts = (
                    row.label,
                    column.short,
                    ours,
                    published_figure(cell.published),
                    f"{cell.verdict.word}: {cell.verdict.reason}",
                    row.key or ABSENT,
                )
                rows.append([_md(text) for text in texts])
    return _md_table(["model", "task", "ours", "published", "verdict", "source"], rows)


def _md_table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _md(text: str) -> str:
    """Text from a record shows as it is: no markup, no HTML, no link."""
    return inline(text)
