"""Recordings with labels: a folder for each class, or a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hear_models.corpus.discover import find_audio_files
from hear_models.datasets.clip_table import read_table
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
    """A folder with a folder of recordings for each class, or a table as `hear-models tasks new` takes it.

    Args:
        source: in a folder CLASS/GROUP/... recordings below folders of the name GROUP belong together, whatever their
            class (a speaker, a recorder); those directly in CLASS stand alone. A table has the columns `path,label`
            (several labels: `a;b`) and, if it likes, `group`.
        audio: what paths of a table are relative to; None: the table's folder.

    Raises UsageError: nothing there, fewer than two classes, missing recordings, or tables of events.
    """
    found = _of_folder(source) if source.is_dir() else _of_table(source, audio or source.parent)
    if len(found.classes) < 2:
        raise UsageError(f"{shown(source)} has {len(found.classes)} class. A classifier needs at least two.")
    return found


def _of_folder(folder: Path) -> Labelled:
    files, labels, groups = [], [], []
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        try:
            sources, failures = find_audio_files([place])
        except UsageError as error:
            raise UsageError(f"{error} Every folder in {shown(folder)} stands for a class.") from error
        if failures:
            raise UsageError(failures[0].error)
        for source in sources:
            inner = Path(source.name).parts[:-1]
            files.append(source.path)
            labels.append((place.name,))
            groups.append(inner[0] if inner else str(source.path))
    if not files:
        raise UsageError(f"{shown(folder)} has no folders of recordings. Make one for each class: FOLDER/CLASS/a.wav.")
    return Labelled(tuple(files), tuple(labels), tuple(groups))


def _of_table(table: Path, audio: Path) -> Labelled:
    clips = read_table(table)
    if clips.has_events:
        raise UsageError(f"{shown(table)} has times of events; a classifier takes whole recordings. Cut them first.")
    files = [audio / clip.file for clip in clips.clips]
    missing = [shown(file) for file in files if not file.is_file()]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise UsageError(f"{', '.join(missing[:SHOWN])}{more}: no such recordings. Say with --audio where they are.")
    groups = [clip.group or str(file) for clip, file in zip(clips.clips, files, strict=True)]
    return Labelled(tuple(files), tuple(tuple(clip.labels) for clip in clips.clips), tuple(groups))
