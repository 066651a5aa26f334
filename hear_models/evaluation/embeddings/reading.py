"""Reads the clips of a task ahead of the model, several in one go.

`corpus.prefetch` hands over window by window, which long recordings need; for clips of a second waking threads for each
one costs more than decoding it (0.3 ms of CPU against 0.15).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hear_models.errors import AudioFileError
from hear_models.pipeline.ahead import load_ahead
from hear_models.pipeline.audio import warn_of
from hear_models.pipeline.decoding import open_recording
from hear_models.tasks.task import TaskError

CHUNK_S = 16.0  # audio that a thread reads before it hands over
GUESSED_S = 8.0  # length of a clip where the task does not say


@dataclass(frozen=True)
class Clip:
    """A decoded clip: its name in the task, and float32 [samples] at the rate that was asked for."""

    file: str
    samples: np.ndarray


def read_ahead(
    files: Sequence[tuple[str, Path]], sample_rate: int, seconds: float | None, workers: int
) -> Generator[Clip, None, None]:
    """The clips in order, while threads read the next ones.

    Args:
        files: name and path of each.
        sample_rate: Hz that each must have; nothing is resampled, as in the kit.
        seconds: length of a clip, about; None if that is not known.
        workers: threads. Each has at most two chunks of `CHUNK_S` waiting or in work.

    Raises:
        TaskError: a clip is missing, damaged, empty, not mono or of another rate.
    """
    size = max(1, round(CHUNK_S / (seconds or GUESSED_S)))
    chunks = [files[k : k + size] for k in range(0, len(files), size)]

    def read(chunk: Sequence[tuple[str, Path]]) -> list[Clip]:
        return [Clip(file, read_clip(path, sample_rate)) for file, path in chunk]

    return load_ahead(read, chunks, workers, ahead=2 * workers)


def read_clip(path: Path, sample_rate: int) -> np.ndarray:
    """The samples of a mono file at `sample_rate` Hz, float32 as soundfile gives them; else a TaskError."""
    try:
        with closing(open_recording(path)) as recording:
            if recording.sample_rate != sample_rate or recording.channels != 1:
                raise TaskError(
                    f"{path} has {recording.sample_rate} Hz and {recording.channels} channels, expected {sample_rate} "
                    "Hz mono. `hear-models tasks check` lists what else is wrong, `hear-models tasks resample` makes a "
                    "rate."
                )
            blocks = list(recording.blocks())
            warn_of(recording)
    except AudioFileError as error:
        raise TaskError(f"{error} `hear-models tasks check` lists what else is wrong with the task.") from error
    if not blocks:
        raise TaskError(f"{path} holds no samples. `hear-models tasks check` lists what else is wrong with the task.")
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
