"""Checks that the scene embedding of a long clip describes all of it: a change early, late or between must show."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from hear_models.validation.context import Context, error, relative_change
from hear_models.validation.findings import Finding

QUICK_S, NORMAL_S, LONG_S = 33.0, 130.0, 610.0  # beyond crops of 3, 10 and 30 s, of 2 minutes, of 10
CHANGED_S = 2.0
CHUNKS_S = (0.05, 0.002)  # samples are sorted within them: a buzz of 20 Hz, then one of 500 Hz
UNCHANGED = 1e-5  # relative; a mean over all of the clip moves by a hundredth or more


def reordered(audio: Tensor, start: int, end: int, rate: int) -> Tensor:
    """The same samples in another order between `start` and `end`: another sound, the clip's statistics stay."""
    changed = audio.clone()
    middle = (start + end) // 2
    for (a, b), seconds in zip(((start, middle), (middle, end)), CHUNKS_S, strict=True):
        chunk = max(2, int(seconds * rate))
        b = a + (b - a) // chunk * chunk
        changed[:, a:b] = audio[:, a:b].reshape(len(audio), -1, chunk).sort(dim=2).values.reshape(len(audio), -1)
    return changed


def check_whole_clip(ctx: Context) -> Iterator[Finding]:
    """Scenes of clips longer than any crop: repeatable, and moved by what lies at the start, at the end and between."""
    lengths = {"quick": (QUICK_S,), "normal": (QUICK_S, NORMAL_S), "long": (QUICK_S, NORMAL_S, LONG_S)}[ctx.length]
    for seconds in lengths:
        found = _look_at(ctx, seconds)
        if found is not None:
            yield found
            return


def _look_at(ctx: Context, seconds: float) -> Finding | None:
    n, part = ctx.samples(seconds), ctx.samples(CHANGED_S)
    audio = ctx.noise(n, seed=95, level=0.2)
    scene = ctx.scene(audio)
    places = {"last": (n - part, n), "first": (0, part), "middle": ((n - part) // 2, (n + part) // 2)}
    still = [name for name, place in places.items() if not _moves(ctx, audio, scene, place)]
    if still:
        return error(
            f"the scene embedding of a clip of {seconds:.0f} s stays the same whatever its {' and '.join(still)} "
            f"{CHANGED_S:.0f} s hold{_heard(ctx, audio, scene, still)}",
            "an embedding of the whole clip, however long it is: what is cut off is scored all the same",
            "torch.stack([embed(part) for part in audio.split(window, dim=1)]).mean(dim=0)   # not audio[:, :window]",
        )
    if difference := ctx.difference(ctx.scene(audio), scene):
        return error(
            f"one clip of {seconds:.0f} s embedded twice gives two scenes: {difference}",
            "equal embeddings; is a part of long clips chosen at random?",
            "embed all parts, or always the same ones",
        )
    return None


def _moves(ctx: Context, audio: Tensor, scene: Tensor, place: tuple[int, int]) -> bool:
    other = ctx.scene(reordered(audio, *place, ctx.rate))
    return other.shape != scene.shape or not relative_change(other, scene) <= UNCHANGED


def _heard(ctx: Context, audio: Tensor, scene: Tensor, still: list[str]) -> str:
    """Up to where a clip is heard whose end is not, in words: found by halving."""
    if "last" not in still or "first" in still:
        return ""
    low, high = 0, audio.shape[1]
    while high - low > ctx.rate:
        middle = (low + high) // 2
        if _moves(ctx, audio, scene, (middle, high)):
            low = middle
        else:
            high = middle
    return f": only about its first {round(high / ctx.rate)} s are heard"
