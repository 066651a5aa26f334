"""Task folders as hear-preprocess writes them: read, checked as far as they are read, named.

    TASKS_DIR/NAME-VERSION-MODE/{task_metadata.json, labelvocabulary.csv, SPLIT.json, RATE/SPLIT/FILE.wav}

Everything in a folder is data from strangers: nothing is executed, and a name that would lead out of the folder is an
error. `hear-models tasks check` says everything that is wrong; reading stops at the first thing.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hear_models.errors import FileError, HearModelsError, UsageError
from hear_models.foreign import LFS_POINTER, open_plain, read_json, read_text
from hear_models.tasks.known_tasks import known_tasks
from hear_models.tasks.origin import Content, origin_of

LARGEST_TABLE = 1 << 29  # bytes of a split or a vocabulary
METADATA, VOCABULARY = "task_metadata.json", "labelvocabulary.csv"
SCENE, EVENT = "scene", "event"
MULTICLASS, MULTILABEL = "multiclass", "multilabel"
SPLIT_MODES = ("trainvaltest", "new_split_kfold", "presplit_kfold")
MAC_LEAVINGS = "__MACOSX"  # beside what a Mac packed into a zip archive
PAPER_TEN = "paper"  # `--tasks paper`


class TaskError(HearModelsError):
    """A task folder lacks a file, or holds something that cannot be right."""


@dataclass(frozen=True)
class Task:
    """One task folder. Lists in it are not to be changed."""

    folder: Path
    name: str  # the folder's name, NAME-VERSION-MODE; the metadata's task_name may be another task's
    embedding_type: str  # "scene" | "event"
    prediction_type: str  # "multiclass" | "multilabel"
    split_mode: str
    splits: tuple[str, ...]  # in the order of the metadata
    sample_duration: float | None  # seconds; None: clips keep their length
    evaluation: tuple[str, ...]  # metrics, the first is the primary one
    labels: tuple[str, ...]  # vocabulary in idx order
    metadata: dict[str, Any]  # the whole task_metadata.json
    origin: str  # "official" | "unofficial" | "synthetic" | "user"
    _items: dict[str, dict[str, list[Any]]] = field(repr=False, compare=False, default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Split → number of clips."""
        return {split: len(self._items[split]) for split in self.splits}

    def items(self, split: str) -> dict[str, list[Any]]:
        """SPLIT.json in file order: file name → labels (str or int), or events {label, start, end} in ms."""
        return self._items[split]

    def audio(self, sample_rate: int, split: str, file: str) -> Path:
        """Where the clip lies at `sample_rate` Hz; it may not exist."""
        return self.folder / str(sample_rate) / split / file

    def rates(self) -> list[int]:
        """The sample rates in Hz whose folders are there."""
        folders = (path.name for path in self.folder.iterdir() if path.is_dir())
        return sorted(int(name) for name in folders if name.isascii() and name.isdigit() and str(int(name)) == name)

    def data_sha256(self, sample_rate: int) -> str:
        """sha256 over metadata, vocabulary, every SPLIT.json and the bytes of every clip at `sample_rate` Hz.

        The digest of a file is remembered by its size and time of change, so a second call reads no audio.
        Raises TaskError naming the first file that is missing.
        """
        from hear_models.tasks.task_digest import data_sha256

        return data_sha256(self, sample_rate)


def read_task(folder: str | Path) -> Task:
    """Read one task folder (not its audio). Raises TaskError naming the file and what is wrong with it."""
    path = Path(folder)
    if not path.is_dir():
        raise TaskError(f"{path} is no folder. Give the folder of a task.")
    name = path.absolute().name  # of a symbolic link its own, not its target's
    metadata = read_metadata(path)
    labels = read_vocabulary(path)
    splits = tuple(metadata["splits"])
    items = {split: read_items(path, split) for split in splits}
    known = frozenset(labels)
    for split, clips in items.items():
        for file, entries in clips.items():
            if problem := item_problem(file, entries, metadata, known):
                raise TaskError(f"{path / split}.json: {problem}. `hear-models tasks check` lists everything wrong.")
    duration = metadata["sample_duration"]
    content = Content(metadata, {split: len(clips) for split, clips in items.items()}, labels, labels_said(items))
    return Task(
        folder=path,
        name=name,
        embedding_type=metadata["embedding_type"],
        prediction_type=metadata["prediction_type"],
        split_mode=metadata["split_mode"],
        splits=splits,
        sample_duration=None if duration is None else float(duration),
        evaluation=tuple(metadata["evaluation"]),
        labels=labels,
        metadata=metadata,
        origin=origin_of(name, content),
        _items=items,
    )


