"""Measures the HEAR windows of LEAF, SincNet and log-mel: shared frames against every window alone, in the same run.

    python benchmarks/leaf_windows.py                      front ends with 64 filters, a clip of 10 s (200 windows)
    python benchmarks/leaf_windows.py --seconds 4 --turns 5 --network

A row: milliseconds of the features of all windows, each window alone (the flow without what the family overrides) and
with shared frames, medians of turns that alternate, and the ratio. `--network` adds rows with EfficientNet-B0 behind
them, whose windows cannot be shared. Speed does not depend on what the parameters are. Exit status: 0 measured, 2 wrong
use.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from common import machine

from hear_models import leaf, logmel_cola, sincnet
from hear_models.pipeline.model import HearModel
from hear_models.pipeline.plan import Plan


def alternating(works: list[Callable[[], object]], turns: int) -> list[float]:
    """Milliseconds of each work, median of the turns after one that is not counted; the works take turns."""
    times: list[list[float]] = [[] for _ in works]
    for turn in range(turns + 1):
        for work, taken in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            if turn:
                taken.append(1000 * (time.perf_counter() - start))
    return [statistics.median(taken) for taken in times]


def batches(units: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    """16 units at a time, as the flow stacks them for a pass."""
    while some := list(itertools.islice(units, 16)):
        yield torch.stack(some)


def alone(embed: bool, model: logmel_cola.Model, clip: torch.Tensor, plan: Plan) -> None:
    """Every window by itself, 16 in a pass."""
    with torch.inference_mode():
        for windows in batches(HearModel.units(model, clip, plan)):
            features = model.window_features(windows)
            if embed:
                model.encode(features)


def shared(embed: bool, model: logmel_cola.Model, clip: torch.Tensor, plan: Plan) -> None:
    """As the HEAR functions do it."""
    with torch.inference_mode():
        for features in batches(model.units(clip, plan)):
            if embed:
                model.encode(features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--network", action="store_true", help="also whole embeddings, with EfficientNet-B0")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(machine())
    print("\n| family | what | windows | each alone, ms | shared, ms | ratio |\n|---|---|---|---|---|---|")
    for family in (leaf, sincnet, logmel_cola):
        model = family.Model(family.Config()).eval()
        clip = 0.1 * torch.randn(int(16_000 * args.seconds), generator=torch.Generator().manual_seed(0))
        plan = model.plan(len(clip), "timestamps")

        for embed in (False, True) if args.network else (False,):
            one, other = alternating(
                [lambda w=w, a=(embed, model, clip, plan): w(*a) for w in (alone, shared)], args.turns
            )
            what = "embeddings" if embed else "features"
            name = model.family
            print(f"| {name} | {what} | {len(plan.units)} | {one:.0f} | {other:.0f} | {one / other:.1f} |", flush=True)


if __name__ == "__main__":
    main()
