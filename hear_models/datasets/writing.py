"""Writes a made-up corpus to a folder: 16-bit FLAC files by index, atomic, resumable, in a fixed order."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hear_models.errors import HearModelsError, UsageError
from hear_models.files import make_folder, whole_file, write_atomically
from hear_models.foreign import is_plain, read_text
from hear_models.locks import inside, only_writer

SETTINGS_FILE = "corpus.json"
FILES_PER_FOLDER = 1000


def write_flac(
    path: Path, audio: npt.NDArray[np.float32 | np.int16], sample_rate: int, root: Path | None = None
) -> None:
    """Write mono float `[samples]` in [-1, 1] as 16-bit FLAC; the file appears complete or not at all.

    Folders are made, below `root` none through a link that leads out of it.

    Raises `HearModelsError` where the folder cannot be written to or the disk is full.
    """
    import soundfile

    try:
        packed = io.BytesIO()  # in memory first: the library hides a full disk behind an assertion
        soundfile.write(packed, audio, sample_rate, format="FLAC", subtype="PCM_16")
        make_folder(root or path.parent, path.parent)
        with whole_file(path) as temporary:
            temporary.write_bytes(packed.getbuffer())
    except (OSError, soundfile.LibsndfileError) as error:
        raise HearModelsError(f"{path} could not be written ({error}). Make room, or choose another folder.") from error


def claim_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Note in `folder` what is made there.

    Raises UsageError: it holds a corpus made with other settings, or another run writes to it. FileError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made ({error.strerror}). Choose another folder.") from error
    note = folder / SETTINGS_FILE
    text = json.dumps(settings, sort_keys=True)
    with only_writer(inside(folder), folder, "folder"):
        if not note.exists():
            write_atomically(note, text.encode())
        elif (found := read_text(note)) != text:
            raise UsageError(
                f"{folder} holds a corpus made with other settings ({found}). "
                "Choose another folder, or the same settings to go on with it."
            )


def seconds_in(path: Path) -> float | None:
    """How long a finished recording is by its header; None: it is not there, or damaged, and is to be made again."""
    import soundfile

    if is_plain(path):
        with suppress(soundfile.LibsndfileError):
            return float(soundfile.info(path).duration)
    return None


def write_corpus(
    folder: Path,
    make: Callable[[int], npt.NDArray[np.float32] | None],
    seconds: float,
    *,
    name: str,
    sample_rate: int = 16000,
    workers: int = 1,
) -> Iterator[tuple[int, float]]:
    """Write `make(0)`, `make(1)`, ... until `seconds` of audio are there; yields (files, seconds) as they grow.

    A file that is already there is kept, so the same call goes on where an earlier one stopped. `make` may return None:
    that index is left out, then and always. Ends in the same set of files whatever `workers` is. Raises
    `HearModelsError` if the first 200 indices give nothing.
    """

    def one(index: int) -> float:
        path = folder / f"{index // FILES_PER_FOLDER:03d}" / f"{name}_{index:06d}.flac"
        if (seconds := seconds_in(path)) is not None:
            return seconds
        audio = make(index)
        if audio is None:
            return 0.0
        write_flac(path, audio, sample_rate, folder)
        return audio.size / sample_rate

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made ({error.strerror}). Choose another folder.") from error
    files, total, index = 0, 0.0, 0
    with only_writer(inside(folder), folder, "folder"), ThreadPoolExecutor(max_workers=workers) as pool:
        while total < seconds:
            # no more at once than are surely still needed, by the mean so far: the end does not depend on `workers`
            batch = max(1, min(64, int((seconds - total) * index / (2 * total)))) if total else 1
            for duration in pool.map(one, range(index, index + batch)):
                files, total = files + (duration > 0), total + duration
            index += batch
            if index >= 200 and total == 0:
                raise HearModelsError(
                    f"Nothing usable in {index} tries to make {name}. Try one by hand and look at it."
                )
            yield files, total
