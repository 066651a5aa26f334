"""From the paths of a command to the list of recordings, each with the name that its output gets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hear_models.errors import UsageError
from hear_models.files import shown

# Looked for in folders; a file that is named explicitly is tried whatever it is called.
# fmt: off
EXTENSIONS = frozenset("." + extension for extension in (
    # libsndfile
    "wav", "wave", "bwf", "rf64", "w64", "aif", "aiff", "aifc", "flac", "ogg", "oga", "opus", "mp3", "mp2",
    "au", "snd", "caf", "voc", "avr", "pvf", "sph", "nist", "ircam", "sf", "paf", "svx",
    # ffmpeg
    "m4a", "m4b", "mp4", "aac", "3gp", "amr", "ac3", "eac3", "mkv", "mka", "webm", "mov", "avi", "wma", "asf",
    "ape", "wv", "tta", "tak", "mpc", "dsf",
))
# fmt: on


@dataclass(frozen=True)
class Segment:
    """A part of a recording that gets an embedding of its own: from, to, and the row of the table that names it."""

    row: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class AudioFile:
    """A recording to embed: where it lies, and its name below the output (with "/", the file's own ending kept).

    channel: "mix" or a number from 1. segments: in order of their start; None: all of it.
    origin: what tells it from another one of the same name, where that is not where it lies.
    """

    path: Path
    name: str
    channel: str | int = "mix"
    segments: tuple[Segment, ...] | None = None
    origin: str | None = None


@dataclass(frozen=True)
class Failure:
    """A recording or folder that could not be embedded, and why."""

    path: str
    error: str


def find_audio_files(paths: Sequence[str | os.PathLike[str]]) -> tuple[list[AudioFile], list[Failure]]:
    """List the recordings behind files and folders (searched recursively), and the folders that could not be listed.

    Sorted within each folder. The name of a file in a folder is its path below that folder; if several folders are
    given, each one's own name is put in front. Names that start with a dot are passed over. Links to folders are
    followed, but every real folder is searched once, so loops end.
    Raises UsageError: no recording at all, or two recordings of the same name.
    """
    sources: list[AudioFile] = []
    failures: list[Failure] = []
    if any(os.fspath(path) == "" for path in paths):
        raise UsageError("One of the paths is empty. Name a file or a folder; `.` is the current folder.")
    folders = [Path(path) for path in paths if os.path.isdir(path)]
    roots = {os.path.realpath(folder) for folder in folders}
    visited = set(roots)
    for path in map(Path, paths):
        if path.is_dir():
            prefix = f"{path.resolve().name}/" if len(roots) > 1 else ""
            for file in _walk(path, roots, visited, failures):
                sources.append(AudioFile(file, prefix + file.relative_to(path).as_posix()))
        elif os.path.lexists(path):
            sources.append(AudioFile(path, path.name))
        else:
            failures.append(Failure(str(path), f"{shown(path)} does not exist. Check the path."))
    sources = _without_repeats(sources)
    if not sources and failures:
        raise UsageError(failures[0].error)
    if not sources:
        raise UsageError(
            f"No recordings in {', '.join(shown(path) for path in paths[:5])}. Folders are searched for "
            ".wav, .flac, .ogg, .mp3, .m4a and the like; name a file itself to have it tried whatever its ending."
        )
    return sources, failures


def _walk(folder: Path, roots: set[str], visited: set[str], failures: list[Failure]) -> Iterator[Path]:
    def note(error: OSError) -> None:
        reason = f"{shown(error.filename)} cannot be listed: {error.strerror}. Check its permissions."
        failures.append(Failure(str(error.filename), reason))

    inside = tuple(os.path.join(root, "") for root in roots)
    for here, subfolders, files in os.walk(folder, onerror=note, followlinks=True):
        new = []
        for name in sorted(subfolders):
            path = os.path.join(here, name)
            real = os.path.realpath(path)
            # a link into a folder that was given is passed over: the walk comes by there anyway, under the real name
            if (
                not name.startswith(".")
                and real not in visited
                and not (os.path.islink(path) and real.startswith(inside))
            ):
                visited.add(real)
                new.append(name)
        subfolders[:] = new
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:
                yield Path(here, name)


def _without_repeats(sources: list[AudioFile]) -> list[AudioFile]:
    """Drop a recording that is named twice; refuse two recordings whose outputs would have one name."""
    by_path: dict[str, AudioFile] = {}
    by_name: dict[str, AudioFile] = {}
    for source in sources:
        if by_path.setdefault(os.path.abspath(source.path), source) is not source:
            continue
        other = by_name.setdefault(source.name, source)
        if other is not source:
            raise UsageError(
                f"{shown(other.path)} and {shown(source.path)} would both be written as {shown(source.name)}. "
                "Embed them into different outputs, or give the folder above them."
            )
    return list(by_path.values())
