"""What a check of data found, as every `check` command tells it."""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING, NOTE = "error", "warning", "note"


@dataclass(frozen=True)
class Finding:
    """One sentence on what was found, and the files that it is about, relative to the folder that was checked."""

    level: str  # ERROR, WARNING or NOTE
    text: str
    files: tuple[str, ...] = ()
    kit_only: bool = False  # trips the released kit, and no judge of ours
