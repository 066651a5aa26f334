"""Recordings with labels: a folder for each class, or a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hear_models.datasets.labelled import place_of, read_clips
from hear_models.errors import UsageError
from hear_models.files import shown

SHOWN = 3  # names in an error


@dataclass(frozen=True)
class Labelled:
    """Recordings in a fixed order, the labels of each, and what belongs together (a recorder, a speaker)."""

    files: tuple[Path, ...]
    labels: tuple[tuple[str, ...], ...]
    groups: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """All labels, sorted."""
        return tuple(sorted({label for labels in self.labels for label in labels}))

    @property
    def multilabel(self) -> bool:
        """Whether some recording has not exactly one label."""
        return any(len(labels) != 1 for labels in self.labels)

    def only(self, kept: Sequence[int]) -> Labelled:
        """Some of them."""
        files, labels, groups = self.files, self.labels, self.groups
        return Labelled(tuple(files[i] for i in kept), tuple(labels[i] for i in kept), tuple(groups[i] for i in kept))


def read_labelled(source: Path, audio: Path | None = None) -> Labelled:
    """A folder with a folder of recordings for each class, or a table: see `read_clips`.

    Args:
        audio: what paths of a table are relative to; None: the table's folder.

    Raises UsageError: nothing there, fewer than two classes, missing recordings, or tables of events.
    """
    table, root = read_clips(source, audio)
    if table.has_events:
        raise UsageError(f"{shown(source)} has times of events; a classifier takes whole recordings. Cut them first.")
    files = [place_of(clip, root) for clip in table.clips]
    missing = [shown(file) for file in files if not file.is_file()]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise UsageError(f"{', '.join(missing[:SHOWN])}{more}: no such recordings. Say with --audio where they are.")
    groups = [clip.group or str(file) for clip, file in zip(table.clips, files, strict=True)]
    found = Labelled(tuple(files), tuple(tuple(clip.labels) for clip in table.clips), tuple(groups))
    if len(found.classes) < 2:
        raise UsageError(f"{shown(source)} has {len(found.classes)} class. A classifier needs at least two.")
    return found
