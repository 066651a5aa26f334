"""Text of strangers in Markdown: one line, in which nothing begins markup, HTML or a link of its own."""

from __future__ import annotations

import re

LINKS = re.compile(r"://|\bwww\.|@\w|\bmailto:|\bxmpp:", re.IGNORECASE)  # what readers turn into links by themselves


def inline(text: str) -> str:
    """A text within a line: markup escaped; as code, where only that keeps it from becoming a link."""
    line = " ".join(text.split())
    if LINKS.search(line):
        return code(line)
    return re.sub(r"([\\`*~\[\]<>&#|!]|(?<!\w)_|_(?!\w))", r"\\\1", line)


def code(text: str) -> str:
    """A text as code, which Markdown leaves as it is: also within a table."""
    line = " ".join(text.split()).replace("|", "\N{BROKEN BAR}")
    ticks = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{pad}{line}{pad}{ticks}" if line else "``"
