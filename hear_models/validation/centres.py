"""Checks that an embedding describes the audio at its timestamp: a burst of noise must show where it was put."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hear_models.validation.context import Context, error, info, warning
from hear_models.validation.findings import Finding
from hear_models.validation.timestamps import hop_ms, standard_times

CLIP_SECONDS = 12.0
LONGEST_BURST_MS, SHORTEST_BURST_MS = 40.0, 5.0
# nine places that fall on different parts of units of 1, 2 and 10 s; never two closer than 1.2 s
POSITIONS = tuple(0.8 + 1.237 * k for k in range(9))
BACKGROUND, BURST = 0.02, 0.5
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)


@dataclass(frozen=True)
class Response:
    """Where the embeddings of one clip answer to its burst; all in ms."""

    burst: float  # centre of the burst
    centroid: float  # of the change above half its maximum
    width: float  # from the first to the last step that changes by at least 1 % of the maximum (in energy), plus a hop

    @property
    def error(self) -> float:
        """How much too late the timestamps show the burst; negative: too early."""
        return self.centroid - self.burst


def burst_ms(ctx: Context) -> float:
    """Length of the burst: one hop, so that the burst's own length does not decide; from 5 to 40 ms."""
    hops = [hop_ms(times[0]) for _, times in standard_times(ctx)]
    return min(LONGEST_BURST_MS, max(SHORTEST_BURST_MS, hops[-1] or LONGEST_BURST_MS))


def with_burst(ctx: Context, background: Tensor, seconds: float) -> tuple[Tensor, float]:
    """`background` [1, samples] plus a burst of noise centred at `seconds`; and the true centre in ms."""
    n = ctx.samples(burst_ms(ctx) / 1000)
    start = int(seconds * ctx.rate) - n // 2
    burst = ctx.noise(n, seed=77, level=BURST) * torch.hann_window(n, periodic=False, device=ctx.device)
    audio = background.clone()
    audio[:, start : start + n] += burst
    return audio, 1000.0 * (start + (n - 1) / 2) / ctx.rate


def locate(change: Tensor, times: Tensor, burst: float) -> Response:
    """Locate the answer in `change` (squared change of each step, [steps]) at `times` [steps] in ms.

    The weight of a step is what it changes by beyond half of the largest change. A transformer whose units are 2 s
    long answers a little in every step of the unit; a centroid over all of it would lie near the middle of the unit,
    wherever the burst was. The half-maximum keeps the peak only. The width counts all of it.
    """
    weights = (change - change.max() / 2).clamp_min(0)
    centroid = float((weights * times).sum() / weights.sum())
    answering = times[change >= 0.01 * change.max()]
    return Response(burst, centroid, float(answering.max() - answering.min()) + (hop_ms(times) or 0.0))


def two_views(change: Tensor, times: Tensor, burst: float) -> tuple[Response, Response]:
    """The answer in `change` [steps, dim] as it is, and without what all steps of a wide answer have in common.

    In a network that spreads a summary of its unit over all steps, the common part can exceed the local one, and only
    the second view finds the place. In a network with one long window the common part is the answer, and only the
    first one does. A wrong time axis is wrong in both.
    """
    plain = locate(change.square().sum(dim=1), times, burst)
    energy = change.square().sum(dim=1)
    wide = energy >= 0.01 * energy.max()
    if int(wide.sum()) < 5:
        return plain, plain
    local = torch.where(wide[:, None], change - change[wide].median(dim=0).values, torch.zeros_like(change))
    energy = local.square().sum(dim=1)
    if float(energy.max()) <= 0:
        return plain, plain
    return plain, replace(locate(energy, times, burst), width=plain.width)


def middle(change: Tensor, times: Tensor, burst: float) -> Response:
    """The middle of the steps that answer in `change` [steps, dim], however much: at least 10 % of the maximum.

    A convolutional network over one window answers with a box as long as the window, whose height is ragged because
    strides see the burst in one phase better than in another: its peaks are anywhere, its middle is the place.
    """
    energy = change.square().sum(dim=1)
    answering = times[energy >= 0.1 * energy.max()]
    return replace(locate(energy, times, burst), centroid=float(answering.max() + answering.min()) / 2)


def views(change: Tensor, times: Tensor, burst: float) -> tuple[Response, ...]:
    """All ways to find the place of the answer in `change` [steps, dim]; a wrong time axis is wrong in each of them."""
    return (*two_views(change, times, burst), middle(change, times, burst))


def responses(ctx: Context) -> tuple[float, list[Response]] | None:
    """Hop in ms and the response to a burst at each of `POSITIONS`; None when a clip has fewer than four steps.

    All clips have the same background and the same burst, at different places: statistics of the whole clip
    (normalisation) are equal in all of them, and the change at a step is measured from the median over the clips, most
    of which have nothing there. So a level shift of the whole clip cancels, and only the place matters.
    """

    def run() -> tuple[float, list[Response]] | None:
        background = ctx.noise(ctx.samples(CLIP_SECONDS), seed=70, level=BACKGROUND)
        embeddings, bursts = [], []
        for seconds in POSITIONS:
            audio, burst = with_burst(ctx, background, seconds)
            steps, times = ctx.timestamps(audio)
            embeddings.append(steps[0].double())
            bursts.append(burst)
        row = times[0].double()
        hop = hop_ms(row)
        if hop is None or row.shape[0] < 4:
            return None
        stacked = torch.stack(embeddings)  # [clips, steps, dim]
        change = stacked - stacked.median(dim=0).values
        seen = [i for i in range(len(bursts)) if bool(change[i].any())]
        ways = zip(*(views(change[i], row, bursts[i]) for i in seen), strict=True)
        return hop, min(map(list, ways), key=lambda view: np.median([abs(r.error) for r in view]), default=[])

    return ctx.shared("burst responses", run)


