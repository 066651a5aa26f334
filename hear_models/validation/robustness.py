"""Checks that a clip's embedding depends on the clip alone: neighbours, lengths, silence, bad input, collapse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from hear_models.errors import HearModelsError
from hear_models.pipeline.model import HearModel
from hear_models.subjects.module import ModuleFault
from hear_models.subjects.wording import describe
from hear_models.validation.context import Context, error, info, relative_change, warning
from hear_models.validation.findings import Finding
from hear_models.validation.timestamps import range_finding


def neighbours(ctx: Context) -> Tensor:
    """Loud noise, quiet noise, and a tone, [3, samples of 2.3 s]."""
    n = ctx.samples(2.3)
    return torch.cat([ctx.noise(n, seed=20), ctx.noise(n, seed=21, level=0.003), ctx.tone(n)])


def check_batch(ctx: Context) -> Iterator[Finding]:
    """A clip alone, in a batch, and at another position of it, beside loud and quiet ones: one embedding."""
    clips = neighbours(ctx)
    names = ("loud noise", "quiet noise", "a tone")
    alone = [ctx.both(clip[None]) for clip in clips]
    together = ctx.both(clips)
    reversed_order = ctx.both(clips.flip(0))
    make = warning if getattr(ctx.model, "batch_dependent", False) else error
    for index, name in enumerate(names):
        for function, expected in alone[index].items():
            for where, batch, row in (
                ("in a batch", together, index),
                ("at another position of a batch", reversed_order, len(names) - 1 - index),
            ):
                if batch[function].shape[0] != len(names):
                    yield error(f"{function} of {len(names)} clips returned {batch[function].shape[0]} rows")
                    return
                difference = ctx.difference(batch[function][row : row + 1], expected)
                if difference:
                    yield make(
                        f"{function} of {name} {where} (beside louder or quieter clips) differs from the same clip "
                        f"alone: {difference}",
                        "an embedding of its clip only (rtol 1e-4, atol 1e-5), or scores depend on batches",
                        "mean = x.mean(dim=(1, 2), keepdim=True)  # over one clip, not over dim 0",
                    )
                    return


def check_mixed_lengths(ctx: Context) -> Iterator[Finding]:
    """Our own models: clips of unequal lengths in one call equal each clip alone."""
    model = ctx.model
    if not isinstance(model, HearModel):
        return
    lengths = [1, ctx.samples(0.03), ctx.samples(0.7), ctx.samples(2.0), ctx.samples(5.3), ctx.samples(0.7)]
    clips = [ctx.noise(n, seed=30 + i, level=10.0 ** -(i % 3))[0] for i, n in enumerate(lengths)]
    try:
        scenes, steps = model.embed_clips(clips, "scene"), model.embed_clips(clips, "timestamps")
        backwards = model.embed_clips(clips[::-1], "scene")[::-1]
    except HearModelsError as cause:
        yield error(f"clips of {lengths} samples in one call raised {describe(cause)}", "embeddings of every clip")
        return
    for i, clip in enumerate(clips):
        embeddings, times = ctx.timestamps(clip[None])
        scene = ctx.scene(clip[None])[0]
        for what, got, expected in (
            ("scene embedding", scenes[i], scene),
            ("scene embedding, in reversed order,", backwards[i], scene),
            ("timestamp embeddings", steps[i][0], embeddings[0]),
            ("timestamps", steps[i][1], times[0]),
        ):
            difference = ctx.difference(got.cpu(), expected)
            if difference:
                yield error(
                    f"the {what} of a clip of {clip.shape[0]} samples among clips of other lengths differs "
                    f"from the clip alone: {difference}",
                    "clips of any lengths share a call without touching each other",
                )
                return


def check_silent_neighbour(ctx: Context) -> Iterator[Finding]:
    """One silent clip in a batch spoils nothing: its own embedding is finite, the others are as alone."""
    n = ctx.samples(1.5)
    noise = ctx.noise(n, seed=22)
    batch = torch.cat([ctx.silence(n), noise])
    alone = ctx.both(noise)
    make = warning if getattr(ctx.model, "batch_dependent", False) else error
    for function, embeddings in ctx.both(batch).items():
        rows = [bool(torch.isfinite(row).all()) for row in embeddings]
        if len(rows) != len(batch):
            return  # said by the check of batches
        if difference := ctx.difference(embeddings[1:], alone[function]) if rows[1] else "":
            yield make(
                f"{function} of noise beside a silent clip differs from the same noise alone: {difference}",
                "an embedding of its clip only",
                "x / (std + eps), each clip by its own std",
            )
            return
        silence_told = rows[1] and "finite" in ctx.failed  # alone it is no better
        if not all(rows) and not silence_told:
            which = " and ".join(
                name for name, good in zip(("the silent clip", "its neighbour"), rows, strict=True) if not good
            )
            yield error(
                f"{function} of a batch of silence and noise holds NaN or infinity for {which}",
                "finite embeddings",
                "x / (std + eps), each clip by its own std",
            )
            return


def short_lengths(ctx: Context) -> list[int]:
    """1 sample, around 10, 25 and 100 ms, and around one unit (for others than ours: 1 s and 2 s)."""
    lengths = {1, 2, ctx.samples(0.01), ctx.samples(0.025) - 1, ctx.samples(0.025), ctx.samples(0.1)}
    for unit in unit_lengths(ctx):
        lengths |= {unit - 1, unit, unit + 1}
    return sorted(n for n in lengths if n > 0)


def unit_lengths(ctx: Context) -> list[int]:
    """The longest clip, in samples, that fits one unit of a model of ours; 1 s and 2 s for others."""
    model = ctx.model
    if isinstance(model, HearModel):
        low, high = 1, ctx.samples(60.0)
        if len(model.plan(high, "timestamps").units) > 1:
            while high - low > 1:  # the number of units grows with the length, so halving finds the edge
                middle = (low + high) // 2
                low, high = (low, middle) if len(model.plan(middle, "timestamps").units) > 1 else (middle, high)
            return [low]
    return [ctx.rate, 2 * ctx.rate]


def check_short_clips(ctx: Context) -> Iterator[Finding]:
    """Clips from one sample on, and around one unit, give finite embeddings of the right shape."""
    failures: list[tuple[int, str]] = []
    for n in short_lengths(ctx):
        try:
            problem = short_problem(ctx, n)
        except ModuleFault as fault:
            problem = str(fault)
        if problem:
            failures.append((n, problem))
    if failures:
        lengths = ", ".join(f"{n} ({1000 * n / ctx.rate:.4g} ms)" for n, _ in failures)
        yield error(
            f"clips of {lengths} samples fail; the first: {failures[0][1]}",
            "any length from one sample on: recordings are sometimes that short",
            "end_ms = 1000 * audio.shape[1] / model.sample_rate; "
            "audio = torch.nn.functional.pad(audio, (0, max(0, window - audio.shape[1]))); ...; "
            "keep = timestamps[0] <= end_ms; keep[0] = True; "
            "return embeddings[:, keep], timestamps[:, keep].clamp(max=end_ms)",
        )


def short_problem(ctx: Context, n: int) -> str:
    """What is wrong with the embeddings of a clip of `n` samples; "" if nothing."""
    audio = ctx.noise(n, seed=40, clips=2)
    scene = ctx.scene(audio)
    if list(scene.shape) != [2, ctx.model.scene_embedding_size]:
        return f"scene embeddings of two clips have shape {list(scene.shape)}"
    embeddings, times = ctx.timestamps(audio)
    if embeddings.ndim != 3 or embeddings.shape[:2] != times.shape or embeddings.shape[0] != 2 or not times.shape[1]:
        return f"timestamp embeddings of two clips have shape {list(embeddings.shape)}, timestamps {list(times.shape)}"
    times_failed = bool(ctx.failed & {"times-finite", "times-regular", "times-range"})  # said already, for longer clips
    for values, what in ((scene, "scene embeddings"), (embeddings, "timestamp embeddings"), (times, "timestamps")):
        if not bool(torch.isfinite(values).all()) and not (times_failed and what == "timestamps"):
            return f"{what} hold NaN or infinity"
    if times_failed:
        return ""
    finding = range_finding(1000.0 * n / ctx.rate, times[0].double())
    return finding.found if finding is not None and finding.severity == "error" else ""


def attempt(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """(result, None), or (None, the exception that the module raised)."""
    try:
        return call(), None
    except ModuleFault as fault:
        return None, fault.__cause__ or fault


def check_refusals(ctx: Context) -> Iterator[Finding]:
    """Input that is no batch of mono float clips raises ValueError instead of giving numbers."""
    n = ctx.samples(1.2)
    audio = ctx.noise(n, seed=50, clips=2)
    bad = {
        "1-D audio [samples]": (audio[0], error),
        "3-D audio [clips, channels, samples]": (audio[:, None].repeat(1, 2, 1), error),
        # the API does not say what becomes of these
        "int16 audio": ((audio * 32767).to(torch.int16), warning),
        "clips without samples [2, 0]": (audio[:, :0], warning),
    }
    for what, (value, make) in bad.items():
        for function, call in ctx.module.embedding_calls:
            # the input is copied: a module may write into it
            _, cause = attempt(lambda call=call, value=value: call(value.clone()))  # type: ignore[misc]
            if cause is None:
                yield make(
                    f"{function} accepts {what} silently",
                    "a ValueError that says what was expected",
                    "if audio.ndim != 2 or not audio.is_floating_point(): raise ValueError(...)",
                )
            elif not isinstance(cause, ValueError):
                yield warning(
                    f"{function} refuses {what} with {describe(cause)}",
                    "a ValueError that says what was expected",
                    "if audio.ndim != 2 or not audio.is_floating_point(): raise ValueError(...)",
                )
            else:
                continue
            break  # one finding for each kind of input


def check_nan_input(ctx: Context) -> Iterator[Finding]:
    """NaN or infinity in a recording is refused, or at least stays within its clip."""
    n = ctx.samples(1.2)
    for value, name in ((float("nan"), "NaN"), (float("inf"), "infinity")):
        audio = ctx.noise(n, seed=51, clips=2)
        clean = ctx.scene(audio[1:])
        audio[0, n // 2] = value
        result, cause = attempt(lambda audio=audio: ctx.scene(audio))  # type: ignore[misc]
        if cause is not None:
            if ctx.ours and not isinstance(cause, ValueError):
                yield error(f"audio with {name} raised {describe(cause)}", "an InputError naming the clip")
            continue
        if ctx.ours:
            yield error(f"audio with {name} is accepted", "an InputError naming the clip")
        elif ctx.difference(result[1:], clean):
            yield error(
                f"{name} in one clip changes the embedding of its neighbour",
                "a ValueError; or NaN for the broken clip only",
                "if not torch.isfinite(audio).all(): raise ValueError(...)",
            )
        else:
            yield warning(
                f"audio with {name} is accepted silently",
                "a ValueError: one broken recording makes a probe's loss NaN hours later",
                "if not torch.isfinite(audio).all(): raise ValueError(...)",
            )
            return


def check_different_sounds(ctx: Context) -> Iterator[Finding]:
    """Different sounds have different embeddings, and the embeddings of a changing sound change over time."""
    n = ctx.samples(3.0)
    noise, tone = ctx.noise(n, seed=60, level=0.5), ctx.tone(n)
    if list(ctx.scene(noise).shape) == list(ctx.scene(tone).shape):
        change = relative_change(ctx.scene(noise), ctx.scene(tone))
        if change < 1e-4:
            yield error(
                f"white noise and a tone have the same scene embedding (relative difference {change:.1g})",
                "different embeddings; is the network collapsed, or are its weights not used?",
            )
    half = torch.cat([noise[:, : n // 2], tone[:, n // 2 :]], dim=1)
    embeddings, _ = ctx.timestamps(half)
    if embeddings.shape[1] < 2:
        return
    steps = embeddings[0].double()
    spread = float((steps - steps.mean(dim=0)).norm() / steps.norm().clamp_min(1e-30))
    if spread < 1e-4:
        yield error(
            f"timestamp embeddings do not change over time, from noise to a tone (relative spread {spread:.1g})",
            "embeddings that follow the sound",
        )
    still = float((steps.std(dim=0) < 1e-6 * steps.abs().max()).double().mean())
    if spread >= 1e-4 and still > 0.5:
        yield info(f"{still:.0%} of the dimensions are constant over noise and a tone")
