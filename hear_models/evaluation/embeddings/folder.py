"""Embedding folders as hear-eval-kit lays them out: read without opening a pickle."""

from __future__ import annotations

import csv
import io
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.errors import FileError, HearModelsError
from hear_models.foreign import open_plain, read_json, read_text, reading


class EmbeddingFolderError(HearModelsError):
    """A folder of embeddings lacks a file, or two of its files disagree."""


LARGEST_TABLE = 1 << 29  # bytes


@dataclass(frozen=True)
class Split:
    """One split, a row for each clip (scene) or timestamp (event), in packed order.

    `embeddings` float32 [rows, dim]; `labels` one list a row, as in SPLIT.json (strings or integers); `files` one name
    a row (an event file's name is repeated); `timestamps_ms` float64 [rows], for event tasks only.
    """

    embeddings: np.ndarray
    labels: list[list[Any]]
    files: list[str]
    timestamps_ms: np.ndarray | None = None


@dataclass(frozen=True)
class EmbeddingFolder:
    """A task's embeddings on disk: metadata, vocabulary in index order as strings, and its splits in metadata order."""

    path: Path
    metadata: dict[str, Any]
    labels: tuple[str, ...]
    splits: tuple[str, ...]

    def split(self, name: str) -> Split:
        """Read one split; EmbeddingFolderError names the file that is missing or does not fit."""
        return read_split(self, name)

    def events(self, split: str) -> dict[str, list[dict[str, Any]]]:
        """Reference events of an event task: file → `{"label", "start", "end"}` in milliseconds, from SPLIT.json."""
        found = _read_json(self.path / f"{split}.json")
        try:
            return {str(file): [_event(event) for event in events] for file, events in found.items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EmbeddingFolderError(
                f"{self.path / split}.json must map file names to lists of events with label, start and end (ms)."
            ) from error


def packing_order(splits: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The order of rows: each split's files shuffled by one `random.Random(0)`, the splits in the given order.

    `splits` maps a split's name to its files in SPLIT.json's order; iterate it in the order of the metadata.
    """
    generator = random.Random(0)
    packed: dict[str, list[str]] = {}
    for name, files in splits.items():
        packed[name] = list(files)
        generator.shuffle(packed[name])
    return packed


def read_embedding_folder(path: str | os.PathLike[str]) -> EmbeddingFolder:
    """Read metadata and vocabulary of a folder that the kit or this project wrote.

    Raises EmbeddingFolderError, naming the file, if it is no such folder.
    """
    with reading(path, EmbeddingFolderError, "Embed the task again."):
        folder = Path(path)
        metadata = _read_json(folder / "task_metadata.json")
        if not isinstance(metadata, dict) or not isinstance(metadata.get("splits"), list):
            raise EmbeddingFolderError(
                f"{folder / 'task_metadata.json'} is no HEAR task's metadata. It must list `splits`."
            )
        return EmbeddingFolder(
            folder, metadata, read_vocabulary(folder / "labelvocabulary.csv"), tuple(metadata["splits"])
        )


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """The labels of labelvocabulary.csv (header `idx,label`) in the order of their index, as strings."""
    try:
        table = csv.DictReader(io.StringIO(read_text(path, LARGEST_TABLE), newline=""))
        rows = {int(row["idx"]): str(row["label"]) for row in table}
    except FileError as error:
        raise EmbeddingFolderError(f"{str(error).rpartition('. ')[0]}. Embed the task again.") from error
    except (KeyError, TypeError, ValueError, csv.Error, UnicodeDecodeError) as error:
        raise EmbeddingFolderError(f"{path} is no vocabulary. It must have the columns idx and label.") from error
    if sorted(rows) != list(range(len(rows))) or not rows:
        raise EmbeddingFolderError(f"{path} must number its labels 0, 1, 2 and so on without a gap.")
    return tuple(rows[index] for index in range(len(rows)))


def read_split(folder: EmbeddingFolder, name: str) -> Split:
    """The rows of one split, with labels rebuilt from SPLIT.json and the packing order (never from a pickle)."""
    with reading(folder.path / name, EmbeddingFolderError, "Embed the task again."):
        if name not in folder.splits:
            raise EmbeddingFolderError(f"{folder.path} has no split {name!r}. It has: {', '.join(folder.splits)}.")
        embeddings = _read_embeddings(folder.path, name)
        if folder.metadata.get("embedding_type") == "event":
            files, timestamps = _read_rows_of_events(folder.path, name)
            _check_rows(folder.path, name, len(embeddings), len(files), "timestamps")
            events = folder.events(name)
            unknown = sorted(set(files) - set(events))
            if unknown:
                raise EmbeddingFolderError(
                    f"{folder.path / name}.filename-timestamps.json has {unknown[0]}, which {name}.json does not list. "
                    "Embed the task again."
                )
            return Split(embeddings, active_labels(events, files, timestamps), files, timestamps)
        # all splits are read, since one generator packs them one after another
        items = {split: _read_labels(folder.path / f"{split}.json") for split in folder.splits}
        files = packing_order({split: list(content) for split, content in items.items()})[name]
        _check_rows(folder.path, name, len(embeddings), len(files), "files")
        return Split(embeddings, [list(items[name][file]) for file in files], files)


def active_labels(
    events: Mapping[str, Sequence[Mapping[str, Any]]], files: Sequence[str], timestamps_ms: np.ndarray
) -> list[list[Any]]:
    """Labels active at each row: those of events with start <= t < end + 0.0001 ms (the kit's interval tree)."""
    rows: list[list[Any]] = [[] for _ in files]
    of_file: dict[str, list[int]] = {}
    for row, file in enumerate(files):
        of_file.setdefault(file, []).append(row)
    for file, numbers in of_file.items():
        times = timestamps_ms[numbers]
        for event in events[file]:
            active = np.flatnonzero((event["start"] <= times) & (times < event["end"] + 0.0001))
            for position in active.tolist():
                if event["label"] not in rows[numbers[position]]:
                    rows[numbers[position]].append(event["label"])
    return [sorted(labels, key=str) for labels in rows]


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    return {"label": event["label"], "start": float(event["start"]), "end": float(event["end"])}


def _read_labels(path: Path) -> dict[str, list[Any]]:
    """SPLIT.json of a scene task: file → list of labels."""
    found = _read_json(path)
    if not isinstance(found, dict) or not all(isinstance(labels, list) for labels in found.values()):
        raise EmbeddingFolderError(f"{path} must map file names to lists of labels.")
    return found


def _read_embeddings(folder: Path, name: str) -> np.ndarray:
    shape = _read_json(folder / f"{name}.embedding-dimensions.json")
    path = folder / f"{name}.embeddings.npy"
    if not (isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, int) and n > 0 for n in shape)):
        raise EmbeddingFolderError(f"{folder / name}.embedding-dimensions.json must be [rows, width].")
    try:  # raw float32 without a header, whatever the name says
        with open_plain(path) as file:
            values = np.fromfile(file, dtype="<f4")
    except FileError as error:
        raise EmbeddingFolderError(f"{str(error).rpartition('. ')[0]}. Embed the task again.") from error
    except OSError as error:
        raise EmbeddingFolderError(
            f"{path} cannot be read: {error.strerror or error}. Embed the task again."
        ) from error
    if values.size != shape[0] * shape[1] or path.stat().st_size != 4 * values.size:
        raise EmbeddingFolderError(
            f"{path} has {path.stat().st_size} bytes, its dimensions {shape} need {4 * shape[0] * shape[1]}. "
            "Embed the task again."
        )
    return values.reshape(shape)


def _read_rows_of_events(folder: Path, name: str) -> tuple[list[str], np.ndarray]:
    """(file, time) of each row; the kit writes the path it packed from, of which the file name is the last part."""
    rows = _read_json(folder / f"{name}.filename-timestamps.json")
    try:
        return [str(row[0]).replace("\\", "/").rsplit("/", 1)[-1] for row in rows], np.array(
            [float(r[1]) for r in rows]
        )
    except (TypeError, ValueError, IndexError) as error:
        raise EmbeddingFolderError(
            f"{folder / name}.filename-timestamps.json must be a list of [file, milliseconds]. Embed the task again."
        ) from error


def _check_rows(folder: Path, name: str, rows: int, expected: int, of: str) -> None:
    if rows != expected:
        raise EmbeddingFolderError(
            f"{folder / name}.embeddings.npy has {rows} rows, but there are {expected} {of}. Embed the task again."
        )


def _read_json(path: Path) -> Any:
    try:
        return read_json(path, LARGEST_TABLE)
    except FileError as error:
        raise EmbeddingFolderError(f"{str(error).rpartition('. ')[0]}. Embed the task again.") from error