def list_tasks(tasks_dir: str | Path, only: Sequence[str] = ()) -> list[Task]:
    """The tasks in `tasks_dir`, by name; `only` names some: a folder, its beginning (`esc50`), as in the papers
    (`ESC-50`), or `paper` for the papers' ten.

    Files, hidden folders and `__MACOSX` are passed over. Raises UsageError if `only` names a task that is not there or
    there is none at all, TaskError if a folder is broken.
    """
    return [read_task(folder) for folder in task_folders(tasks_dir, only)]


def task_folders(tasks_dir: str | Path, only: Sequence[str] = ()) -> list[Path]:
    """The folders that `list_tasks` reads."""
    root = Path(tasks_dir)
    if not root.is_dir():
        raise UsageError(f"{root} is no folder. Give the folder that holds the task folders.")
    if (root / METADATA).exists():
        raise UsageError(f"{root} is a task itself. Give the folder above it, and name the task beside.")
    folders = sorted(
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".") and path.name != MAC_LEAVINGS
    )
    if not folders:
        raise UsageError(f"{root} holds no task folder. Unpack or make one there; `hear-models tasks list` helps.")
    if not only:
        return folders
    chosen: set[Path] = set()
    for wanted in only:
        found = [folder for folder in folders if is_called(folder.name, wanted)]
        if not found:
            there = ", ".join(folder.name for folder in folders)
            near = near_tasks(wanted, [folder.name for folder in folders])
            raise UsageError(f"there is no task {wanted!r} in {root}. {near}There are: {there}.")
        chosen.update(found)
    return sorted(chosen)


def is_called(folder_name: str, wanted: str) -> bool:
    """Whether a user who says `wanted` means that folder."""
    known = known_tasks().get(folder_name)
    said = wanted.lower()
    if folder_name == wanted or folder_name.lower().startswith(f"{said}-"):
        return True
    return known is not None and (
        bare(said) == bare(known.short) or (said == PAPER_TEN and known.paper_name is not None)
    )


def near_tasks(wanted: str, names: Iterable[str]) -> str:
    """Which of the folder `names` may be meant by a name that is none: "Did you mean esc50-v2.0.0-full? ", or ""."""
    said = bare(wanted)
    spoken: dict[str, str] = {}  # what a person may have written → folder
    for name in names:
        known = known_tasks().get(name)
        for word in (name, name.split("-")[0], *((known.short, known.title) if known else ())):
            spoken.setdefault(bare(word), name)
    near = [name for word, name in spoken.items() if said and (said in word or (len(word) > 2 and word in said))]
    near += [spoken[word] for word in get_close_matches(said, spoken, n=3, cutoff=0.6)]
    return f"Did you mean {' or '.join(list(dict.fromkeys(near))[:3])}? " if near else ""


