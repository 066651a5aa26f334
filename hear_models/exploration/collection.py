"""The scene embeddings of all recordings in some folders, as one matrix that is kept: only what is new is embedded."""

from __future__ import annotations

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.corpus.discover import AudioFile, Failure, find_audio_files
from hear_models.corpus.kept import Scenes, kept_in, refuse_nothing, scene_settings, scenes_of
from hear_models.corpus.options import AUTO
from hear_models.corpus.run import CorpusSummary
from hear_models.errors import FileError
from hear_models.files import as_text, shown, unwritable, whole_file
from hear_models.foreign import open_plain, parse_json, read_arrays, reading
from hear_models.pipeline.model import HearModel
from hear_models.seals import UNSEALED, seal, verify_seal

SUFFIX = ".index"
AGAIN = "The next search makes it again."
MS = 1000.0
ARRAYS = ("recordings", "rows", "vectors", "parts_ms")
State = tuple[str, int, int]  # of a recording: absolute path, bytes, time of change in ns


@dataclass(frozen=True)
class Collection:
    """Recordings and the embeddings of each, or of each of its windows.

    Attributes:
        files: the recordings. names: their paths below the folders that were given.
        vectors: float32 [rows, dim]. recording: int64 [rows], which of the files a row is of.
        parts_ms: float64 [rows, 2], where a window begins and ends; NaN for a recording as a whole.
    """

    files: tuple[Path, ...]
    names: tuple[str, ...]
    vectors: np.ndarray
    recording: np.ndarray
    parts_ms: np.ndarray

    def part_s(self, row: int) -> tuple[float, float] | None:
        """From where to where a row is of its recording, in seconds; None: all of it."""
        start, end = (float(value) / MS for value in self.parts_ms[row])
        return None if math.isnan(start) else (start, end)


def collect(
    paths: Sequence[str | os.PathLike[str]],
    model: HearModel,
    *,
    window_s: float | str | None = AUTO,
    root: Path | None = None,
    progress: Callable[[CorpusSummary], None] | None = None,
) -> tuple[Collection, list[Failure]]:
    """Embed the recordings of files and folders, those that are new or changed since the last call.

    Args:
        window_s: seconds, each window of a recording is a row; "auto": of long ones, at constant memory; None: of none.
        root: where embeddings and the matrix are kept; None: the cache folder.
        progress: called after each recording.

    Returns:
        the collection, and what could not be read. Raises HearModelsError: nothing could be read.
    """
    sources, failures = find_audio_files(paths)
    states: dict[State, AudioFile] = {}
    for source in sources:
        try:
            states[_state(source)] = source
        except OSError as error:
            failures.append(Failure(str(source.path), f"{shown(source.path)} cannot be opened: {error.strerror}."))
    folder = kept_in(scene_settings(model, window_s), root)
    file = folder / f"{hashlib.sha256(repr([os.path.abspath(p) for p in paths]).encode()).hexdigest()[:16]}{SUFFIX}"
    known = _known(file)
    new = [state for state in states if state not in known]
    if new:
        found, failed, _ = scenes_of(
            [states[state].path for state in new], model, window_s=window_s, root=root, progress=progress
        )
        failures += failed
        known |= {state: _block(scenes) for state, scenes in zip(new, found, strict=True) if scenes is not None}
    kept = {state: known[state] for state in states if state in known}
    refuse_nothing([*kept.values()], failures)
    if new or len(kept) < len(known):
        _write(file, kept)
    return _collected(kept, states), failures


def _state(source: AudioFile) -> State:
    about = os.stat(source.path)
    return as_text(os.path.abspath(source.path)), about.st_size, about.st_mtime_ns


Block = tuple[np.ndarray, np.ndarray]  # of a recording: [rows, dim], and parts in ms [rows, 2]


def _block(scenes: Scenes) -> Block:
    vectors, starts, ends = scenes
    if starts is None:
        return vectors, np.full((len(vectors), 2), np.nan)
    return vectors, np.stack([starts, ends], 1)


def _collected(kept: dict[State, Block], states: dict[State, AudioFile]) -> Collection:
    chosen = [states[state] for state in kept]
    blocks = list(kept.values())
    rows = np.repeat(np.arange(len(blocks)), [len(vectors) for vectors, _ in blocks])
    vectors, parts = (np.concatenate([block[which] for block in blocks]) for which in (0, 1))
    return Collection(
        tuple(source.path for source in chosen), tuple(source.name for source in chosen), vectors, rows, parts
    )


# ------------------------------------------------------------------------------------------------------ on the disk
def _write(file: Path, kept: dict[State, Block]) -> None:
    """Whole or not at all, with a digest. Raises FileError."""
    arrays = {
        "recordings": np.array(json.dumps(list(kept))),
        "rows": np.array([len(vectors) for vectors, _ in kept.values()], np.int64),
        "vectors": np.concatenate([vectors for vectors, _ in kept.values()]).astype(np.float32),
        "parts_ms": np.concatenate([parts for _, parts in kept.values()]),
    }
    try:
        with whole_file(file) as part:
            with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                        np.lib.format.write_array(entry, array, allow_pickle=False)
                archive.comment = UNSEALED
            with open(part, "r+b") as opened:
                seal(opened, at_end=True)
    except OSError as error:
        raise FileError(unwritable(file, error)) from error


def _known(file: Path) -> dict[State, Block]:
    """What was kept; nothing if there is no such file, or if it was damaged."""
    try:
        arrays = read_index(file)
    except FileError:
        return {}
    states: list[Any] = parse_json(str(arrays["recordings"]))
    ends = np.cumsum(arrays["rows"])
    return {
        (str(path), int(size), int(changed)): (arrays["vectors"][end - n : end], arrays["parts_ms"][end - n : end])
        for (path, size, changed), n, end in zip(states, arrays["rows"].tolist(), ends.tolist(), strict=True)
    }


def read_index(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a matrix that was kept, every byte as it was written. Raises FileError."""
    with reading(file, FileError, AGAIN, what="an index of embeddings"):
        with open_plain(file) as opened:
            verify_seal(opened, at_end=True)
        arrays = dict(read_arrays(file, ARRAYS))
        n = int(arrays["rows"].sum())
        if len(arrays["vectors"]) != n or arrays["parts_ms"].shape != (n, 2):
            raise ValueError("its arrays do not fit each other")
        return arrays
