"""One `.npz` a recording: embeddings, times and how they were made; written whole or not at all, read without pickle.

embeddings        [steps, dim] (timestamps), [windows, dim] or [segments, dim] (scene, with them), or [dim] (scene)
timestamps_ms     [steps] float64, centre of each step from the start of the recording (timestamps)
window_starts_ms, window_ends_ms  [windows] float64 (scene with windows)
segment_starts_ms, segment_ends_ms  [segments] float64, and segment_rows [segments], which rows of the table they are
clock             [rows] text, the time of day of each of these times, ISO 8601; "" where it is not known (--clock)
metadata          a JSON string: {"settings": ..., "source": ...}, the settings as they are for this recording

The archive's comment is a digest of every other byte of the file: a file that does not match it counts as not there.
"""

from __future__ import annotations

import errno
import io
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.corpus.clock import began_at, clock_times
from hear_models.corpus.discover import AudioFile
from hear_models.corpus.rows import Rows
from hear_models.corpus.settings import AudioFileState, EmbeddingSettings, refuse_mixture, window_ends_ms
from hear_models.corpus.writing import NameRefused
from hear_models.errors import FileError
from hear_models.files import make_folder, sync_folder, unwritable, whole_file
from hear_models.foreign import open_plain, read_arrays, reading
from hear_models.seals import UNSEALED, is_sealed, seal, verify_seal

BAD_NAMES = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}  # what a file system says to a name that it does not take
LOOKED_AT = 200  # files of other recordings whose settings are compared
HEAD_BYTES = 64  # the name of the first array
LONGEST_NAME = 255
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # no clock in the file: the same embeddings give the same bytes


