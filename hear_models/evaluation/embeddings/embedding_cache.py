"""Finished embedding folders, each with the key of what it was made from; unfinished ones are hidden and resumable.

    EMBEDDINGS_DIR/SLUG/TASK/            finished: the kit's files, `.done.embeddings`, and our `.hear-models.json`
    EMBEDDINGS_DIR/SLUG/.TASK.partial/   in work: a split is finished when `.done.SPLIT` is there

A folder is renamed into place when everything in it is written, so one that the kit's predictor or we would take for
done is done. What stands there under another key is replaced at that moment and not earlier.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hear_models.errors import HearModelsError, UsageError
from hear_models.files import remove_left_over, sync_folder, whole_file, write_durably
from hear_models.foreign import file_sha256, read_json
from hear_models.locks import beside, only_writer

KEY_FILE, DONE = ".hear-models.json", ".done.embeddings"  # the second is the kit's
SCHEMA = "hear-models/embeddings/1"


def key_digest(key: Mapping[str, Any]) -> str:
    """sha256 of a key of JSON values."""
    return hashlib.sha256(json.dumps({"schema": SCHEMA, **key}, sort_keys=True).encode()).hexdigest()


class EmbeddingCache:
    """The folder of one subject's embeddings of one task.

    Args:
        folder: EMBEDDINGS_DIR/SLUG/TASK.
        key: everything that the embeddings depend on, as JSON values.
        own_names: names of the files and folders that an extraction leaves in the folder.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any], own_names: Iterable[str]) -> None:
        self.folder, self.key = folder, dict(key)
        self.own_names = {*own_names, KEY_FILE, DONE}
        self.partial = folder.with_name(f".{folder.name}.partial")
        self.replaced = folder.with_name(f".{folder.name}.replaced")
        self.sha256 = key_digest(key)

    def finished(self) -> dict[str, Any] | None:
        """What was noted when the folder was finished under this very key; None if it was not."""
        if not (self.folder / DONE).exists():
            return None
        remove_left_over(self.folder.parent)  # of a run that was killed at its very end
        notes = _read_notes(self.folder)
        return notes if notes and notes.get("sha256") == self.sha256 and "dim" in notes else None

    @contextmanager
    def work(self, wait: Callable[[str], None] | None = None) -> Iterator[Path]:
        """The partial folder, with what an earlier run with this key finished in it; one run at a time works in it.

        Args:
            wait: told whose end is waited for if another run is at it; None: UsageError.

        Raises UsageError if another run is at it, or if the finished folder is not ours to replace.
        """
        self._refuse_foreign()
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with only_writer(beside(self.folder), self.folder, "folder for the embeddings", wait):
                if self.partial.is_symlink():
                    raise UsageError(f"{self.partial} is a link. Remove it, or choose another folder.")
                _remove(self.replaced)  # of a run that was killed between two names
                self.partial.mkdir(exist_ok=True)
                notes = _read_notes(self.partial)
                if notes is None or notes.get("sha256") != self.sha256:
                    for path in self.partial.iterdir():
                        _remove(path)
                    write_durably(self.partial / KEY_FILE, self._notes({}))
                yield self.partial
        except OSError as error:
            raise HearModelsError(
                f"{error.filename or self.folder} cannot be written: {error.strerror or error}. "
                "Finished splits are kept; the same command goes on from here."
            ) from error

    def drop(self) -> None:
        """Remove the partial folder."""
        _remove(self.partial)

    def finished_split(self, split: str) -> dict[str, Any] | None:
        """What was noted when a run with this key finished the split; None if none did. To be asked inside `work`."""
        with suppress(HearModelsError):
            notes = read_json(self.partial / f".done.{split}")
            return notes if isinstance(notes, dict) else None
        return None

    def clear_split(self, split: str) -> None:
        """Remove the clips of a split that was interrupted."""
        _remove(self.partial / split)

    def finish_split(self, split: str, notes: Mapping[str, Any]) -> None:
        """Mark a split whose files are all on the disk; a mark that is lost costs the split, so it is not flushed."""
        mark = self.partial / f".done.{split}"
        with whole_file(mark, flush=False) as part:
            part.write_text(json.dumps(notes), encoding="utf-8")

    def finish(self, splits: Iterable[str], notes: Mapping[str, Any]) -> None:
        """Make the partial folder the finished one. To be called inside `work`."""
        remove_left_over(self.partial)
        of_splits = (path for path in sorted(self.partial.iterdir()) if path.is_file() and path.name[0] != ".")
        files = {path.name: file_sha256(path) for path in of_splits}
        write_durably(self.partial / KEY_FILE, self._notes({**notes, "files": files}))
        write_durably(self.partial / DONE, b"")
        for split in splits:
            (self.partial / f".done.{split}").unlink(missing_ok=True)
        if self.folder.exists():
            _remove(self.replaced)
            self.folder.rename(self.replaced)
        self.partial.rename(self.folder)
        sync_folder(self.folder.parent)
        _remove(self.replaced)

    def _notes(self, notes: Mapping[str, Any]) -> bytes:
        return json.dumps({"schema": SCHEMA, "sha256": self.sha256, "key": self.key, **notes}, indent=1).encode()

    def _refuse_foreign(self) -> None:
        if not self.folder.exists():
            return
        if _read_notes(self.folder) is None:
            raise UsageError(
                f"{self.folder} was not written by this program, so it is not replaced. "
                "Choose another folder for the embeddings, or move it away."
            )
        if foreign := sorted(path.name for path in self.folder.iterdir() if path.name not in self.own_names):
            raise UsageError(
                f"{self.folder} holds embeddings of another version of the model, the task or the code, and also "
                f"{foreign[0]}, which is not ours. Move that away, or choose another folder for the embeddings."
            )


def damaged_files(folder: Path) -> list[str] | None:
    """The files of a finished folder that are not as they were written; None if it is no folder of this program's.

    The clips' own files are not covered: judges read the packed ones.
    """
    notes = _read_notes(folder)
    files = (notes or {}).get("files")
    if not isinstance(files, dict):
        return None
    damaged = []
    for name, sha256 in files.items():
        try:
            whole = Path(name).name == name and file_sha256(folder / name) == sha256
        except (HearModelsError, OSError):
            whole = False
        if not whole:
            damaged.append(name)
    return damaged


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _read_notes(folder: Path) -> dict[str, Any] | None:
    with suppress(HearModelsError):
        found = read_json(folder / KEY_FILE)
        if isinstance(found, dict) and found.get("schema") == SCHEMA:
            return found
    return None
