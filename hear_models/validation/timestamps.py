"""Checks of the times: finite, regular, equal for all clips, inside the clip and covering it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hear_models.validation.context import Context, as_cpu_tensor, error, info, warning
from hear_models.validation.contract import standard_timestamps
from hear_models.validation.findings import SEVERITIES, Finding

LARGE_HOP_MS = 50.0  # the onset tolerance of HEAR's music transcription
IRREGULAR_MS = 1.0  # hear-validator 2021.0.6; 2021.0.2 wants 0.001
UNEVEN_MS = 0.01
MANY_HOPS = 5  # more than a dropped edge
ROUNDING_MS = 1e-3  # a time of 4000 ms has a resolution of 0.0002 ms in float32


def hop_ms(times: Tensor) -> float | None:
    """Mean spacing of times [steps] in ms, float64; None for a single step."""
    if times.shape[0] < 2:
        return None
    return float(times[-1].double() - times[0].double()) / (times.shape[0] - 1)


def standard_times(ctx: Context) -> list[tuple[float, Tensor]]:
    """(duration in ms, times [clips, steps] as float64) of hear-validator's three lengths."""
    return [(1000.0 * n / ctx.rate, as_cpu_tensor(returned[1]).double()) for n, returned in standard_timestamps(ctx)]


def check_finite_times(ctx: Context) -> Iterator[Finding]:
    """No NaN among the times."""
    for duration, times in standard_times(ctx):
        if not bool(torch.isfinite(times).all()):
            yield error(
                f"timestamps of a clip of {duration:.0f} ms hold NaN or infinity",
                "milliseconds, finite",
                "timestamps = (hop_ms * torch.arange(steps)).expand(audio.shape[0], -1)",
            )
            return


def check_regular(ctx: Context) -> Iterator[Finding]:
    """Strictly increasing, evenly spaced, equal for all clips; a hop of 50 ms at most is recommended."""
    hops = []
    for duration, times in standard_times(ctx):
        clip = f"a clip of {duration:.0f} ms"
        if bool((times != times[:1]).any()):
            yield error(
                f"two clips of one length got different timestamps ({clip})",
                "every row equal: times depend on the length only",
                "timestamps = row.expand(audio.shape[0], -1)",
            )
            return
        steps = times[0].diff()
        if not steps.numel():
            continue
        if bool((steps <= 0).any()):
            k = int((steps <= 0).nonzero()[0])
            yield error(
                f"timestamps do not increase: {times[0, k]:.3f} ms is followed by {times[0, k + 1]:.3f} ms ({clip})",
                "strictly increasing times",
                "timestamps = (hop_ms * torch.arange(steps)).expand(audio.shape[0], -1)",
            )
            return
        mean = float(steps.mean())
        hops.append(mean)
        off = (steps - mean).abs()
        k, largest = int(off.argmax()), float(off.max())
        if largest > UNEVEN_MS:
            make = error if largest > IRREGULAR_MS else warning
            yield make(
                f"timestamps are not evenly spaced: step {k} is {float(steps[k]):.4f} ms long, the mean {mean:.4f} ms "
                f"({clip})",
                f"an exact arithmetic progression, computed in float64 and cast last (error above {IRREGULAR_MS:g} ms)",
                "(offset_ms + hop_ms * torch.arange(steps, dtype=torch.float64)).float().expand(audio.shape[0], -1)",
            )
            return
    if hops and max(hops) > LARGE_HOP_MS + ROUNDING_MS:
        yield warning(
            f"the hop is {max(hops):.2f} ms",
            "at most 50 ms is recommended: music transcription is scored with a tolerance of 50 ms",
        )


def check_range(ctx: Context) -> Iterator[Finding]:
    """In milliseconds, from near 0 to near the end, never past it; a single timestamp counts too."""
    found = [range_finding(duration, times[0]) for duration, times in standard_times(ctx)]
    for severity in reversed(SEVERITIES):  # the worst one is enough
        worst = [finding for finding in found if finding is not None and finding.severity == severity]
        if worst:
            yield worst[-1]
            return


def range_finding(duration_ms: float, times: Tensor) -> Finding | None:
    """The worst thing to say about times [steps] (float64, ms) of a clip of `duration_ms`, or None."""
    first, last = float(times.min()), float(times.max())
    hop = hop_ms(times)
    clip = f"a clip of {duration_ms:.0f} ms"
    if duration_ms > 500 and 0 < last < 0.01 * duration_ms and (hop is None or hop < 1):
        return error(
            f"timestamps run from {first:.4g} to {last:.4g} for {clip}: these look like seconds",
            "milliseconds",
            "timestamps = 1000.0 * seconds",
        )
    if first < 0:
        return error(f"the first timestamp is {first:.2f} ms ({clip})", "0 or later: the centre of the first window")
    if last > duration_ms + ROUNDING_MS:
        return error(
            f"the last timestamp is {last:.2f} ms, past the end of {clip}",
            "times inside the clip: the evaluation kit looks up the events that are active at each time",
            "end_ms = 1000 * audio.shape[1] / model.sample_rate; keep = timestamps[0] <= end_ms; keep[0] = True; "
            "return embeddings[:, keep], timestamps[:, keep].clamp(max=end_ms)",
        )
    if hop is None:
        if duration_ms > 1000:
            return warning(
                f"one timestamp for {clip}", f"a step every {LARGE_HOP_MS:g} ms or so; event tasks cannot be scored"
            )
        return None
    # Beyond one hop costs score (hear-validator warns); beyond two, a part of the clip is not described at all.
    allowed, lost = max(hop, LARGE_HOP_MS), 2 * max(hop, LARGE_HOP_MS)
    edges = ((duration_ms - last, "last", "end"), (first, "first", "start"))
    for gap, where, edge in edges:
        if gap > lost + ROUNDING_MS:
            return error(
                f"no timestamp in the {where} {gap:.1f} ms of {clip}; the hop is {hop:.1f} ms",
                f"one within a hop ({allowed:.0f} ms) of the {edge}",
                "pad half a window on both sides: step k is then centred on k * hop"
                if gap < MANY_HOPS * allowed
                else "embed all of the audio, a part at a time if it is long; not audio[:, :limit]",
            )
    for gap, where, edge in edges:
        # hear-validator: the end by the hop and by 50 ms, the start by the hop
        if gap > (min(hop, LARGE_HOP_MS) if edge == "end" else hop) + ROUNDING_MS:
            return warning(
                f"no timestamp in the {where} {gap:.1f} ms of {clip}; the hop is {hop:.1f} ms: was the edge dropped?",
                f"one within a hop of the {edge}",
                "pad half a window on both sides: step k is then centred on k * hop",
            )
    return None


def check_padding(ctx: Context) -> Iterator[Finding]:
    """How much appended silence changes the scene embedding: a property to know, not a fault."""
    n = ctx.samples(2.0)
    audio = ctx.tone(n) + ctx.noise(n, seed=5, level=0.05)
    padded = torch.cat([audio, ctx.silence(ctx.samples(1.0))], dim=1)
    before, after = ctx.scene(audio), ctx.scene(padded)
    change = float((after - before).norm() / before.norm().clamp_min(1e-30))
    if change > 1e-3:
        yield info(f"one second of silence behind two seconds of sound changes the scene embedding by {change:.0%}")
