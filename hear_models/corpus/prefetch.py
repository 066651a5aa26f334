"""Decodes recordings in threads, ahead of the model and in order, within a bound on what lies decoded in memory.

Threads, not processes: libsndfile, soxr and ffmpeg all work outside Python's lock, and nothing has to be copied back.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import soundfile

from hear_models.corpus.discover import AudioFile
from hear_models.errors import AudioFileError
from hear_models.files import shown
from hear_models.pipeline.audio import segments_of, windows_of
from hear_models.pipeline.decoding import Recording, open_recording

LARGE_BYTES = 8_000_000  # recordings of this size count with their whole length before they are decoded
GUESSED_BYTES_PER_SECOND = 8_000  # 64 kbit/s, for large files that only ffmpeg reads


@dataclass(frozen=True)
class Window:
    """Decoded audio: float32 [samples] that start at `start_sample` of the recording, at the model's rate.

    recording_s: how long the recording seems to be; None where only decoding tells. is_part: the recording has windows,
    this is one of them.
    """

    samples: np.ndarray
    start_sample: int
    recording_s: float | None = None
    is_part: bool = False


@dataclass(frozen=True)
class End:
    """The recording is over: what it was and what was odd, or the error that ended it."""

    sample_rate: int = 0
    channels: int = 0
    duration_s: float = 0.0
    error: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """What an earlier run embedded of a recording: so many windows, which reach up to sample `n_samples`."""

    windows: int = 0
    n_samples: int = 0


class _Job:
    """One recording on its way: at most two windows wait, the next may lie ready in the worker."""

    def __init__(self, source: AudioFile, done: Done) -> None:
        self.source, self.done = source, done
        self.expected_s = 0.0
        self.items: queue.Queue[Window | End] = queue.Queue(maxsize=2)


class Prefetcher:
    """Iterate over (index, Window | End) of all sources, in order, while threads decode the next ones.

    Args:
        sources: what to read.
        sample_rate: Hz, of the model.
        window_samples, hop_samples: None reads each recording whole, or its segments.
        longer_than_s: recordings that are not longer are read whole all the same.
        done: of recordings that were begun, by index: their reading goes on behind that.
        resampler: see `read_audio`.
        workers: decoding threads.
        ahead_s: no recording is begun while more seconds of audio than this wait decoded (one always is, so that a
            long recording passes). With windows a worker holds at most three of them besides.
    """

    def __init__(
        self,
        sources: Sequence[AudioFile],
        sample_rate: int,
        *,
        window_samples: int | None = None,
        hop_samples: int | None = None,
        longer_than_s: float | None = None,
        done: Mapping[int, Done] | None = None,
        resampler: str = "soxr",
        workers: int,
        ahead_s: float,
    ) -> None:
        self.sources = sources
        self.sample_rate = sample_rate
        self.window_samples, self.hop_samples, self.resampler = window_samples, hop_samples, resampler
        self.longer_than_s, self.done = longer_than_s, done or {}
        self.ahead_s = ahead_s
        self.wait_s = 0.0  # how long the reader, that is the model, has waited for decoded audio
        self._jobs: dict[int, _Job] = {}  # begun and not yet read to the end, by index
        self._next = 0
        self._next_expected_s: float | None = None
        self._decoded_s = 0.0  # seconds that wait for the reader, and those expected of large recordings
        self._changed = threading.Condition()
        self._stop = False
        # daemons: Ctrl-C does not have to wait until a long recording is decoded
        self._threads = [threading.Thread(target=self._work, daemon=True, name=f"decode-{i}") for i in range(workers)]

    def __enter__(self) -> Prefetcher:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._changed:
            self._stop = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[tuple[int, Window | End]]:
        for index in range(len(self.sources)):
            while True:
                began = time.perf_counter()
                with self._changed:
                    self._changed.wait_for(lambda i=index: i in self._jobs)  # type: ignore[misc]
                item = self._jobs[index].items.get()
                self.wait_s += time.perf_counter() - began
                with self._changed:
                    if isinstance(item, End):
                        del self._jobs[index]
                    else:
                        self._decoded_s -= len(item.samples) / self.sample_rate
                    self._changed.notify_all()
                yield index, item
                if isinstance(item, End):
                    break

    def _work(self) -> None:
        while (job := self._next_job()) is not None:
            self._hand_over(job, self._decode(job))

    def _next_job(self) -> _Job | None:
        """Wait until there is room; recordings are begun in order, so the one that the reader waits for always is."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._stop
                    or self._next == len(self.sources)
                    or not self._jobs
                    or self._decoded_s + self._expected_of_next() <= self.ahead_s
                )
            )
            if self._stop or self._next == len(self.sources):
                return None
            job = self._jobs[self._next] = _Job(self.sources[self._next], self.done.get(self._next, Done()))
            job.expected_s = self._expected_of_next()
            self._decoded_s += job.expected_s
            self._next, self._next_expected_s = self._next + 1, None
            self._changed.notify_all()
            return job

    def _expected_of_next(self) -> float:
        if self._next_expected_s is None:  # asked at every change, so looked up once
            self._next_expected_s = self._expected_s(self.sources[self._next])
        return self._next_expected_s

    def _expected_s(self, source: AudioFile) -> float:
        """Seconds that a large recording will hold in memory; 0 for short ones, which count once they are decoded."""
        if source.segments is not None or (self.window_samples and self.longer_than_s is None):
            return 0.0
        try:
            n_bytes = os.stat(source.path).st_size
            if n_bytes < LARGE_BYTES:
                return 0.0
            seconds = float(soundfile.info(os.fsencode(source.path) if os.name == "posix" else source.path).duration)
        except OSError:  # the worker will tell
            return 0.0
        except (RuntimeError, TypeError, ValueError):
            seconds = n_bytes / GUESSED_BYTES_PER_SECOND
        return 0.0 if self.longer_than_s is not None and seconds > self.longer_than_s else seconds

    def _decode(self, job: _Job) -> End:
        try:
            with closing(open_recording(job.source.path, job.source.channel)) as recording:
                n_samples = job.done.n_samples
                for window in self._windows(job.source, recording, job.done.windows):
                    n_samples = max(n_samples, window.start_sample + len(window.samples))
                    if not self._hand_over(job, window):
                        return End()
                rate = recording.sample_rate
                seconds = n_samples / self.sample_rate if recording.frames is None else recording.frames / rate
                return End(rate, recording.channels, seconds, notes=tuple(recording.notes))
        except AudioFileError as error:
            return End(error=str(error))
        except Exception as error:  # a decoder's fault must cost one recording, not the night's run
            return End(error=f"{shown(job.source.path)}: {type(error).__name__}: {error}. Leave it out.")
        finally:
            with self._changed:
                self._decoded_s -= job.expected_s
                self._changed.notify_all()

    def _windows(self, source: AudioFile, recording: Recording, first: int) -> Iterator[Window]:
        seconds = recording.expected_s
        if source.segments is not None:
            spans = [(segment.start_s, segment.end_s) for segment in source.segments]
            for (start_s, _), samples in zip(
                spans, segments_of(recording, self.sample_rate, spans, self.resampler), strict=True
            ):
                yield Window(samples, round(start_s * self.sample_rate), seconds)
            return
        step = self.hop_samples or self.window_samples or 0
        windows = windows_of(
            recording,
            self.sample_rate,
            self.window_samples,
            self.hop_samples,
            self.resampler,
            longer_than_s=self.longer_than_s,
            first=first,
        )
        parts = self.window_samples is not None and self.longer_than_s is None
        waiting: Window | None = None  # a recording that is given whole is all that comes
        for k, samples in enumerate(windows, first):
            parts = parts or waiting is not None or first > 0
            if waiting is not None:
                yield replace(waiting, is_part=parts)
            waiting = Window(samples, k * step, seconds)
        if waiting is not None:
            yield replace(waiting, is_part=parts)

    def _hand_over(self, job: _Job, item: Window | End) -> bool:
        """Wait for room; False if nobody reads any more."""
        if isinstance(item, Window):
            with self._changed:
                self._decoded_s += len(item.samples) / self.sample_rate
        while not self._stop:
            try:
                job.items.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False
