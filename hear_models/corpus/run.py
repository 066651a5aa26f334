"""Embeds a list of recordings into a folder or a table: decode ahead, batch clips of any length, write, resume."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.corpus.discover import AudioFile, Failure
from hear_models.corpus.npz import NpzOutput
from hear_models.corpus.options import AUTO, TABLE, check_options, check_output, check_segments, windows
from hear_models.corpus.parquet import ParquetOutput
from hear_models.corpus.prefetch import Done, End, Prefetcher, Window
from hear_models.corpus.progress import Progress
from hear_models.corpus.rows import Rows
from hear_models.corpus.settings import AudioFileState, EmbeddingSettings, embedding_settings
from hear_models.corpus.sources import recordings
from hear_models.corpus.unfinished import Unfinished, forget
from hear_models.corpus.writing import Output, WriteBehind
from hear_models.errors import HearModelsError, UsageError
from hear_models.files import shown
from hear_models.locks import beside, inside, only_writer
from hear_models.pipeline.encoders import Batch, ClipStream, Encoders, device_of
from hear_models.pipeline.listening import channel_of
from hear_models.pipeline.model import HearModel

BATCH_SECONDS = {"cpu": 60.0, "cuda": 600.0}  # audio handed to the model at once
AHEAD_BATCHES = 2.0  # decoded audio that may wait, in batches


@dataclass
class CorpusSummary:
    """What a run did.

    windowed: recordings that have windows because they are long. resumed_s: seconds of audio whose windows a run before
    had finished. done_share: part of the work that is done, by the bytes of the recordings; left_s: seconds until all
    is, where that is known. decode_wait_share: part of the time in which the model waited for decoded audio. notes:
    recordings that were embedded although something about them is odd.
    """

    output: str
    settings: dict[str, Any]
    files: int = 0
    embedded: int = 0
    skipped: int = 0
    embeddings: int = 0
    windowed: int = 0
    resumed_s: float = 0.0
    done_share: float = 0.0
    left_s: float | None = None
    audio_s: float = 0.0
    seconds: float = 0.0
    audio_s_per_s: float = 0.0
    decode_wait_share: float = 0.0
    failed: list[Failure] = field(default_factory=list)
    notes: list[Failure] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _OpenFile:
    """A recording between its first window and its written output."""

    index: int
    source: AudioFile
    info: AudioFileState
    rows: Rows
    windowed: bool = False
    pending: int = 0  # windows handed to the batch and not embedded yet
    end: End | None = None
    error: str | None = None


def embed_files(
    paths: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    model: HearModel,
    *,
    kind: str = "scene",
    dtype: str = "float32",
    window_s: float | str | None = AUTO,
    hop_s: float | None = None,
    workers: int | None = None,
    batch_seconds: float | None = None,
    channel: str | int = "mix",
    resampler: str = "soxr",
    segments: str | os.PathLike[str] | None = None,
    clock: bool = False,
    overwrite: bool = False,
    progress: Callable[[CorpusSummary], None] | None = None,
) -> CorpusSummary:
    """Embed files and folders into a folder of `.npz` files, or into one table if `output` ends in `.parquet`.

    Args:
        paths: recordings, folders that are searched for them, and "-" for standard input.
        output: folder, or table; see `npz.py` and `parquet.py` for what it holds.
        model: on the device on which it shall run.
        kind: "scene" (one embedding a recording or window) or "timestamps" (one a step).
        dtype: of the stored embeddings, "float32" or "float16".
        window_s: seconds; recordings are read and embedded window by window, each by itself, at constant memory.
            "auto": those longer than `LONG_S` (5 minutes) are, in windows of `LONG_WINDOW_S` (scenes 10 s, timestamps
            60 s); the others are whole. None: all are whole.
        hop_s: seconds from one window's start to the next, at most window_s, which is the default; scenes only.
        workers: decoding threads; default: as many as CPU cores, at most 4.
        batch_seconds: audio handed to the model at once; default 60 on a CPU, 600 on a GPU.
        channel: "mix" (the mean), "left", "right", a number from 1, or "each" (every one by itself, as NAME.ch1, ...).
        resampler: "soxr", or "resampy" as the originals of HEAR 2021; the latter takes recordings whole.
        segments: a table of recordings, starts and ends, see `segments.py`: one scene embedding a row.
        clock: add the time of day of each embedding, where the recording's name tells it, see `clock.py`.
        overwrite: replace what is there. Otherwise what was finished with the same settings is kept and skipped, and
            other settings are refused.
        progress: called after each batch and recording with the summary so far.

    Returns:
        What was done; recordings that failed are listed in `failed` and have no output.

    Raises:
        UsageError: an option out of range, nothing to embed, or an output of other settings.
    """
    check_options(kind, dtype, window_s, hop_s, workers, batch_seconds)
    check_output(output)
    if segments is not None:
        check_segments(kind, window_s)
        window_s = None
    seconds, from_s = windows(window_s, kind)
    with recordings(paths, channel=channel, segments=segments) as (sources, failures):
        return embed_audio_files(
            sources,
            failures,
            output,
            model,
            kind=kind,
            dtype=dtype,
            window_s=seconds,
            windows_from_s=from_s,
            hop_s=hop_s,
            workers=workers,
            batch_seconds=batch_seconds,
            channel=channel,
            resampler=resampler,
            segments=segments is not None,
            clock=clock,
            overwrite=overwrite,
            progress=progress,
        )


def embed_audio_files(
    sources: list[AudioFile],
    failures: list[Failure],
    output: str | os.PathLike[str],
    model: HearModel,
    *,
    kind: str,
    dtype: str,
    window_s: float | None,
    hop_s: float | None,
    workers: int | None,
    batch_seconds: float | None,
    channel: str | int = "mix",
    resampler: str = "soxr",
    segments: bool = False,
    windows_from_s: float | None = None,
    clock: bool = False,
    overwrite: bool,
    progress: Callable[[CorpusSummary], None] | None,
) -> CorpusSummary:
    """`embed_files` of what `recordings` found; its options were checked.

    windows_from_s: recordings that are not longer are whole, whatever `window_s` says; None: all have windows.
    """
    settings = embedding_settings(
        model,
        kind,
        dtype,
        window_s,
        hop_s,
        channel=channel_of(channel),
        resampler=resampler,
        segments=segments,
        windows_from_s=windows_from_s,
        clock=clock,
    )
    summary = CorpusSummary(os.fspath(output), settings.as_dict(), files=len(sources) + len(failures), failed=failures)
    target = Path(output)
    is_table = target.suffix.lower() == TABLE
    target_of: type[ParquetOutput] | type[NpzOutput] = ParquetOutput if is_table else NpzOutput
    try:
        with only_writer(_made_ready(target, is_table), target):  # before anything is read, or removed
            out: Output = target_of(target, settings, overwrite)
            try:
                out.refuse_others(sources)
                todo = _todo(sources, out, summary)
                run = _CorpusEmbedder(model, settings, out, summary, progress or (lambda _: None))
                if not overwrite:
                    run.find_unfinished(todo)
                run.go(todo, workers or min(4, os.cpu_count() or 1), batch_seconds)
                out.finish()
            finally:
                out.close()
    except OSError as error:  # what a recording's own file can raise is caught where it is read
        raise HearModelsError(
            f"{shown(target)} cannot be written: {error.strerror or error}. "
            "Finished recordings and windows are kept; the same command goes on from here."
        ) from error
    return summary


def _made_ready(target: Path, is_table: bool) -> Path:
    """Make the folder that is needed; returns the output's lock. UsageError: there is something else of that name."""
    if is_table and target.is_dir():
        raise UsageError(f"{shown(target)} is a folder. Give another name for the table.")
    if not is_table and target.exists() and not target.is_dir():
        raise UsageError(f"{shown(target)} is a file. Give a folder, or a name that ends in .parquet for a table.")
    (target.parent if is_table else target).mkdir(parents=True, exist_ok=True)
    return beside(target) if is_table else inside(target)


