"""From a recording on disk to float32 mono samples at the model's rate: whole, in part, or window by window.

Resampling is soxr's "HQ" everywhere. Output sample k stands for time k / sample_rate; n source frames give
round(n * rate ratio) samples, at least one. Whole, partial and windowed reading give the same samples.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import soxr

from hear_models.errors import AudioFileError, UsageError
from hear_models.files import shown
from hear_models.pipeline.decoding import Recording, open_recording

QUALITY = "HQ"
CONTEXT_S = (
    0.5  # read before and after a part: resampling filter and lossy decoders then see what they see in the whole
)


@dataclass(frozen=True)
class AudioInfo:
    """What a recording is, before resampling: seconds, Hz, number of channels."""

    duration_s: float
    sample_rate: int
    channels: int


def probe(path: str | os.PathLike[str]) -> AudioInfo:
    """Duration [s], sample rate [Hz] and channels of a recording, from its header.

    What only ffmpeg reads is decoded to the end to count it. Raises AudioFileError as `read_audio`.
    """
    with closing(open_recording(path)) as recording:
        frames = recording.frames
        if frames is None:
            frames = sum(len(block) for block in recording.blocks())
        return AudioInfo(frames / recording.sample_rate, recording.sample_rate, recording.channels)


def read_audio(
    path: str | os.PathLike[str], sample_rate: int, *, start_s: float = 0.0, duration_s: float | None = None
) -> np.ndarray:
    """Read a recording as float32 [samples], mono (mean of the channels), at `sample_rate` Hz.

    Integer files are scaled to [-1, 1]; float files keep their values. `start_s`, `duration_s`: the part in seconds,
    rounded to samples; a part that reaches past the end is shorter.
    Raises AudioFileError (missing, empty, damaged, no audio, NaN, a start past the end) and UsageError (rate or part
    out of range).
    """
    if start_s < 0 or not math.isfinite(start_s) or (duration_s is not None and not 0 < duration_s < math.inf):
        raise UsageError(
            f"start_s={start_s}, duration_s={duration_s} is no part. Give seconds: start >= 0, duration > 0."
        )
    _check_rate(sample_rate)
    start = round(start_s * sample_rate)
    stop = None if duration_s is None else max(start + 1, round((start_s + duration_s) * sample_rate))
    with closing(open_recording(path)) as recording:
        blocks = list(_resampled(recording, sample_rate, start, stop))
    samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks or [np.zeros(0, np.float32)])
    if not len(samples):
        if not start_s:
            raise _no_samples(recording)
        raise AudioFileError(f"{shown(path)} ends before {start_s} s. Give an earlier start.")
    return samples


def stream_windows(
    path: str | os.PathLike[str], sample_rate: int, window_samples: int, hop_samples: int | None = None
) -> Iterator[np.ndarray]:
    """Yield a recording window by window, float32 [window_samples], at constant memory however long it is.

    Window k starts exactly at sample k * hop_samples (default: window_samples, so windows adjoin). The last window may
    be shorter; every sample is in a window, and no window lies entirely inside its predecessor. Raises as `read_audio`.
    """
    with closing(open_recording(path)) as recording:
        yield from windows_of(recording, sample_rate, window_samples, hop_samples)


def windows_of(
    recording: Recording, sample_rate: int, window_samples: int | None, hop_samples: int | None = None
) -> Iterator[np.ndarray]:
    """`stream_windows` of a recording that is open already; window_samples=None gives the whole as one window."""
    _check_rate(sample_rate)
    if window_samples is None:
        whole = list(_resampled(recording, sample_rate, 0, None))
        if not whole:
            raise _no_samples(recording)
        yield whole[0] if len(whole) == 1 else np.concatenate(whole)
        return
    hop_samples = window_samples if hop_samples is None else hop_samples
    if not 1 <= hop_samples <= window_samples:
        raise UsageError(
            f"A hop of {hop_samples} samples does not fit windows of {window_samples}. Give 1 <= hop <= window."
        )
    held: list[np.ndarray] = []
    n_held = n_windows = 0
    for block in _resampled(recording, sample_rate, 0, None):
        held.append(block)
        n_held += len(block)
        if n_held < window_samples:
            continue
        samples = np.concatenate(held)
        start = 0
        while start + window_samples <= n_held:
            yield samples[start : start + window_samples].copy()
            n_windows += 1
            start += hop_samples
        held, n_held = [samples[start:].copy()], n_held - start
    if n_held > (window_samples - hop_samples if n_windows else 0):
        yield np.concatenate(held)
    elif not n_windows:
        raise _no_samples(recording)


def resample(samples: np.ndarray, source_rate: int, sample_rate: int) -> np.ndarray:
    """Resample float [samples] or [samples, channels] from source_rate to sample_rate (Hz) to float32."""
    _check_rate(source_rate)
    _check_rate(sample_rate)
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    if source_rate == sample_rate or not len(samples):
        return samples
    wanted = max(1, _round_half_up(len(samples) * sample_rate, source_rate))
    return _exactly(soxr.resample(samples, source_rate, sample_rate, quality=QUALITY), samples, wanted)


def _resampled(recording: Recording, sample_rate: int, start: int, stop: int | None) -> Iterator[np.ndarray]:
    """Blocks of output samples [start, stop), equal to that slice of the whole resampled recording."""
    source_rate = recording.sample_rate
    # Source frame i*a and output sample i*b are the same instant: start there, CONTEXT_S early, and drop the surplus.
    common = math.gcd(source_rate, sample_rate)
    frames_per_step, samples_per_step = source_rate // common, sample_rate // common
    step = max(0, start - round(CONTEXT_S * sample_rate)) // samples_per_step
    first_frame, skip = step * frames_per_step, start - step * samples_per_step
    n_frames = left = None
    if stop is not None:
        left = stop - start
        n_frames = math.ceil(stop * source_rate / sample_rate + CONTEXT_S * source_rate) - first_frame
    same = source_rate == sample_rate
    stream = None if same else soxr.ResampleStream(source_rate, sample_rate, 1, dtype="float32", quality=QUALITY)
    n_read = n_given = 0
    for block, is_last in _with_last(recording.blocks(first_frame, n_frames)):
        n_read += len(block)
        output = block if stream is None else stream.resample_chunk(block, last=is_last)
        if is_last:
            total = max(1, _round_half_up((first_frame + n_read) * sample_rate, source_rate)) - step * samples_per_step
            output = _exactly(output, block, max(0, total - n_given))
        n_given += len(output)
        dropped = min(skip, len(output))
        skip -= dropped
        output = output[dropped:]
        if left is not None:
            output = output[:left]
            left -= len(output)
        if len(output):
            yield output


def _with_last(blocks: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, bool]]:
    """Each block with whether it is the last one, which a resampling stream must be told."""
    previous: np.ndarray | None = None
    for block in blocks:
        if previous is not None:
            yield previous, False
        previous = block
    if previous is not None:
        yield previous, True


def _exactly(output: np.ndarray, source: np.ndarray, n: int) -> np.ndarray:
    """Make `output` n samples long: soxr can be one short of the rule where the source has a handful of frames."""
    if len(output) < n:
        missing = n - len(output)
        tail = np.repeat((output if len(output) else source)[-1:], missing, axis=0)
        return np.concatenate([output, tail]).astype(np.float32, copy=False)
    return output[:n]


def _round_half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def _no_samples(recording: Recording) -> AudioFileError:
    return AudioFileError(f"{shown(recording.path)} holds no samples. Leave it out or check how it was written.")


def _check_rate(sample_rate: int) -> None:
    whole = isinstance(sample_rate, (int, np.integer)) and not isinstance(sample_rate, bool)
    if not whole or not 1 <= sample_rate <= 1_000_000:
        raise UsageError(f"A sample rate of {sample_rate!r} is not usable. Give a whole number of Hz, such as 16000.")