def bare(name: str) -> str:
    """A name without capitals and marks, as people remember it: "ESC-50" and "esc50" are one."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def read_metadata(folder: Path) -> dict[str, Any]:
    """task_metadata.json with everything that an evaluator needs present and of the right kind."""
    path = folder / METADATA
    found = read_task_json(path)
    if not isinstance(found, dict):
        raise TaskError(f"{path} is no JSON object. Unpack the task again.")
    if problem := metadata_problem(found):
        raise TaskError(f"{path}: {problem}. Repair it or unpack the task again.")
    return found


def metadata_problem(metadata: dict[str, Any]) -> str | None:
    """The first thing in task_metadata.json that cannot be right, as a clause."""
    choices = {
        "embedding_type": (SCENE, EVENT),
        "prediction_type": (MULTICLASS, MULTILABEL),
        "split_mode": SPLIT_MODES,
    }
    for key, allowed in choices.items():
        if metadata.get(key) not in allowed:
            return f"{key} is {metadata.get(key)!r}, it must be one of {', '.join(allowed)}"
    if metadata["embedding_type"] == EVENT and metadata["prediction_type"] != MULTILABEL:
        return "an event task must have prediction_type multilabel"
    for key in ("splits", "evaluation"):
        value = metadata.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
            return f"{key} is {value!r}, it must be a list of names"
        if len(set(value)) < len(value):
            return f"{key} names something twice: {value!r}"
    splits = metadata["splits"]
    if metadata["split_mode"] == "trainvaltest":
        if set(splits) != {"train", "valid", "test"}:
            return f"splits are {splits!r}, split_mode trainvaltest has train, valid and test"
    elif set(splits) != {f"fold{k:02d}" for k in range(len(splits))} or len(splits) < 3:
        return f"splits are {splits!r}, a k-fold task has fold00, fold01, ... and at least three"
    duration = metadata.get("sample_duration", math.nan)
    if duration is not None and not (_is_time(duration) and duration > 0):
        shown = repr(duration) if "sample_duration" in metadata else "missing"
        return f"sample_duration is {shown}, it must be seconds or null"
    return None


def read_vocabulary(folder: Path) -> tuple[str, ...]:
    """labelvocabulary.csv: the labels in idx order, as text. Raises TaskError: gaps in idx, a label twice, none."""
    path = folder / VOCABULARY
    try:
        rows = [row for row in csv.reader(io.StringIO(read_text(path, LARGEST_TABLE), newline="")) if row]
    except FileError as error:
        raise TaskError(_told(path, error)) from error
    except csv.Error as error:
        raise TaskError(f"{path} cannot be read: {_reason(error)}. Unpack the task again.") from error
    if not rows or "idx" not in rows[0] or "label" not in rows[0]:
        raise TaskError(f"{path} does not begin with the line `idx,label`. Unpack the task again.")
    at, label = rows[0].index("idx"), rows[0].index("label")
    vocabulary: dict[int, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) <= max(at, label) or not (row[at].isascii() and row[at].isdigit() and len(row[at]) < 10):
            raise TaskError(f"{path}, row {number}: {','.join(row)!r} is no `idx,label`. Repair the row.")
        if int(row[at]) in vocabulary:
            raise TaskError(f"{path}, row {number}: idx {row[at]} occurs twice. Repair the row.")
        vocabulary[int(row[at])] = row[label]
    n = len(vocabulary)
    if sorted(vocabulary) != list(range(n)):
        missing = next(idx for idx in range(n) if idx not in vocabulary)
        raise TaskError(f"{path}: idx has gaps ({missing} is missing). Number from 0 up.")
    labels = tuple(vocabulary[idx] for idx in range(n))
    if not labels:
        raise TaskError(f"{path} holds no label. Unpack the task again.")
    if len(set(labels)) < n:
        twice = next(name for name, count in Counter(labels).items() if count > 1)
        raise TaskError(f"{path}: the label {twice!r} occurs twice. Repair the rows.")
    return labels


def read_items(folder: Path, split: str) -> dict[str, list[Any]]:
    """SPLIT.json in file order, file name → list; what is in the lists is not looked at (`item_problem` does)."""
    path = folder / f"{split}.json"
    found = read_task_json(path)
    if not isinstance(found, dict):
        raise TaskError(f"{path} is no JSON object of file names. Unpack the task again.")
    return found


def item_problem(file: str, entries: Any, metadata: dict[str, Any], labels: frozenset[str]) -> str | None:
    """What is wrong with one entry of SPLIT.json, as a clause; None if nothing is."""
    if not file or file in (".", "..") or any(character in file for character in "/\\\0"):
        return f"{file!r} is no plain file name"
    if not isinstance(entries, list):
        return f"{file}: a list of labels was expected, found {entries!r}"
    said = entries
    if metadata["embedding_type"] == EVENT:
        for event in entries:
            times: list[Any] = [event.get(key) for key in ("start", "end")] if isinstance(event, dict) else []
            if "label" not in (event if times else {}) or not all(_is_time(time) for time in times):
                return f"{file}: {event!r} is no event with label, start and end in ms"
            if times[1] < times[0]:
                return f"{file}: the event {event!r} ends before it starts"
        said = [event["label"] for event in entries]
    elif metadata["prediction_type"] == MULTICLASS and len(entries) != 1:
        return f"{file} has {len(entries)} labels, a multiclass task has exactly one"
    for label in said:
        if isinstance(label, bool) or not isinstance(label, (str, int, float)):
            return f"{file}: the label {label!r} is neither text nor a number"
        if str(label) not in labels:
            return f"{file}: the label {label!r} is not in {VOCABULARY}"
    return None


def label_text(entry: Any) -> str:
    """The label of an entry of SPLIT.json, of an event too, as the vocabulary writes it."""
    return str(entry["label"] if isinstance(entry, dict) else entry)


def labels_said(splits: Mapping[str, Mapping[str, Sequence[Any]]]) -> Counter[str]:
    """How many entries carry each label, over all splits."""
    return Counter(label_text(entry) for items in splits.values() for entries in items.values() for entry in entries)


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def read_task_json(path: Path) -> Any:
    """A JSON file of a task. Raises TaskError: missing, unreadable, no JSON, or a key twice in one object."""

    try:
        return read_json(path, LARGEST_TABLE)
    except FileError as error:
        raise TaskError(_told(path, error)) from error


def _told(path: Path, error: FileError) -> str:
    if not path.exists():
        return f"{path} cannot be read: it is missing. Unpack the task again."
    if LFS_POINTER in str(error):
        return str(error)
    return f"{str(error).rpartition('. ')[0]}. Unpack the task again."


def begins_with_mark(path: Path) -> bool:
    """Whether a text begins with a byte order mark, as editors on Windows write it."""
    try:
        with open_plain(path) as file:
            return file.read(3) == codecs.BOM_UTF8
    except (FileError, OSError):
        return False


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
