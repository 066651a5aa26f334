"""Rows as text: CSV, and cells of a table on a terminal; whatever a file is called, its name stays one line."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from hear_models.files import as_text


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """A header and a line a row; `columns` where there may be no row."""
    names = list(rows[0]) if rows else list(columns)
    if not names:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def cell(name: str, width: int) -> str:
    """A path in at most `width` columns: its end, and no control characters."""
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in as_text(name))
    return text if len(text) <= width else f"…{text[1 - width :]}"


def clock(seconds: float) -> str:
    """1:02:03, or 2:03.4 below an hour."""
    tenths = round(10 * seconds)
    hours, rest = divmod(tenths, 36_000)
    minutes, rest = divmod(rest, 600)
    return f"{hours}:{minutes:02}:{rest // 10:02}" if hours else f"{minutes}:{rest // 10:02}.{rest % 10}"
