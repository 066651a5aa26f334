"""Labelled recordings as people have them: a folder for each class, or a table of paths and labels. The one reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hear_models.corpus.discover import find_audio_files
from hear_models.datasets.clip_table import SPLIT_NAMES, Clip, Table, read_table
from hear_models.errors import UsageError
from hear_models.files import shown


def read_clips(source: Path, audio: Path | None = None) -> tuple[Table, Path]:
    """The clips of a folder or of a table, and what their names are relative to.

    Args:
        source: a folder CLASS/a.wav, or CLASS/GROUP/a.wav where recordings belong together whatever their class; below
            train/, valid/ and test/ if the folder holds these alone. Or a table, see `read_table`.
        audio: where a table's recordings are; None: in its folder.

    Raises UsageError: neither of these.
    """
    if not source.is_dir():
        return read_table(source), audio or source.parent
    if audio is not None:
        raise UsageError(
            f"{shown(source)} is a folder of classes: it needs no other folder of recordings. Leave that away."
        )
    return class_folders(source), source


def class_folders(folder: Path) -> Table:
    """A folder with a folder of recordings for each class. Raises UsageError: it is none."""
    places = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    by_split = len(places) > 1 and all(place.name.lower() in SPLIT_NAMES for place in places)
    clips = []
    for place in places:
        for parts in _recordings_in(place, folder):
            split = SPLIT_NAMES[parts[0].lower()] if by_split else None
            label, *inner = parts[1:] if by_split else parts
            if not inner:
                raise UsageError(f"{shown(folder.joinpath(*parts))} lies in no folder of a class. Move it into one.")
            group = inner[0] if len(inner) > 1 else None
            clips.append(Clip("/".join(parts), [label], split=split, group=group))
    if not clips:
        raise UsageError(f"{shown(folder)} has no folders of recordings. Make one for each class: FOLDER/CLASS/a.wav.")
    loose, _ = find_audio_files([folder])
    if direct := [source for source in loose if "/" not in source.name]:
        raise UsageError(f"{shown(direct[0].path)} lies in no folder of a class. Move it into one.")
    also = {name for name in ("split", "group") if any(getattr(clip, name) for clip in clips)}
    return Table(clips, frozenset({"file", "label", *also}), [])


def _recordings_in(place: Path, folder: Path) -> Iterator[tuple[str, ...]]:
    """The paths of a class's recordings below the folder, in parts."""
    try:
        sources, failures = find_audio_files([place])
    except UsageError as error:
        raise UsageError(f"{error} Every folder in {shown(folder)} stands for a class.") from error
    if failures:
        raise UsageError(failures[0].error)
    return ((place.name, *Path(source.name).parts) for source in sources)


def place_of(clip: Clip, root: Path) -> Path:
    """Where a clip's recording is, whether or not it is there; names may lack their ending or have back slashes.

    Raises OSError, ValueError for a name that no file can have.
    """
    path = root / clip.file
    if not path.is_file() and "\\" in clip.file:
        path = root / clip.file.replace("\\", "/")
    if not path.is_file() and path.parent.is_dir():
        same = [other for other in path.parent.iterdir() if other.stem == path.name and other.is_file()]
        path = same[0] if len(same) == 1 else path
    return path
