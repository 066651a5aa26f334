"""One `.npz` a recording: embeddings, times and how they were made; written whole or not at all, read without pickle.

embeddings        [steps, dim] (timestamps), [windows, dim] (scene, with --window) or [dim] (scene)
timestamps_ms     [steps] float64, centre of each step from the start of the recording (timestamps)
window_starts_ms  [windows] float64 (scene with --window)
metadata          a JSON string: {"settings": ..., "source": ...}
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.corpus.discover import AudioFile
from hear_models.corpus.rows import Rows
from hear_models.corpus.settings import AudioFileState, EmbeddingSettings, refuse_mixture
from hear_models.errors import UsageError
from hear_models.files import shown, whole_file

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # no clock in the file: the same embeddings give the same bytes


class NpzOutput:
    """The folder of `.npz` files: which recordings are done, and writing one more."""

    threads = 4  # measured on a disk that takes 12 ms to flush a small file: 6 ms a file with four, no less with eight

    def __init__(self, folder: Path, settings: EmbeddingSettings, overwrite: bool) -> None:
        self.folder, self.settings, self.overwrite = folder, settings, overwrite
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{shown(folder)} is a file. Give a folder, or a name that ends in .parquet for a table.")
        folder.mkdir(parents=True, exist_ok=True)

    def path_of(self, source: AudioFile) -> Path:
        """`sub/a.wav` becomes `sub/a.wav.npz`: the ending stays, so a.wav and a.flac do not collide."""
        return self.folder / f"{source.name}.npz"

    def is_done(self, source: AudioFile, info: AudioFileState) -> bool:
        """Whether the recording, unchanged since, was embedded with these settings.

        Raises UsageError: it was embedded with other settings, and `overwrite` is off.
        """
        path = self.path_of(source)
        if self.overwrite or not path.exists():
            return False
        metadata = read_metadata(path)
        if metadata is None:
            return False  # not ours or damaged
        refuse_mixture(str(path), metadata.get("settings", {}), self.settings)
        found = metadata.get("source", {})
        return bool((found.get("bytes"), found.get("modified_s")) == (info.bytes, info.modified_s))

    def write(self, source: AudioFile, info: AudioFileState, rows: Rows) -> None:
        """Write one recording's file: temporary name in the same folder, flushed to the disk, renamed."""
        path = self.path_of(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            whole_file(path, temporary=path.with_name(f".{path.name}.tmp")) as temporary,
            open(temporary, "wb") as file,
        ):
            self._write_zip(file, info, rows)

    def _write_zip(self, file: Any, info: AudioFileState, rows: Rows) -> None:
        metadata = {"settings": self.settings.as_dict(), "source": info.as_dict()}
        windows = self.settings.window_s is not None
        single = self.settings.kind == "scene" and not windows
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            _add(archive, "metadata", np.array(json.dumps(metadata)))
            if self.settings.kind == "timestamps":
                _add(archive, "timestamps_ms", rows.times_ms)
            elif windows:
                _add(archive, "window_starts_ms", rows.times_ms)
            shape = (rows.dim,) if single else (rows.n, rows.dim)
            header = {"descr": np.lib.format.dtype_to_descr(rows.dtype), "fortran_order": False, "shape": shape}
            with archive.open(zipfile.ZipInfo("embeddings.npy", _ZIP_EPOCH), "w", force_zip64=True) as entry:
                np.lib.format.write_array_header_1_0(entry, header)
                for chunk, _ in rows.chunks():
                    entry.write(chunk.data)

    def finish(self) -> None:
        """Nothing is left to do: every file is complete."""

    def close(self) -> None:
        """Nothing is open between two files."""


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    archive.writestr(zipfile.ZipInfo(f"{name}.npy", _ZIP_EPOCH), buffer.getvalue())


def read_metadata(path: Path) -> dict[str, Any] | None:
    """The metadata of a file that `NpzOutput` wrote; None for anything else."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            metadata = json.loads(str(archive["metadata"]))
            return metadata if isinstance(metadata, dict) and "embeddings" in archive.files else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
