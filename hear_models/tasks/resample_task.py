"""A task at another sample rate: RATE/ beside the one that is there, by soxr; the archive on Zenodo is 48 kHz only."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hear_models.errors import UsageError
from hear_models.files import make_folder, sync_folder, sync_tree, unwritable
from hear_models.locks import beside, only_writer
from hear_models.pipeline.audio import read_audio
from hear_models.tasks.known_tasks import RATES
from hear_models.tasks.task import Task, TaskError
from hear_models.tasks.task_writing import fit, write_wav
from hear_models.tasks.wav_header import read_header


def resample_task(
    task: Task,
    sample_rate: int,
    *,
    source_rate: int | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write `task.folder/sample_rate` from `source_rate` (default: the highest that is there); returns clips written.

    soxr "HQ" and 16 bits: near to, not bit-equal with, the 16 kHz archive, which ffmpeg made with soxr from the
    originals. The folder appears when it is complete and flushed; a run that was stopped goes on where it was. If the
    folder is there, only clips that it lacks, or that are empty or cut off, are written.

    Raises UsageError for an unusable rate, TaskError or AudioFileError for a clip that cannot be read or written.
    """
    if sample_rate not in RATES:
        raise UsageError(f"{sample_rate} Hz is no rate of HEAR's tasks. Use one of {', '.join(map(str, RATES))}.")
    there = [rate for rate in task.rates() if rate != sample_rate]
    if source_rate is None:
        if not there:
            raise TaskError(f"{task.folder} has no audio at another rate to make {sample_rate} Hz from. Unpack it.")
        source_rate = max(there)
    if source_rate not in there:
        shown = ", ".join(map(str, there)) or "none"
        raise UsageError(f"{task.folder} has no {source_rate} Hz to resample from. There are: {shown}.")
    final = task.folder / str(sample_rate)
    with only_writer(beside(final), final, "--sample-rate"):
        work = final if final.exists() else unfinished(task.folder, sample_rate)
        try:
            make_folder(task.folder, work)
        except OSError as error:
            raise TaskError(unwritable(work, error, "Remove it, or check the folder.")) from error
        written = _write_clips(task, sample_rate, source_rate, work, work == final, workers, progress)
        if work != final:
            _rename(work, final)
        return written


def unfinished(folder: Path, sample_rate: int) -> Path:
    """Where the clips of a rate lie until there are all of them."""
    return folder / f".{sample_rate}.part"


def _write_clips(
    task: Task,
    sample_rate: int,
    source_rate: int,
    work: Path,
    flush: bool,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Write what `work` lacks; returns how many."""
    clips = [(split, file) for split in task.splits for file in task.items(split)]
    duration = task.sample_duration
    wanted = None if duration is None else round(duration * sample_rate)

    def one(clip: tuple[str, str]) -> bool:
        split, file = clip
        target = work / split / file
        if _is_whole(target):
            return False
        samples = read_audio(task.audio(source_rate, split, file), sample_rate)
        if wanted is not None and abs(len(samples) - wanted) <= 2:  # a rounded length of the source, rounded again
            samples = fit(samples, wanted)
        write_wav(task.folder, target, samples, sample_rate, flush=flush)
        return True

    written = done = 0
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(clips), 256):  # in parts, so that Ctrl-C does not wait for the whole queue
            part = clips[start : start + 256]
            written += sum(pool.map(one, part))
            done += len(part)
            if progress:
                progress(done, len(clips))
    return written


def _is_whole(clip: Path) -> bool:
    """False for a clip that a power cut left empty or short, too."""
    try:
        header = read_header(clip)
    except ValueError:
        return False
    return 0 < header.frames == header.frames_promised


def _rename(work: Path, final: Path) -> None:
    try:
        sync_tree(work)
        os.rename(work, final)
        sync_folder(final.parent)
    except OSError as error:
        raise TaskError(f"{final} cannot be made: {error.strerror}. Look into {work}.") from error
