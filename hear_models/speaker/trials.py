"""Lists of VoxCeleb's kind: trials, speakers, splits and training lists; a bad line is an error with file and line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from hear_models.errors import InputError
from hear_models.foreign import read_bytes

COLUMNS = {
    "VoxCeleb1 ID": "id",
    "VGGFace1 ID": "name",
    "VoxCeleb2 ID": "id",
    "VGGFace2 ID": "vggface2_id",
    "Gender": "gender",
    "Nationality": "nationality",
    "Set": "set",
}
LABELS = ("0", "1")  # different speakers, the same one
SPLITS = {1: "train", 2: "validation", 3: "test"}


@dataclass(frozen=True)
class Trial:
    """Two recordings, and whether one speaker is in both: 1, 0, or None where the list does not say."""

    label: int | None
    enrol: str  # paths as in the list, relative to the folder of the recordings
    test: str


@dataclass(frozen=True)
class Speaker:
    """A line of `vox1_meta.csv` or `vox2_meta.csv`; what the file has no column for is None."""

    id: str
    gender: str | None = None
    set: str | None = None
    name: str | None = None
    nationality: str | None = None
    vggface2_id: str | None = None


def read_trials(path: str | os.PathLike[str]) -> list[Trial]:
    """The trials of a list, one a line: `label enrol test`, or `enrol test` without labels.

    Columns lie between blanks or tabs; empty lines count for nothing. Label 1: the same speaker, 0: different ones.

    Raises:
        InputError (a ValueError): another number of columns, another label, lines with and without labels in one file,
            no trial at all; with file and line.
        FileError: the file cannot be read.
    """
    trials: list[Trial] = []
    for number, line in _lines(path):
        parts = line.split()
        if len(parts) not in (2, 3) or (len(parts) == 2 and parts[0] in LABELS):
            what = "a label and one path" if len(parts) == 2 else f"{len(parts)} columns"
            raise InputError(f"{path}, line {number}: {what}. Write `label enrol test`, or `enrol test`.")
        if len(parts) == 3 and parts[0] not in LABELS:
            raise InputError(f"{path}, line {number}: the label is {parts[0]!r}. Write 1 (same speaker) or 0.")
        trial = Trial(int(parts[0]) if len(parts) == 3 else None, *parts[-2:])
        if trials and (trial.label is None) != (trials[0].label is None):
            raise InputError(f"{path}, line {number}: some trials have labels and some have none. Label all or none.")
        trials.append(trial)
    if not trials:
        raise InputError(f"{path} holds no trials. Write one a line: `label enrol test`.")
    return trials


def read_speakers(path: str | os.PathLike[str]) -> list[Speaker]:
    """The speakers of `vox1_meta.csv` (tabs) or `vox2_meta.csv` (commas), by the names in its first line.

    Raises:
        InputError (a ValueError): a first line without an id, or another number of columns; with file and line.
        FileError: the file cannot be read.
    """
    names: list[str] | None = None
    sign = ","
    speakers: list[Speaker] = []
    for number, line in _lines(path):
        if names is None:
            sign = "\t" if "\t" in line else ","
            names = [part.strip() for part in line.split(sign)]
            unknown = [name for name in names if name not in COLUMNS]
            if unknown or not any(COLUMNS[name] == "id" for name in names):
                raise InputError(
                    f"{path}, line {number}: the columns are {', '.join(names)}. Known are {', '.join(COLUMNS)}."
                )
            continue
        parts = [part.strip() for part in line.split(sign)]
        if len(parts) != len(names):
            raise InputError(f"{path}, line {number}: {len(parts)} columns instead of {len(names)}. Correct the line.")
        speakers.append(Speaker(**{COLUMNS[name]: part for name, part in zip(names, parts, strict=True)}))
    return speakers


def read_split(path: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """Lines `split path` of `iden_split.txt`: 1 is training, 2 validation, 3 test (`SPLITS`)."""
    found = []
    for number, first, last in _pairs(path):
        if first not in ("1", "2", "3"):
            raise InputError(f"{path}, line {number}: the split is {first!r}. Write 1, 2 or 3.")
        found.append((int(first), last))
    return found


def read_training_list(path: str | os.PathLike[str]) -> list[tuple[str, int]]:
    """Lines `path class` of a training list. Errors as of the others."""
    found = []
    for number, first, last in _pairs(path):
        if not last.isdecimal():
            raise InputError(f"{path}, line {number}: the class is {last!r}. Write a whole number.")
        found.append((first, int(last)))
    return found


def _pairs(path: str | os.PathLike[str]) -> Iterator[tuple[int, str, str]]:
    for number, line in _lines(path):
        parts = line.split()
        if len(parts) != 2:
            raise InputError(f"{path}, line {number}: {len(parts)} columns. Write two.")
        yield number, parts[0], parts[1]


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """(number, text) of the lines that are not blank; any ends of lines, with or without a byte-order mark."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}). Give a list as text.") from error
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        if line.strip():
            yield number, line
