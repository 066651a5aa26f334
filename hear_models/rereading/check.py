"""Finds what was damaged since it was written: embeddings, tables, records, training states, checkpoints, features."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hear_models.checkpoints.safetensors_file import verify
from hear_models.checkpoints.sealed import read_sealed
from hear_models.corpus.npz import is_ours, read_whole
from hear_models.corpus.parquet import verify_table
from hear_models.corpus.unfinished import BEGIN, END, verify_unfinished
from hear_models.errors import CheckpointError, FileError, HearModelsError, UsageError
from hear_models.evaluation.embeddings.embedding_cache import DONE, KEY_FILE, damaged_files
from hear_models.evaluation.runs.record import is_record, read_record
from hear_models.exploration.collection import SUFFIX, read_index
from hear_models.files import is_left_over
from hear_models.foreign import file_sha256, open_plain, walk
from hear_models.seals import is_sealed
from hear_models.training.features import about_of, verify_features
from hear_models.training.state import STATE


@dataclass(frozen=True)
class Checked:
    """One thing that was re-read."""

    path: Path
    kind: str
    problem: str | None = None  # None: as it was written
    remedy: str = ""


@dataclass(frozen=True)
class _Kind:
    name: str
    is_one: Callable[[Path], bool]
    read: Callable[[Path], object]
    remedy: str


def check(paths: Sequence[str | os.PathLike[str]]) -> Iterator[Checked]:
    """Re-read every byte of what lies at `paths` and below; what this program did not write is passed over.

    Raises UsageError for a path that is not there, or at which there is nothing to check.
    """
    for given in map(Path, paths):
        if not given.exists():
            raise UsageError(f"{given} does not exist. Give files or folders that hear-models wrote.")
        found = False
        for one in _checked_below(given):
            found = True
            yield one
        if not found:
            raise UsageError(
                f"{given} holds nothing that can be checked. Give embeddings, tables, results, runs or checkpoints."
            )


def _checked_below(given: Path) -> Iterator[Checked]:
    if not given.is_dir():
        yield from _checked_file(given)
        return
    for where, folders, files in walk(given):
        if KEY_FILE in files and DONE in files:
            yield _checked_embeddings(where)
            folders.clear()  # the clips' own files have no digests
            continue
        for name in (*folders, *files):
            if is_left_over(name):
                yield Checked(
                    where / name,
                    "left over",
                    "it was left by a run that was killed, or is of one that is going on",
                    "The next run that writes there removes it.",
                )
        folders[:] = [name for name in folders if not is_left_over(name)]
        for name in files:
            if not is_left_over(name):
                yield from _checked_file(where / name)


def _checked_embeddings(folder: Path) -> Checked:
    damaged = damaged_files(folder)
    if damaged is None:
        problem: str | None = "an older version wrote it, without digests"
    else:
        problem = f"not as they were written: {', '.join(damaged)}" if damaged else None
    return Checked(folder, "task embeddings", problem, "Remove the folder; `hear-models evaluate` makes it again.")


def _checked_file(path: Path) -> Iterator[Checked]:
    for kind in KINDS:
        if kind.is_one(path):
            try:
                kind.read(path)
            except (HearModelsError, OSError) as error:
                yield Checked(path, kind.name, str(error), kind.remedy)
            else:
                yield Checked(path, kind.name)
            return


# ------------------------------------------------------------------------------------------------------------- kinds
def _ends(*endings: str) -> Callable[[Path], bool]:
    return lambda path: path.name.endswith(endings)


def _is_embeddings(path: Path) -> bool:
    """By its end, or by where such files lie: one that lost its end is damaged, not somebody's."""
    return path.suffix == ".npz" and is_ours(path)


def _is_index(path: Path) -> bool:
    return path.suffix == SUFFIX and _is_sealed(path, at_end=True)


def _is_state(path: Path) -> bool:
    return path.suffix == ".safetensors" and (path.name == STATE or _is_sealed(path, at_end=False))


def _is_sealed(path: Path, at_end: bool) -> bool:
    try:
        with open_plain(path) as file:
            return is_sealed(file, at_end=at_end)
    except (FileError, OSError):
        return False


def _read_state(path: Path) -> None:
    if not read_sealed(path, "It cannot be resumed from.")[2]:
        raise CheckpointError("An older version wrote it, without a digest.")


def _read_record(path: Path) -> None:
    record = read_record(path)
    if record.predictions is None:
        return
    predictions = path.parent / record.predictions
    if record.predictions_sha256 is None:
        raise FileError("An older version wrote it, without the digest of its predictions.")
    if file_sha256(predictions) != record.predictions_sha256:
        raise FileError(f"{predictions} is not what was written with this record.")


KINDS = (
    _Kind(
        "embeddings",
        _is_embeddings,
        read_whole,
        "The same `hear-models embed` command makes it again.",
    ),
    _Kind("index of embeddings", _is_index, read_index, "Delete it; the next search or map makes it again."),
    _Kind(
        "table of embeddings",
        _ends(".parquet"),
        verify_table,
        "Embed the recordings again with --overwrite; a part of a table can be deleted by itself.",
    ),
    _Kind(
        "unfinished recording",
        lambda path: path.name.startswith(BEGIN) and path.name.endswith(END),
        verify_unfinished,
        "The next run goes on where it is whole.",
    ),
    _Kind(
        "features",
        lambda path: path.name.endswith(".starts.npy") and about_of(path).exists(),
        verify_features,
        "Delete it; the next `hear-models pretrain` computes it again.",
    ),
    _Kind(
        "training state",
        _is_state,
        _read_state,
        "Take an intact copy; without one the run begins again when the file is deleted.",
    ),
    _Kind(
        "checkpoint",
        _ends(".safetensors"),
        verify,
        "Convert, download or train it again; the last state of a run gives its model.safetensors back.",
    ),
    _Kind(
        "record",
        lambda path: path.suffix == ".json" and is_record(path),
        _read_record,
        "Remove it; the same `hear-models evaluate` command makes it again.",
    ),
)
