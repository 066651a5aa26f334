"""Checks of long recordings: time and memory linear in length, times without drift, a late event in its place."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

from hear_models.validation.centres import BACKGROUND, views, with_burst
from hear_models.validation.context import Context, error, info, warning
from hear_models.validation.findings import Finding
from hear_models.validation.timestamps import LARGE_HOP_MS, ROUNDING_MS, hop_ms, standard_times
from hear_models.validation.work import Counted, counted

SHORT_S, MIDDLE_S, LONG_S, LONGEST_S = 20, 120, 600, 1200
RULE_GB = 16.0  # HEAR: 20 minutes of audio within 16 GB, weights and embeddings included
OURS_GB = 4.0  # what this zoo promises
PATIENCE_S = 150.0  # a recording that would take longer is left to --long
SUPERLINEAR, QUADRATIC = 1.35, 1.6  # exponents of growth from which on a warning, an error is due
DOUBTLESS = 1.75  # where the clock says so and the counted operations do not
ATTEMPTS = 3  # at a measurement that looks bad
LEAST_A_SAMPLE = 4  # counted operations for each sample of the audio; with fewer most of the work goes unseen


@dataclass(frozen=True)
class Run:
    """One call of get_timestamp_embeddings with a recording of `seconds`."""

    seconds: float  # of audio
    cost_s: float  # computing_seconds() on the CPU, wall time elsewhere
    extra_mb: float  # peak memory above what was in use before the call
    n_samples: int
    times: Tensor  # [steps], float64, ms
    embeddings: Tensor  # [steps, dim], float32


def measured(call: Callable[[], Any], device: torch.device) -> tuple[Any, float, float]:
    """(result, seconds, extra MB at the peak) of one call."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before, started = torch.cuda.memory_allocated(device), time.perf_counter()
        result = call()
        torch.cuda.synchronize(device)
        return result, time.perf_counter() - started, (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with PeakMemory() as memory:
        started = computing_seconds()
        result = call()
        cost = computing_seconds() - started
    return result, cost, memory.extra_mb


def computing_seconds() -> float:
    """CPU time of this process so far, all threads; without the kernel's share where it can be told apart.

    The kernel's share is the price of fresh pages of memory: it jumps with the size of a tensor, whatever is computed.
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime if resource else time.process_time()


class PeakMemory:
    """The largest resident memory of this process during a `with` block.

    The kernel's own mark where it can be set back, so that no peak is missed however busy the machine is; else looked
    at every 2 ms (Linux; elsewhere 0).
    """

    def __enter__(self) -> PeakMemory:
        trim_heap()
        self._before = self._peak = resident_mb()
        self._thread = None
        if set_back_peak():
            return self
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self._peak = max(self._peak, resident_mb())

    def __exit__(self, *_: object) -> None:
        if self._thread is None:
            self._peak = max(self._peak, peak_mb())
            return
        self._peak = max(self._peak, resident_mb())
        self._done.set()
        self._thread.join()

    @property
    def extra_mb(self) -> float:
        """Peak above the start, MB (10^6 bytes)."""
        return self._peak - self._before


def set_back_peak() -> bool:
    """Set the kernel's mark of the largest resident memory back to what there is now; whether it could be done."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return peak_mb() > 0


def peak_mb() -> float:
    """The kernel's mark in MB; 0 where it has none."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except (OSError, ValueError, IndexError):
        pass
    return 0.0


def resident_mb() -> float:
    """Resident memory of this process in MB; 0 where /proc is missing."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * (resource.getpagesize() if resource else 4096) / 1e6


def available_mb() -> float:
    """Memory that is free for use, MB; infinite where it cannot be known."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return math.inf


def trim_heap() -> None:
    """Give freed memory back to the system, so that the next peak is not hidden below an old one (glibc only)."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def recording(ctx: Context, seconds: float) -> Tensor:
    """Quiet noise that is at the same level throughout, [1, samples]; not to be written to."""
    make = lambda: ctx.noise(ctx.samples(seconds), seed=90, level=BACKGROUND)  # noqa: E731
    return make() if seconds > MIDDLE_S else ctx.shared(f"recording {seconds}", make)


def steadied(ctx: Context, runs: list[Run], still_bad: Callable[[list[Run]], bool]) -> list[Run]:
    """The last two runs again, as long as they look bad and a few times at most: the machine only ever adds.

    Of a length that was measured several times the quickest run counts, and the memory that speaks for the module.
    """
    for attempt in range(1, ATTEMPTS):
        if not still_bad(runs):
            break
        again = [run(ctx, r.seconds, attempt) for r in runs[-2:]]
        better = [
            replace(a, cost_s=min(a.cost_s, b.cost_s), extra_mb=peak(a.extra_mb, b.extra_mb))
            for a, b, peak in zip(runs[-2:], again, (max, min), strict=True)  # a peak can be missed, not invented
        ]
        runs = [*runs[:-2], *better]
    return runs


def run(ctx: Context, seconds: float, attempt: int = 0) -> Run:
    """Embed a recording of so many seconds with a burst near its end; measured once an attempt, then kept."""

    def measure() -> Run:
        audio, _ = with_burst(ctx, recording(ctx, seconds), seconds - 5.0)
        (embeddings, times), cost, extra = measured(lambda: ctx.module.timestamps(audio), ctx.device)
        return Run(
            seconds,
            cost,
            extra,
            audio.shape[1],
            times[0].detach().cpu().double(),
            embeddings[0].detach().cpu(),
        )

    return ctx.shared(f"run {seconds}, {attempt}", measure)


def exponent(short: Run, long: Run, value: Callable[[Run], float]) -> float:
    """p in value ~ seconds**p between two runs; 1 is linear."""
    return math.log(max(value(long), 1e-9) / max(value(short), 1e-9)) / math.log(long.seconds / short.seconds)


def superlinear(short: Run, long: Run) -> bool:
    """True if memory grows clearly faster than the audio, beyond what an allocator's habits explain."""
    return long.extra_mb > 200 and exponent(short, long, lambda r: r.extra_mb) > SUPERLINEAR


def warmed_up(ctx: Context) -> tuple[Run, Run]:
    """The runs of 20 s and 2 min, after a first call that pays for lazy initialisation."""

    def both() -> tuple[Run, Run]:
        burst_in_the_middle(ctx, SHORT_S)
        return run(ctx, SHORT_S), run(ctx, MIDDLE_S)

    return ctx.shared("short runs", both)


def burst_in_the_middle(ctx: Context, seconds: float) -> tuple[Counted, float]:
    """A recording with a burst in its middle, embedded and counted; and when the burst was, in ms."""

    def call() -> tuple[Counted, float]:
        audio, burst_ms = with_burst(ctx, recording(ctx, seconds), seconds / 2)
        return counted(lambda: ctx.timestamps(audio)), burst_ms

    return ctx.shared(f"counted {seconds}", call)


def growth_of_work(ctx: Context) -> float | None:
    """p in operations ~ seconds**p from 20 s to 2 min; None where too little of the work can be counted."""
    short, middle = (burst_in_the_middle(ctx, seconds)[0].operations for seconds in (SHORT_S, MIDDLE_S))
    if short < LEAST_A_SAMPLE * SHORT_S * ctx.rate:
        return None
    return math.log(middle / short) / math.log(MIDDLE_S / SHORT_S)


def why_not(ctx: Context, seconds: float) -> str:
    """Why a recording of `seconds` should not be tried, judging by the shorter ones; "" = go ahead."""
    if ctx.length == "quick":
        return "left out by --quick"
    short, middle = warmed_up(ctx)
    growth = max(1.0, exponent(short, middle, lambda r: r.extra_mb)) if middle.extra_mb > 100 else 1.0
    memory = middle.extra_mb * (seconds / middle.seconds) ** min(growth, 2.0)
    if superlinear(short, middle):
        return "memory grows faster than the audio already"
    if middle.cost_s > 0.4 and exponent(short, middle, lambda r: r.cost_s) > 1.6:
        return "time grows faster than the audio already"
    if memory > 0.4 * available_mb():
        return f"it would need about {memory / 1e3:.0f} GB of memory"
    cost = middle.cost_s * (seconds / middle.seconds) ** max(1.0, min(2.0, exponent(short, middle, lambda r: r.cost_s)))
    if cost > PATIENCE_S and ctx.length != "long":
        return f"it would take about {cost:.0f} s of computing (--long runs it)"
    return ""


def long_runs(ctx: Context) -> list[Run]:
    """The runs of this validation, shortest first: 20 s, 2 min, and as far as allowed 10 and 20 min."""
    runs = [*warmed_up(ctx)]
    for seconds in (LONG_S, LONGEST_S):
        if (seconds == LONGEST_S and ctx.length != "long") or why_not(ctx, seconds):
            break
        runs.append(run(ctx, seconds))
    return runs


def check_time(ctx: Context) -> Iterator[Finding]:
    """Twice the audio takes about twice the time."""
    runs = long_runs(ctx)
    work = growth_of_work(ctx)
    advice = "time proportional to length", "cut the audio into units of bounded length inside get_*"
    if work is not None and work > SUPERLINEAR:
        make = error if work > QUADRATIC else warning
        yield make(
            f"time grows like length^{work:.1f}: so do the operations, counted for {SHORT_S} s and for {MIDDLE_S} s of "
            "audio",
            *advice,
        )
    else:  # what is not counted shows by the clock only, which other programs disturb
        runs = steadied(ctx, runs, lambda r: r[-1].cost_s < 20 and time_growth(r) > SUPERLINEAR)
        growth = time_growth(runs)
        if growth > SUPERLINEAR and runs[-1].cost_s > 0.4:  # below that the clock decides, not the model
            make = error if growth > (QUADRATIC if work is None else DOUBTLESS) else warning
            yield make(
                f"time grows like length^{growth:.1f}: {runs[-2].cost_s:.2f} s of computing for "
                f"{runs[-2].seconds:.0f} s of audio, {runs[-1].cost_s:.2f} s for {runs[-1].seconds:.0f} s",
                *advice,
            )
    yield info(f"{runs[-1].seconds / max(runs[-1].cost_s, 1e-9):.0f} s of audio per second of computing")


def time_growth(runs: list[Run]) -> float:
    """p in seconds of computing ~ seconds of audio**p, of the two longest runs."""
    return exponent(runs[-2], runs[-1], lambda r: r.cost_s)


def check_memory(ctx: Context) -> Iterator[Finding]:
    """Twenty minutes fit into 16 GB, and memory does not grow faster than the audio."""
    runs = steadied(ctx, long_runs(ctx), lambda r: superlinear(r[-2], r[-1]))
    last, before = runs[-1], runs[-2]
    growth = exponent(before, last, lambda r: r.extra_mb)
    too_fast = superlinear(before, last)
    expected = last.extra_mb / 1e3 * (LONGEST_S / last.seconds) ** (min(growth, 2.0) if too_fast else 1.0)
    advice = "embed units of bounded length, a bounded number at a time, inside get_* (HEAR: 20 minutes within 16 GB)"
    if too_fast:
        yield error(
            f"memory grows like length^{growth:.1f}: {before.extra_mb:.0f} MB for {before.seconds:.0f} s of audio, "
            f"{last.extra_mb:.0f} MB for {last.seconds:.0f} s; 20 minutes would need {expected:.1f} GB",
            advice,
        )
    elif expected > RULE_GB:
        yield error(
            f"{last.extra_mb:.0f} MB for {last.seconds:.0f} s of audio; 20 minutes would need {expected:.1f} GB", advice
        )
    elif expected > OURS_GB:
        make = error if ctx.ours else warning
        yield make(
            f"{last.extra_mb:.0f} MB for {last.seconds:.0f} s of audio; 20 minutes would need {expected:.1f} GB",
            f"below {OURS_GB:g} GB" + (", as this zoo promises" if ctx.ours else ""),
        )


def check_drift(ctx: Context) -> Iterator[Finding]:
    """Times stay true over long audio: at the end of 10 minutes, and for a burst near the end of 2 minutes."""
    runs = long_runs(ctx)
    # what is missing at the end of short clips is the framing; only what is added to it is drift
    framing = max([duration - float(times[0, -1]) for duration, times in standard_times(ctx)] + [0.0])
    for r in runs:
        hop = hop_ms(r.times)
        if hop is None:
            yield info("one timestamp for the whole recording: drift cannot be measured")
            return
        duration = 1000.0 * r.n_samples / ctx.rate
        missing = duration - float(r.times[-1])
        if missing < -ROUNDING_MS - duration * 2**-23 or missing > framing + max(hop, LARGE_HOP_MS):
            yield error(
                f"at the end of {r.seconds:.0f} s the last timestamp is {abs(missing):.0f} ms "
                f"{'past' if missing < 0 else 'before'} the end, at the end of short clips at most {framing:.0f} ms "
                "before it: the labelled hop is not the real one",
                "the real hop: samples per step / sample rate, in float64",
                "hop_ms = 1000.0 * hop_samples / sample_rate   # 801 samples at 16 kHz are 50.0625 ms",
            )
            return
    middle = runs[1]
    found, early = burst_in_the_middle(ctx, MIDDLE_S)
    _, late = with_burst(ctx, recording(ctx, MIDDLE_S), MIDDLE_S - 5.0)
    other, times = found.result
    if other.shape[1:] != middle.embeddings.shape:
        return
    # both recordings hold the burst once, so statistics of the whole clip cancel
    change = other[0].double() - middle.embeddings.double()
    row = times[0].double()
    for burst, half in ((early, row < (early + late) / 2), (late, row >= (early + late) / 2)):
        if not bool(change[half].any()):
            continue
        answer = min(views(change[half], row[half], burst), key=lambda view: abs(view.error))
        hop = hop_ms(row) or 0.0
        tolerance = max(hop, 0.1 * answer.width)
        if abs(answer.error) > tolerance:
            yield error(
                f"a burst at {burst / 1000:.2f} s of {MIDDLE_S} s shows at {answer.centroid / 1000:.2f} s "
                f"(hop {hop:.1f} ms, tolerance {tolerance:.0f} ms)",
                "timestamps that are true to the end: an error of 1/800 in the hop is 150 ms after two minutes",
                "hop_ms = 1000.0 * hop_samples / sample_rate",
            )
            return
    reason = why_not(ctx, LONG_S)
    if reason:
        yield info(f"10 minutes were not tried: {reason}")
