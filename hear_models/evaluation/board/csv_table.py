"""A leaderboard for programs: its rows as CSV, or as JSON with what is said of its tables."""

from __future__ import annotations

import csv
import io
import json

from hear_models.evaluation.board.beside import PublishedLine
from hear_models.evaluation.board.leaderboard import Board, ModelRow, Table, TaskColumn
from hear_models.evaluation.board.wording import caveats


def csv_text(board: Board, beside: bool = False) -> str:
    """One row a model x task, numbers unrounded (fractions; s(m) in points), empty where there is none.

    `beside`: then the published rows too, with "published" in the column `row`. A text that a spreadsheet would take
    for a formula gets an apostrophe in front.
    """
    buffer = io.StringIO()
    rows = [row for table in board.tables for row in _rows(table, beside)]
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _csv(value) for key, value in row.items()} for row in rows)
    return buffer.getvalue()


def json_text(board: Board, beside: bool = False) -> str:
    """One JSON object: title, notes, and each table with its caveats and the rows of the CSV; null: there is none."""
    tables = [
        {
            "title": table.title,
            "protocol": table.protocol,
            "origin": table.origin,
            "judges": list(table.judges),
            "dates": table.dates,
            "caveats": caveats(table),
            "rows": _rows(table, beside),
        }
        for table in board.tables
    ]
    return json.dumps({"title": board.title, "notes": board.notes, "tables": tables}, indent=1) + "\n"


def _rows(table: Table, beside: bool) -> list[dict[str, object]]:
    rows = [
        _csv_row(table, row, column)
        for row in table.models
        for column in table.tasks
        if (row.label, column.name) in table.cells or (row.label, column.name) in table.undefined
    ]
    return rows + [_csv_beside(table, line, column) for line in table.beside if beside for column in table.tasks]


def _csv_row(table: Table, row: ModelRow, column: TaskColumn) -> dict[str, object]:
    cell = table.cells.get((row.label, column.name))
    undefined = table.undefined.get((row.label, column.name))
    comparison, figure, judged = (cell.comparison, cell.published, cell.verdict) if cell else (None, None, None)
    whole = table.aggregate
    spread = whole.intervals[row.label] if whole else None
    return {
        "protocol": table.protocol,
        "origin": table.origin,
        "row": "ours",
        "model": row.label,
        "rank": row.rank,
        "dims": row.about.dims,
        "parameters": row.about.parameters,
        "licence": row.about.licence,
        "paper": row.about.paper,
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


def _csv_beside(table: Table, line: PublishedLine, column: TaskColumn) -> dict[str, object]:
    figure = line.figures[column.name]
    return {
        "protocol": line.table.protocol,
        "origin": table.origin,
        "row": "published",
        "model": line.label,
        "task": column.name,
        "metric": column.metric,
        "lower_is_better": column.lower_is_better,
        "mean": figure.value,
        "half_width_95": figure.spread,
        "published_key": line.key,
        "published_absent": figure.absent,
        "verdict_reason": line.apart,
    }


def _csv(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return repr(value) if isinstance(value, float) else value
