"""A leaderboard as text for a terminal of 80 columns, as Markdown, and as CSV for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from hear_models.evaluation.board.leaderboard import BEST, Board, ModelRow, Table, TaskColumn
from hear_models.evaluation.board.wording import (
    ABSENT,
    MARKS,
    caveats,
    introduction,
    mean_and_width,
    points,
    public_lines,
    published_figure,
    score,
    seeds,
    verdict_rule,
)
from hear_models.markdown import inline

WIDTH = 80


# ----------------------------------------------------------------------------------------------------------- terminal
def terminal(board: Board, width: int = WIDTH) -> str:
    """Plain text, no line longer than `width` where names allow it; many tasks become several blocks."""
    parts = []
    for table in board.tables:
        parts.append("\n".join(_wrap(table.title, width)) + "\n" + "=" * min(width, len(table.title)))
        parts.append("\n".join(_wrap(introduction(table), width)))
        parts += _blocks(table, width)
        parts.append("\n".join(line for text in caveats(table) for line in _wrap(text, width, "  ")))
        parts += _published_blocks(table, width)
    parts += ["\n".join(_wrap(note, width, "  ")) for note in board.notes]
    return "\n\n".join(part for part in parts if part) + "\n"


def _blocks(table: Table, width: int) -> list[str]:
    """s(m) and the seeds first, then as many tasks a block as fit beside the models' names."""
    columns = [
        (column.short, _aligned([score(table, row.label, column) for row in table.models])) for column in table.tasks
    ]
    columns.insert(0, ("seeds", [seeds(table, row.label) for row in table.models]))
    if table.aggregate:
        columns.insert(0, ("s(m)", [_s(table, row) for row in table.models]))
    names, full = _fitting([row.label for row in table.models], max(20, width // 3))
    room = width - max(map(len, names)) - 2
    blocks: list[list[tuple[str, list[str]]]] = [[]]
    for column in columns:
        used = sum(_width(other) + 2 for other in blocks[-1])
        if blocks[-1] and used + _width(column) > room:
            blocks.append([])
        blocks[-1].append(column)
    grids = [_grid([("model", names), *block]) for block in blocks]
    return [*grids, "\n".join(line for text in full for line in _wrap(text, width, "    "))]


def _aligned(scores: list[str]) -> list[str]:
    """Room for a mark behind every score of a column that has one."""
    marks = tuple(f" {mark}" for mark in MARKS.values())
    if not any(text.endswith(marks) for text in scores):
        return scores
    return [text if text.endswith(marks) else f"{text}  " for text in scores]


def _grid(columns: list[tuple[str, list[str]]]) -> str:
    """The first column left, the others aligned right."""
    widths = [_width(column) for column in columns]
    rows = [
        [name for name, _ in columns],
        ["-" * w for w in widths],
        *zip(*(cells for _, cells in columns), strict=True),
    ]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
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
        head = f"{row.label}: {row.key or ABSENT}"
        if row.key is None:
            parts.append("\n".join(_wrap(f"{head} (no published scores are known for this model)", width, "  ")))
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
def markdown(board: Board) -> str:
    """Tables with a row for each model, the best of a column bold; then the published figures and the caveats."""
    parts = []
    for table in board.tables:
        parts += [f"### {_md(table.title)}", _md(introduction(table))]
        head = [
            "model",
            *(["s(m)"] if table.aggregate else []),
            "seeds",
            *(_md(column.short) for column in table.tasks),
        ]
        rows = [
            [
                _md(row.label),
                *([_s(table, row)] if table.aggregate else []),
                seeds(table, row.label),
                *(_md_score(table, row, column) for column in table.tasks),
            ]
            for row in table.models
        ]
        parts.append(_md_table(head, rows))
        if _shows_published(table):
            parts.append(_md_published(table))
        lines = caveats(table)
        if _shows_published(table):
            lines.append(verdict_rule())
            lines += [
                f"Best of the public leaderboard (protocol hear, one run): {line}." for line in public_lines(table)
            ]
        parts.append("\n".join(f"- {_md(line)}" for line in lines))
    parts += [_md(note) for note in board.notes]
    return "\n\n".join(parts) + "\n"


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


# ---------------------------------------------------------------------------------------------------------------- CSV
def csv_text(board: Board) -> str:
    """One row a model x task, numbers unrounded (fractions; s(m) in points), empty where there is none.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    buffer = io.StringIO()
    rows = [
        _csv_row(table, row, column)
        for table in board.tables
        for row in table.models
        for column in table.tasks
        if (row.label, column.name) in table.cells or (row.label, column.name) in table.undefined
    ]
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _csv(value) for key, value in row.items()} for row in rows)
    return buffer.getvalue()


def _csv_row(table: Table, row: ModelRow, column: TaskColumn) -> dict[str, object]:
    cell = table.cells.get((row.label, column.name))
    undefined = table.undefined.get((row.label, column.name))
    comparison, figure, judged = (cell.comparison, cell.published, cell.verdict) if cell else (None, None, None)
    whole = table.aggregate
    spread = whole.intervals[row.label] if whole else None
    return {
        "protocol": table.protocol,
        "origin": table.origin,
        "model": row.label,
        "trained": row.model.trained,
        "options": ", ".join(f"{key}={value}" for key, value in sorted(row.model.options.items())),
        "checkpoint_sha256": row.model.checkpoint_sha256,
        "weights_sha256": row.model.weights_sha256,
        "code_sha256": row.model.code_sha256,
        "task": column.name,
        "metric": column.metric,
        "lower_is_better": column.lower_is_better,
        "judges": " ".join(cell.judges if cell else table.judges),
        "seeds": " ".join(map(str, cell.scores)) if cell else None,
        "mean": cell.interval.mean if cell else None,
        "half_width_95": cell.interval.half_width if cell else None,
        "not_defined": undefined.why if undefined else None,
        "interval_over": "probe seeds only",
        "mark": cell.mark if cell else None,
        "difference_from_best": comparison.difference if comparison else None,
        "p": comparison.p if comparison else None,
        "p_holm": comparison.p_holm if comparison else None,
        "ties_absent": column.ties,
        "published_key": figure.key if figure else None,
        "published_value": figure.value if figure else None,
        "published_half_width": figure.spread if figure else None,
        "published_absent": figure.absent if figure else None,
        "verdict": judged.word if judged else None,
        "verdict_reason": judged.reason if judged else None,
        "s_of_means": whole.of_means[row.label] if whole else None,
        "s_half_width_95": spread.half_width if spread else None,
        "s_tasks": " ".join(whole.tasks) if whole else None,
        "s_pool": "; ".join(model.label for model in table.models) if whole else None,
    }


def _csv(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return repr(value) if isinstance(value, float) else value
