"""From a recording on disk to float32 mono samples at the model's rate: whole, in part, or window by window.

Resampling is soxr's "HQ", or resampy's "kaiser_best" where that is asked for. Output sample k stands for time
k / sample_rate; n source frames give round(n * rate ratio) samples, at least one. Whole, partial and windowed reading
give the same samples.
"""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import soxr

from hear_models.errors import AudioFileError, AudioWarning, UsageError
from hear_models.files import shown
from hear_models.pipeline.decoding import Recording, open_recording
from hear_models.pipeline.listening import MIX, Channel

RESAMPLERS = ("soxr", "resampy")
QUALITY = "HQ"
LONGEST_SAMPLES = 1 << 28  # of a recording that is read whole: 4.6 h at 16 kHz, 1 GiB; longer ones go window by window
NEAR_S = 10.0  # segments less far apart are read in one pass
RESAMPLED_AT_ONCE = 1 << 20  # samples that come out of one call
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
    path: str | os.PathLike[str],
    sample_rate: int,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    channel: Channel = MIX,
    resampler: str = "soxr",
) -> np.ndarray:
    """Read a recording as float32 [samples], mono (mean of the channels), at `sample_rate` Hz.

    Integer files are scaled to [-1, 1]; float files keep their values.

    Args:
        path: the recording.
        sample_rate: Hz.
        start_s, duration_s: the part in seconds, rounded to samples; a part that reaches past the end is shorter.
        channel: "mix", the mean of all channels, or a number from 1.
        resampler: "soxr", or "resampy" as the originals of HEAR 2021.

    Raises:
        AudioFileError: missing, empty, damaged, no audio, NaN, a start past the end, longer than `LONGEST_SAMPLES`.
        UsageError: rate or part out of range. Warns (AudioWarning) of what is odd and was read all the same.
    """
    if start_s < 0 or not math.isfinite(start_s) or (duration_s is not None and not 0 < duration_s < math.inf):
        raise UsageError(
            f"start_s={start_s}, duration_s={duration_s} is no part. Give seconds: start >= 0, duration > 0."
        )
    _check_rate(sample_rate)
    start = round(start_s * sample_rate)
    stop = None if duration_s is None else max(start + 1, round((start_s + duration_s) * sample_rate))
    with closing(open_recording(path, channel)) as recording:
        samples = _at_once(recording, sample_rate, start, stop, resampler)
        warn_of(recording)
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
        warn_of(recording)


def warn_of(recording: Recording) -> None:
    """An AudioWarning for each thing that was odd in a recording that was read."""
    for note in recording.notes:
        warnings.warn(f"{shown(recording.path)} {note}", AudioWarning, stacklevel=3)