def check_centres(ctx: Context) -> Iterator[Finding]:
    """The centroid of the answer lies within max(hop, 10 % of the answer's width) of the burst, at nine positions."""
    found = responses(ctx)
    if found is None:
        yield info("fewer than four timestamps in 12 s: whether they are centres cannot be measured")
        return
    hop, answers = found
    if not answers:
        yield error("a burst of noise changes no timestamp embedding", "the step at its time changes most")
        return
    if len(answers) < len(POSITIONS):
        yield warning(
            f"{len(POSITIONS) - len(answers)} of {len(POSITIONS)} bursts of {burst_ms(ctx):.0f} ms change "
            f"nothing: they fall between the windows (hop {hop:.1f} ms)",
            "windows at least as long as the hop, so that no event is missed",
        )
    errors = np.array([answer.error for answer in answers])
    places = np.array([answer.burst for answer in answers])
    width = float(np.median([answer.width for answer in answers]))
    tolerance = max(hop, 0.1 * width)
    outside = np.abs(errors) > tolerance
    systematic = float(np.median(errors))
    measured = f"answer {width:.0f} ms wide, hop {hop:.1f} ms, tolerance {tolerance:.0f} ms"
    worst = int(np.abs(errors).argmax())
    if outside.sum() > len(answers) // 3 or np.median(np.abs(errors)) > tolerance:
        yield error(
            f"{explain(places, errors)}; for instance a burst at {places[worst]:.0f} ms shows at "
            f"{places[worst] + errors[worst]:.0f} ms ({measured})",
            "each timestamp is the centre of the audio that its embedding describes",
            "with half a window of padding on both sides, step k is centred on k * hop",
        )
    elif abs(systematic) > hop:
        yield warning(
            f"timestamps show events {abs(systematic):.0f} ms too {'late' if systematic > 0 else 'early'} ({measured})",
            "centres within one hop",
        )


def explain(places: np.ndarray, errors: np.ndarray) -> str:
    """The likeliest mistake behind wrong places, in words."""
    slope, _ = np.polyfit(places, places + errors, 1)
    if slope < -0.5:
        return "the time axis of the embeddings is reversed"
    median = float(np.median(errors))
    if np.median(np.abs(errors - median)) < 0.3 * abs(median):
        way = "late" if median > 0 else "early"
        return f"timestamps show events {abs(median):.0f} ms too {way} at all positions"
    if abs(slope - 1) > 0.02:
        return f"the time axis is stretched by a factor of {slope:.2f}"
    return "embeddings do not change where the sound changed"


def check_seams(ctx: Context) -> Iterator[Finding]:
    """How much an embedding depends on where in the clip (in which chunk, at which edge) its sound is: information."""
    found = responses(ctx)
    if found is None:
        return
    hop, _ = found
    # rotate by a prime number of hops near 0.7 s, so that no chunk length is a divisor; rotation keeps all statistics
    shift = min(PRIMES, key=lambda k: abs(k * hop - 700.0))
    samples = shift * hop * ctx.rate / 1000
    if hop > 1000 or abs(samples - round(samples)) > 0.02 * samples / shift:
        return
    n = ctx.samples(8.0)
    sweep = torch.sin(torch.arange(n, device=ctx.device) / ctx.rate * 2 * torch.pi * 1.7) * 0.5 + 0.5
    audio = (ctx.tone(n) + ctx.noise(n, seed=80, level=0.2)) * sweep
    before, times = ctx.timestamps(audio)
    after, _ = ctx.timestamps(audio.roll(round(samples), dims=1))
    row = times[0].double()
    inner = ((row > 1500) & (row < 5500)).nonzero()[:, 0]
    if inner.numel() < 2 or int(inner[-1]) + shift >= after.shape[1]:
        return
    a, b = before[0, inner].double(), after[0, inner + shift].double()
    spread = float((a - a.mean(dim=0)).square().sum(dim=1).mean().sqrt())
    change = (a - b).square().sum(dim=1).sqrt()
    if (spread > 0 and float(change.median()) / spread > 0.01) or float(change.max()) / max(spread, 1e-30) > 0.1:
        largest = int(change.argmax())
        yield info(
            f"the same sound {shift * hop:.0f} ms later in the clip is embedded differently: by "
            f"{float(change.median()) / spread:.0%} of the spread of the embeddings (median), "
            f"{float(change.max()) / spread:.0%} at {float(row[inner[largest]]):.0f} ms",
            "usual for models with units of fixed length; overlap the chunks where seams matter",
        )
