"""Isolated sounds in a folder with a subfolder for each label: GISE-51's events, its backgrounds, or one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hear_models.datasets.gise51 import LabelledClip, clip_of
from hear_models.errors import AudioFileError, FileError, UsageError
from hear_models.files import shown
from hear_models.pipeline.audio import probe

SUFFIXES = (".wav", ".flac")


class Library:
    """The recordings of a folder with a subfolder for each label, and how long they are.

    Names that begin with a dot are passed over.

    Args:
        folder: for instance `isolated_events/train`.

    Raises:
        UsageError: the folder holds no recordings, or a label cannot stand in a list of labels.
        FileError: a folder may not be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            labels = sorted(path.name for path in _seen(folder) if path.is_dir()) if folder.is_dir() else []
            found = {label: sorted(path for path in _seen(folder / label) if _is_sound(path)) for label in labels}
        except OSError as error:
            said = f"{shown(error.filename or folder)} cannot be read: {error.strerror}. Check its permissions."
            raise FileError(said) from None
        self.files = {label: files for label, files in found.items() if files}
        if not self.files:
            raise UsageError(
                f"{folder} holds no recordings. It needs a folder for each label, with .wav or .flac in it."
            )
        for label in self.files:
            if not label.isprintable() or "," in label or not _is_text(label):
                raise UsageError(
                    f"The folder {shown(folder / label)} cannot be a label: lists separate labels by commas, tabs and "
                    "lines. Rename it."
                )
        self._duration_s: dict[Path, float] = {}

    def __len__(self) -> int:
        return sum(map(len, self.files.values()))

    def __iter__(self) -> Iterator[LabelledClip]:
        """Every recording with its one label, in order of labels and names; read when it is wanted."""
        for label, files in self.files.items():
            yield from (clip_of(path, (label,)) for path in files)

    @property
    def labels(self) -> list[str]:
        """In order of the alphabet (of characters), as the authors number them."""
        return list(self.files)

    def duration_s(self, file: Path) -> float:
        """Length of a recording in seconds. AudioFileError if it cannot be read, or is empty."""
        if file not in self._duration_s:
            seconds = probe(file).duration_s
            if not seconds:
                raise AudioFileError(f"{shown(file)} holds no samples. Replace or remove it.")
            self._duration_s[file] = seconds
        return self._duration_s[file]

    def find(self, label: str, name: str) -> Path | None:
        """The recording of a label by its file name, or None."""
        return next((path for path in self.files.get(label, ()) if path.name == name), None)

    def choose(self, rng: np.random.Generator, number: int) -> list[Path]:
        """Recordings drawn with replacement, every label alike however many it has."""
        labels = rng.integers(0, len(self.files), number)
        return [files[int(rng.integers(len(files)))] for files in (self.files[self.labels[i]] for i in labels)]

    def listing(self) -> list[tuple[str, int]]:
        """Names and sizes: what tells one state of the library from another."""
        return [
            (path.relative_to(self.folder).as_posix(), path.stat().st_size)
            for files in self.files.values()
            for path in files
        ]


def _seen(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _is_sound(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _is_text(name: str) -> bool:
    """Whether a name of the file system can be written as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
