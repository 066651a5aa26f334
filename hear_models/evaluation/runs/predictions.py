"""The predictions beside a record: one `.npz` without pickles, for statistics over clips and for comparing judges."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hear_models.evaluation.judges.outcome import Predictions
from hear_models.evaluation.runs.record import RecordError
from hear_models.files import write_atomically
from hear_models.foreign import read_arrays, reading

MATRICES = ("target", "prediction", "logit")
Events = dict[str, list[dict[str, Any]]]  # file → [{"label", "start", "end"}], milliseconds


@dataclass(frozen=True)
class StoredPredictions:
    """What an `.npz` holds: test split → rows, and for event tasks test split → file → events."""

    splits: dict[str, Predictions]
    events: dict[str, Events] = field(default_factory=dict)


def write_predictions(
    path: str | os.PathLike[str], splits: Mapping[str, Predictions], events: Mapping[str, Events] | None = None
) -> str:
    """Write predictions whole or not at all; the same predictions give the same bytes. Returns their sha256.

    Arrays: SPLIT/files (text [rows]), SPLIT/target, SPLIT/prediction, SPLIT/logit (float32 [rows, classes]), and for
    event tasks SPLIT/timestamps_ms (float64 [rows]) and SPLIT/events_file, _label, _start_ms, _end_ms ([events]).
    """
    arrays: dict[str, np.ndarray] = {}
    for split, rows in splits.items():
        arrays[f"{split}/files"] = np.asarray(rows.files, dtype=np.str_)
        for name in MATRICES:
            if (matrix := getattr(rows, name)) is not None:
                arrays[f"{split}/{name}"] = np.asarray(matrix, dtype=np.float32)
        if rows.timestamps_ms is not None:
            arrays[f"{split}/timestamps_ms"] = np.asarray(rows.timestamps_ms, dtype=np.float64)
    for split, files in (events or {}).items():
        listed = [(file, event) for file, of_file in files.items() for event in of_file]
        arrays[f"{split}/events_file"] = np.asarray([file for file, _ in listed], dtype=np.str_)
        arrays[f"{split}/events_label"] = np.asarray([str(event["label"]) for _, event in listed], dtype=np.str_)
        for name in ("start", "end"):
            arrays[f"{split}/events_{name}_ms"] = np.asarray([event[name] for _, event in listed], dtype=np.float64)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return write_atomically(path, buffer.getvalue())


def read_predictions(path: str | os.PathLike[str]) -> StoredPredictions:
    """Read what `write_predictions` wrote; no pickle is opened.

    Raises RecordError, with the file's name, if an array is missing, of another kind, or does not fit the others.
    """
    with reading(path, RecordError, "Remove it with its record, and evaluate again.", what="predictions"):
        arrays = read_arrays(path)
        splits = dict.fromkeys(name.rpartition("/")[0] for name in arrays)
        rows = {split: _rows_of(arrays, split) for split in splits}
        events = {split: _events_of(arrays, split) for split in splits if f"{split}/events_file" in arrays}
        return StoredPredictions(rows, events)


def _rows_of(arrays: Mapping[str, np.ndarray], split: str) -> Predictions:
    files = arrays[f"{split}/files"]
    if files.ndim != 1 or files.dtype.kind != "U":
        raise ValueError(f"{split}/files is no list of names")
    matrices = {name: arrays.get(f"{split}/{name}") for name in MATRICES}
    target, prediction = matrices["target"], matrices["prediction"]
    if target is None or prediction is None:
        raise ValueError(f"{split}/target or {split}/prediction is missing")
    for name, matrix in matrices.items():
        if matrix is not None and (
            matrix.dtype != np.float32 or matrix.shape != target.shape or matrix.ndim != 2 or len(matrix) != len(files)
        ):
            raise ValueError(f"{split}/{name} is {matrix.dtype} {list(matrix.shape)}, which does not fit the others")
    times = arrays.get(f"{split}/timestamps_ms")
    if times is not None and (times.dtype != np.float64 or times.shape != files.shape):
        raise ValueError(f"{split}/timestamps_ms does not fit the files")
    return Predictions([str(file) for file in files], target, prediction, matrices["logit"], times)


def _events_of(arrays: Mapping[str, np.ndarray], split: str) -> Events:
    columns = [arrays[f"{split}/events_{name}"] for name in ("file", "label", "start_ms", "end_ms")]
    if [column.dtype.kind for column in columns] != ["U", "U", "f", "f"] or len({c.shape for c in columns}) != 1:
        raise ValueError(f"the events of {split} do not fit each other")
    events: Events = {}
    for file, label, start, end in zip(*(column.tolist() for column in columns), strict=True):
        events.setdefault(file, []).append({"label": label, "start": start, "end": end})
    return events
