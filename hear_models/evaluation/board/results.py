"""Finding results: records of this project, and folders that the kit wrote, in whatever folders a user names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hear_models.errors import UsageError
from hear_models.evaluation.board.importing import SCORES_FILE, import_folder
from hear_models.evaluation.judges.outcome import Predictions
from hear_models.evaluation.runs.predictions import read_predictions
from hear_models.evaluation.runs.record import Record, is_record, read_record
from hear_models.tasks.task import MAC_LEAVINGS

RECORD_NAME = re.compile(r".+\.seed-\d+\.json")


@dataclass(frozen=True)
class Result:
    """A record and where it lies; `path` is None for an imported one."""

    record: Record
    path: Path | None = None

    @property
    def predictions_path(self) -> Path | None:
        """The predictions beside the record, if it names a file and the file is there."""
        if self.path is None or self.record.predictions is None:
            return None
        path = self.path.parent / self.record.predictions
        return path if path.is_file() else None

    def predictions(self) -> Mapping[str, Predictions]:
        """Test split → rows. Raises RecordError if the file is missing or broken."""
        assert self.path is not None and self.record.predictions is not None
        return read_predictions(self.path.parent / self.record.predictions).splits


def gather(
    paths: Sequence[str | os.PathLike[str]],
    imported_protocol: str | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Result]:
    """Every result in the given folders and files, each file once, in the order of the paths.

    Records are files named ….seed-N.json, or any record named directly; folders with the kit's scores file are
    imported. Raises UsageError for a path that is not there or holds no result, RecordError and ImportedError for a
    file that should be a result and is broken: a table that silently lacks a seed would be wrong.
    """
    results: dict[Path, Result] = {}
    for given in map(Path, paths):
        if not given.exists():
            raise UsageError(
                f"{given} does not exist. Give folders that `hear-models evaluate` or hear-eval-kit wrote."
            )
        found = list(_records(given))
        for path in found:
            results.setdefault(path.resolve(), Result(read_record(path), path))
            progress(f"reading: {len(results)} results")
        imported = [] if given.is_file() else import_folder(given, imported_protocol, progress)
        for record in imported:
            place = given.resolve() / record.model.module / record.task.name / SCORES_FILE
            results.setdefault(place, Result(record))
        if not found and not imported:
            raise UsageError(
                f"{given} holds no result. Expected records (….seed-00.json) of `hear-models evaluate`, or folders of "
                f"hear-eval-kit with {SCORES_FILE}."
            )
    return list(results.values())


def _records(given: Path) -> Iterator[Path]:
    if given.is_file():
        if not is_record(given):
            raise UsageError(f"{given} is no record. Give a record or a folder of records.")
        yield given
        return
    for where, folders, files in os.walk(given):
        folders.sort()
        folders[:] = [name for name in folders if name != MAC_LEAVINGS]
        records = (name for name in sorted(files) if RECORD_NAME.fullmatch(name) and not name.startswith("._"))
        yield from (Path(where) / name for name in records)