def _todo(sources: list[AudioFile], out: Output, summary: CorpusSummary) -> list[tuple[AudioFile, AudioFileState]]:
    todo = []
    done = []
    for source in sources:
        try:
            info = AudioFileState.of(source)
        except OSError as error:
            summary.failed.append(
                Failure(str(source.path), f"{shown(source.path)} cannot be opened: {error.strerror}.")
            )
            continue
        if problem := out.why_not(source):
            summary.failed.append(Failure(str(source.path), f"{shown(source.path)}: {problem}"))
        elif out.is_done(source, info):
            summary.skipped += 1
            done.append(source.name)
        else:
            todo.append((source, info))
    forget(out.folder, done)  # a run was killed between writing them and this
    return todo


class _CorpusEmbedder:
    """The loop: windows from the decoders into batches, embeddings out of the model to their recordings."""

    def __init__(
        self,
        model: HearModel,
        settings: EmbeddingSettings,
        out: Output,
        summary: CorpusSummary,
        progress: Callable[[CorpusSummary], None],
    ) -> None:
        self.model, self.settings, self.out, self.summary, self.progress = model, settings, out, summary, progress
        self.writes = WriteBehind(out, self._written, self._refused)
        self.idle_s = 0.0  # how long the model has waited for decoded audio
        self.done: dict[int, Done] = {}  # by index: what an earlier run embedded of recordings that it did not finish
        self.open: dict[int, _OpenFile] = {}  # those that are not finished, by index
        self.work = Progress()

    def find_unfinished(self, todo: list[tuple[AudioFile, AudioFileState]]) -> None:
        """Look for windows that an earlier run finished."""
        for index, (source, info) in enumerate(todo):
            kept = self._kept(source, info)
            if kept is not None and (done := kept.find()).windows:
                self.done[index] = done

    def _kept(self, source: AudioFile, info: AudioFileState) -> Unfinished | None:
        """Where a recording's windows are kept until it is finished; None where it has none."""
        if self.settings.window_s is None or source.segments is not None:
            return None
        return Unfinished(self.out.folder, self.settings.of(math.inf), info)

    def go(self, todo: list[tuple[AudioFile, AudioFileState]], workers: int, batch_seconds: float | None) -> None:
        """Embed all of `todo`."""
        self.work.begin([info.bytes for _, info in todo])
        self.summary.done_share = self.work.share
        self.progress(self.summary)
        began = time.perf_counter()
        rate = self.settings.sample_rate
        device = device_of(self.model)
        seconds = batch_seconds or BATCH_SECONDS.get(device.type, BATCH_SECONDS["cuda"])
        prefetcher = Prefetcher(
            [source for source, _ in todo],
            rate,
            window_samples=None if self.settings.window_s is None else round(self.settings.window_s * rate),
            hop_samples=None if self.settings.hop_s is None else round(self.settings.hop_s * rate),
            longer_than_s=self.settings.windows_from_s,
            done=self.done,
            resampler=self.settings.resampler,
            workers=workers,
            ahead_s=AHEAD_BATCHES * seconds,
        )
        clips = len(todo) if self.settings.window_s is None else os.cpu_count() or 1
        with (
            closing(Encoders.of(self.model, device, clips)) as encoders,
            closing(self.writes),
            prefetcher,
            self._keeping_windows(),
        ):
            stream: ClipStream[tuple[_OpenFile, Window]] = ClipStream(
                encoders,
                device,
                "scene" if self.settings.kind == "scene" else "timestamps",
                # recordings have nothing to do with each other: where they would, each goes through by itself
                batch_samples=1 if self.model.batch_dependent else round(seconds * rate),
                keep=self._is_wanted,
            )
            waited_s, idle = 0.0, 1.0
            for index, item in prefetcher:
                self.idle_s += (prefetcher.wait_s - waited_s) * (idle + encoders.idle_share) / 2
                file = self._file(index, *todo[index], item)
                if isinstance(item, End):
                    file.end, file.error = item, file.error or item.error
                    self._finish_if_done(file)
                else:
                    if item.is_part and not file.windowed:
                        self._has_windows(file)
                    file.pending += 1
                    for batch in stream.add((file, item), item.samples):
                        self._take(batch)
                self._measure(began)
                waited_s, idle = prefetcher.wait_s, encoders.idle_share
            for batch in stream.finish():
                self._take(batch)
            self.writes.finish()
        self._measure(began)

    @contextmanager
    def _keeping_windows(self) -> Iterator[None]:
        """Ctrl-C, a full disk, a fault: the windows of what is not finished are kept."""
        try:
            yield
        finally:
            for file in self.open.values():
                if file.rows.kept is not None:
                    file.rows.kept.close()

    def _file(self, index: int, source: AudioFile, info: AudioFileState, item: Window | End) -> _OpenFile:
        """The recording that is being read, with what an earlier run embedded of it before the first `item` of this."""
        if index not in self.open:
            rows = Rows(self.out.folder, self.settings.dtype, self._kept(source, info))
            file = self.open[index] = _OpenFile(index, source, info, rows)
            done = self.done.get(index)
            if done is not None and rows.kept is not None:
                for block in rows.kept.blocks():
                    rows.append(*block)
                self._has_windows(file)
                seconds = done.n_samples / self.settings.sample_rate
                self.summary.resumed_s += seconds
                whole_s = item.recording_s if isinstance(item, Window) else item.duration_s
                if whole_s:
                    self.work.was_done(index, seconds / whole_s)
                if rows.kept.done != done:
                    file.error = f"{shown(source.path)}: its finished windows were changed meanwhile. Run it again."
        return self.open[index]

    def _has_windows(self, file: _OpenFile) -> None:
        file.windowed = True
        if self.settings.windows_from_s is not None:
            self.summary.windowed += 1
            self.progress(self.summary)

    def _measure(self, began: float) -> None:
        summary = self.summary
        summary.seconds = time.perf_counter() - began
        summary.done_share, summary.left_s = self.work.share, self.work.left_s
        summary.decode_wait_share = round(self.idle_s / max(summary.seconds, 1e-9), 4)
        summary.audio_s_per_s = round(summary.audio_s / max(summary.seconds, 1e-9), 1)

    def _take(self, batch: Batch[tuple[_OpenFile, Window]]) -> None:
        """Store a batch; if it failed, embed its windows one by one."""
        try:
            results = self._outputs(batch.tags, batch.result())
        except (HearModelsError, RuntimeError) as error:
            if len(batch.tags) == 1:
                file = batch.tags[0][0]
                file.error = f"{shown(file.source.path)}: {error}"
                self._drop(file)
                return
            for one in batch.one_by_one():
                self._take(one)
        else:
            self._store(batch.tags, results)
            self.progress(self.summary)

    def _is_wanted(self, window: tuple[_OpenFile, Window]) -> bool:
        """False for a window of a recording that failed: nothing of it is embedded any more."""
        file, _ = window
        if file.error is not None:
            self._drop(file)
        return file.error is None

    def _outputs(
        self, batch: list[tuple[_OpenFile, Window]], results: list[Any]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """What the model gave → rows [n, dim] and times in ms from the start of the recording, of each window."""
        found = []
        for (_, window), result in zip(batch, results, strict=True):
            start_ms = window.start_sample * 1000.0 / self.settings.sample_rate
            if self.settings.kind == "scene":
                found.append((result.cpu().numpy()[None], np.array([start_ms])))
            else:
                found.append((result[0].cpu().numpy(), result[1].cpu().numpy().astype(np.float64) + start_ms))
        return found

    def _store(self, batch: list[tuple[_OpenFile, Window]], results: list[tuple[np.ndarray, np.ndarray]]) -> None:
        for (file, window), (rows, times) in zip(batch, results, strict=True):
            file.pending -= 1
            end_sample = window.start_sample + len(window.samples)
            try:
                file.rows.append(rows, times)
                if file.windowed and file.rows.kept is not None:
                    file.rows.kept.add(rows, times, end_sample)
                self.summary.audio_s += len(window.samples) / self.settings.sample_rate
                if window.recording_s:
                    self.work.part(file.index, end_sample / self.settings.sample_rate / window.recording_s)
            except HearModelsError as error:
                file.error = f"{shown(file.source.path)}: {error}"
            self._finish_if_done(file)

    def _drop(self, file: _OpenFile) -> None:
        """One window less to wait for."""
        file.pending -= 1
        self._finish_if_done(file)

    def _finish_if_done(self, file: _OpenFile) -> None:
        if file.end is None or file.pending:
            return
        del self.open[file.index]
        self.work.part(file.index, 1.0)
        if file.rows.kept is not None and not file.rows.kept.is_there:
            file.rows.kept = None  # nothing is to be removed, and no table has to be flushed for it
        if file.error is None:
            end = file.end
            self.summary.notes += [Failure(str(file.source.path), f"{shown(file.source.path)} {n}") for n in end.notes]
            info = replace(file.info, sample_rate=end.sample_rate, channels=end.channels, duration_s=end.duration_s)
            self.writes.write(file.source, info, file.rows)
            return
        file.rows.close()
        if file.rows.kept is not None:
            file.rows.kept.remove()
        self.summary.failed.append(Failure(str(file.source.path), file.error))
        self.progress(self.summary)

    def _refused(self, source: AudioFile, reason: str) -> None:
        self.summary.failed.append(Failure(str(source.path), reason))
        self.progress(self.summary)

    def _written(self, n_rows: int) -> None:
        self.summary.embedded += 1
        self.summary.embeddings += n_rows
        self.progress(self.summary)