def windows_of(
    recording: Recording,
    sample_rate: int,
    window_samples: int | None,
    hop_samples: int | None = None,
    resampler: str = "soxr",
    *,
    longer_than_s: float | None = None,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """`stream_windows` of a recording that is open already; window_samples=None gives the whole as one window.

    Args:
        recording, sample_rate, window_samples, hop_samples, resampler: as above.
        longer_than_s: recordings that are not longer are given whole, too.
        first: the window to begin with, of a recording that has windows. What lies before is decoded all the same: a
            resampler that begins anew, or a decoder, gives other last bits.
    """
    _check_rate(sample_rate)
    blocks: Iterator[np.ndarray] | None = None
    held: list[np.ndarray]
    if longer_than_s is not None and window_samples is not None and not first:
        if recording.frames is not None:
            is_long = recording.frames / recording.sample_rate > longer_than_s
        else:  # only decoding tells
            is_long, blocks = _longer_than(
                round(longer_than_s * sample_rate), _resampled(recording, sample_rate, 0, None, resampler)
            )
        if not is_long and blocks is not None:
            held = list(blocks)
            if not held:
                raise _no_samples(recording)
            yield np.concatenate(held)
            return
        window_samples = window_samples if is_long else None
    if window_samples is None:
        whole = _at_once(recording, sample_rate, 0, None, resampler)
        if not len(whole):
            raise _no_samples(recording)
        yield whole
        return
    hop_samples = window_samples if hop_samples is None else hop_samples
    if not 1 <= hop_samples <= window_samples:
        raise UsageError(
            f"A hop of {hop_samples} samples does not fit windows of {window_samples}. Give 1 <= hop <= window."
        )
    held, n_held, n_windows = [], 0, first
    for block in _from(first * hop_samples, blocks or _resampled(recording, sample_rate, 0, None, resampler)):
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


def _longer_than(n_samples: int, blocks: Iterator[np.ndarray]) -> tuple[bool, Iterator[np.ndarray]]:
    """Whether there are more samples than that in the blocks, and the same blocks."""
    head: list[np.ndarray] = []
    n = 0
    for block in blocks:
        head.append(block)
        n += len(block)
        if n > n_samples:
            return True, itertools.chain(head, blocks)
    return False, iter(head)


def _from(start: int, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same blocks from a sample on."""
    for block in blocks:
        dropped = min(start, len(block))
        start -= dropped
        if dropped < len(block):
            yield block[dropped:]


def segments_of(
    recording: Recording, sample_rate: int, spans: Sequence[tuple[float, float]], resampler: str = "soxr"
) -> Iterator[np.ndarray]:
    """Yield the parts [start_s, end_s) of a recording, float32 [samples], in their order: that of their starts.

    Parts that overlap are decoded once, and no more is held than they reach over. One that ends past the end of the
    recording is shorter. Raises as `read_audio`, also for a part that begins past the end or has too many samples.
    """
    _check_rate(sample_rate)
    edges = [
        (round(start * sample_rate), max(round(start * sample_rate) + 1, round(end * sample_rate)))
        for start, end in spans
    ]
    done = 0
    while done < len(edges):
        first = done
        stop = edges[done][1]
        while done < len(edges) and (recording.frames is None or edges[done][0] <= stop + NEAR_S * sample_rate):
            stop = max(stop, edges[done][1])
            done += 1
        yield from _cut(recording, sample_rate, edges[first:done], stop, resampler)


def _cut(
    recording: Recording, sample_rate: int, edges: Sequence[tuple[int, int]], stop: int, resampler: str
) -> Iterator[np.ndarray]:
    """Segments, all before sample `stop`, from one pass over the recording."""
    begin = edges[0][0]
    held = np.zeros(0, np.float32)  # from sample `begin` on
    blocks = _resampled(recording, sample_rate, begin, stop, resampler)
    waiting: list[np.ndarray] = []
    there = begin
    for start, end in edges:
        while there < end and (block := next(blocks, None)) is not None:
            waiting.append(block)
            there += len(block)
            if min(there, end) - start > LONGEST_SAMPLES:
                raise AudioFileError(
                    f"{shown(recording.path)}: a segment from {start / sample_rate:g} s on is longer than "
                    f"{LONGEST_SAMPLES / sample_rate / 3600:.1f} hours. Cut it into several in the table."
                )
        held = (np.concatenate([held, *waiting]) if waiting else held)[start - begin :]
        waiting, begin = [], start
        if not len(held):
            raise AudioFileError(
                f"{shown(recording.path)} ends before {start / sample_rate:g} s, where a segment begins. "
                "Correct the table, or leave that row out."
            )
        yield held[: end - start].copy()


def resample(samples: np.ndarray, source_rate: int, sample_rate: int, resampler: str = "soxr") -> np.ndarray:
    """Resample float [samples] or [samples, channels] from source_rate to sample_rate (Hz) to float32."""
    _check_rate(source_rate)
    _check_rate(sample_rate)
    _check_resampler(resampler)
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    if source_rate == sample_rate or not len(samples):
        return samples
    wanted = max(1, _round_half_up(len(samples) * sample_rate, source_rate))
    if resampler == "resampy":
        return _exactly(_by_resampy(samples, source_rate, sample_rate), samples, wanted)
    return _exactly(soxr.resample(samples, source_rate, sample_rate, quality=QUALITY), samples, wanted)


def _by_resampy(samples: np.ndarray, source_rate: int, sample_rate: int) -> np.ndarray:
    import resampy  # compiles its loops when it is first used

    if len(samples) * sample_rate < source_rate:  # it refuses to make less than one sample
        return samples[:1]
    found: np.ndarray = resampy.resample(samples, source_rate, sample_rate, axis=0, filter="kaiser_best")
    return found.astype(np.float32, copy=False)


def _at_once(recording: Recording, sample_rate: int, start: int, stop: int | None, resampler: str) -> np.ndarray:
    """Output samples [start, stop) in one array; AudioFileError if there are more than `LONGEST_SAMPLES`."""
    blocks: list[np.ndarray] = []
    n = 0
    if recording.frames is not None and stop is None:
        _check_length(recording, math.ceil(recording.frames * sample_rate / recording.sample_rate) - start, sample_rate)
    for block in _resampled(recording, sample_rate, start, stop, resampler):
        blocks.append(block)
        n += len(block)
        _check_length(recording, n, sample_rate)
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks or [np.zeros(0, np.float32)])


def _check_length(recording: Recording, n_samples: int, sample_rate: int) -> None:
    if n_samples > LONGEST_SAMPLES:
        raise AudioFileError(
            f"{shown(recording.path)} is longer than {LONGEST_SAMPLES / sample_rate / 3600:.1f} hours, too long to be "
            "read whole. Embed it window by window (--window 10), or give a part of it."
        )


def _resampled(
    recording: Recording, sample_rate: int, start: int, stop: int | None, resampler: str = "soxr"
) -> Iterator[np.ndarray]:
    """Blocks of output samples [start, stop), equal to that slice of the whole resampled recording."""
    source_rate = recording.sample_rate
    _check_resampler(resampler)
    if resampler == "resampy" and source_rate != sample_rate:
        yield from _whole_by_resampy(recording, sample_rate, start, stop)
        return
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
    blocks = recording.blocks(first_frame, n_frames)
    for block, is_last in _with_last(
        blocks if same else _small(blocks, RESAMPLED_AT_ONCE * source_rate // sample_rate)
    ):
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


def _whole_by_resampy(recording: Recording, sample_rate: int, start: int, stop: int | None) -> Iterator[np.ndarray]:
    """resampy takes a recording whole: one block."""
    blocks: list[np.ndarray] = []
    n = 0
    for block in recording.blocks():
        blocks.append(block)
        n += len(block)
        _check_length(recording, max(n, math.ceil(n * sample_rate / recording.sample_rate)), sample_rate)
    whole = resample(np.concatenate(blocks), recording.sample_rate, sample_rate, "resampy") if blocks else None
    if whole is not None and len(part := whole[start:stop]):
        yield part


def _small(blocks: Iterator[np.ndarray], most: int) -> Iterator[np.ndarray]:
    """The same samples in blocks of at most `most`, at least one: a low rate makes thousands of each."""
    for block in blocks:
        for start in range(0, len(block), max(1, most)):
            yield block[start : start + max(1, most)]


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


def _check_resampler(resampler: str) -> None:
    if resampler not in RESAMPLERS:
        raise UsageError(f"resampler={resampler!r} is unknown. Use one of {', '.join(RESAMPLERS)}.")