class NpzOutput:
    """The folder of `.npz` files: which recordings are done, and writing one more."""

    threads = 4  # measured on a disk that takes 12 ms to flush a small file: 6 ms a file with four, no less with eight

    def __init__(self, folder: Path, settings: EmbeddingSettings, overwrite: bool) -> None:
        self.folder, self.settings, self.overwrite = folder, settings, overwrite
        self._written: set[Path] = set()  # folders whose entries are to be flushed

    def path_of(self, source: AudioFile) -> Path:
        """`sub/a.wav` becomes `sub/a.wav.npz`: the ending stays, so a.wav and a.flac do not collide."""
        return self.folder / f"{source.name}.npz"

    def why_not(self, source: AudioFile) -> str | None:
        """A sentence if the file system takes no name that is so long."""
        n_bytes = len(os.fsencode(self.path_of(source).name))
        most = os.pathconf(self.folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else LONGEST_NAME
        if n_bytes <= most:
            return None
        return (
            f"its output's name would have {n_bytes} bytes, at most {most} are possible. Rename it, or write a table."
        )

    def is_done(self, source: AudioFile, info: AudioFileState) -> bool:
        """Whether the recording, unchanged since, was embedded with these settings.

        Raises UsageError: it was embedded with other settings, and `overwrite` is off.
        """
        path = self.path_of(source)
        if self.overwrite or not os.path.lexists(path):  # also one that the file system does not take
            return False
        try:
            metadata = read_whole(path)
        except FileError:
            return False  # not ours or damaged: it is made again
        refuse_mixture(str(path), metadata["settings"], self.settings.of(_duration_s(metadata)))
        return info.is_that(str(path), metadata["source"])

    def refuse_others(self, sources: Sequence[AudioFile]) -> None:
        """Raise UsageError if the folder holds embeddings, of other recordings, that were made with other settings."""
        own = {f"{source.name}.npz" for source in sources}
        for path in islice(self._others(own), LOOKED_AT):
            with suppress(FileError):  # not ours
                settings, duration_s = read_settings(path)
                refuse_mixture(str(path), settings, self.settings.of(duration_s), replaceable=False)

    def _others(self, own: set[str]) -> Iterator[Path]:
        for here, _, names in os.walk(self.folder):
            for name in names:
                path = Path(here, name)
                if name.endswith(".npz") and path.relative_to(self.folder).as_posix() not in own and is_ours(path):
                    yield path

    def write(self, source: AudioFile, info: AudioFileState, rows: Rows) -> None:
        """Write one recording's file: temporary name in the same folder, flushed to the disk, renamed."""
        path = self.path_of(source)
        try:
            make_folder(self.folder, path.parent)
            with whole_file(path, lasting=False) as temporary, open(temporary, "r+b") as file:
                self._write_zip(file, source, info, rows)
                seal(file, at_end=True)
        except OSError as error:
            if error.errno not in BAD_NAMES:
                raise
            raise NameRefused(unwritable(path, error, "Give the recording another name.")) from error
        self._written.add(path.parent)
        if rows.kept is not None:
            sync_folder(path.parent)

    def _write_zip(self, file: Any, source: AudioFile, info: AudioFileState, rows: Rows) -> None:
        settings = self.settings.of(info.duration_s)
        metadata = {"settings": settings.as_dict(), "source": info.as_dict()}
        windows = settings.window_s is not None and source.segments is None
        single = self.settings.kind == "scene" and not windows and source.segments is None
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            _add(archive, "metadata", np.array(json.dumps(metadata)))
            if self.settings.kind == "timestamps":
                _add(archive, "timestamps_ms", rows.times_ms)
            elif windows:
                _add(archive, "window_starts_ms", rows.times_ms)
                _add(archive, "window_ends_ms", window_ends_ms(rows.times_ms, settings.window_s, info.duration_s))
            elif source.segments is not None:
                _add(archive, "segment_starts_ms", 1000.0 * np.array([s.start_s for s in source.segments]))
                _add(archive, "segment_ends_ms", 1000.0 * np.array([s.end_s for s in source.segments]))
                _add(archive, "segment_rows", np.array([s.row for s in source.segments], np.int64))
            if settings.clock:
                _add(archive, "clock", np.array(clock_times(began_at(info.name), rows.times_ms.tolist()), dtype=str))
            shape = (rows.dim,) if single else (rows.n, rows.dim)
            header = {"descr": np.lib.format.dtype_to_descr(rows.dtype), "fortran_order": False, "shape": shape}
            with archive.open(zipfile.ZipInfo("embeddings.npy", _ZIP_EPOCH), "w", force_zip64=True) as entry:
                np.lib.format.write_array_header_1_0(entry, header)
                for chunk, _ in rows.chunks():
                    entry.write(chunk.data)
            archive.comment = UNSEALED

    def finish(self) -> None:
        """Nothing is left to do: every file is complete."""

    def close(self) -> None:
        """Make the files' names last."""
        for folder in self._written:
            sync_folder(folder)


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    archive.writestr(zipfile.ZipInfo(f"{name}.npy", _ZIP_EPOCH), buffer.getvalue())


def is_ours(path: Path) -> bool:
    """Whether the file ends like one that `NpzOutput` wrote, damaged or not."""
    try:
        with open_plain(path) as file:
            head = file.read(HEAD_BYTES)
            return is_sealed(file, at_end=True) or b"metadata.npy" in head
    except (FileError, OSError):
        return False


def read_settings(path: Path) -> tuple[dict[str, Any], float]:
    """Settings in a file that `NpzOutput` wrote, and the seconds of its recording, without a look at its digest.

    FileError for anything else.
    """
    with reading(path, FileError, "Embed the recording again.", what="a file of embeddings"):
        found = json.loads(str(read_arrays(path, ["metadata"])["metadata"]))
        return dict(found["settings"]), _duration_s(found)


def _duration_s(metadata: dict[str, Any]) -> float:
    return float(metadata["source"].get("duration_s", 0.0))


def read_whole(path: Path) -> dict[str, Any]:
    """The metadata of a file that `NpzOutput` wrote, every byte of which is as it was written; FileError otherwise."""
    with reading(path, FileError, "Embed the recording again.", what="a file of embeddings"):
        with open_plain(path) as file:
            verify_seal(file, at_end=True)
        metadata = json.loads(str(read_arrays(path, ["metadata"])["metadata"]))
        if not all(isinstance(metadata[name], dict) for name in ("settings", "source")):
            raise ValueError("it lacks its settings")
        return dict(metadata)
