"""Measures the learnable front ends filtering in the frequency domain against direct convolution, in the same run.

    python benchmarks/frontends.py                                LEAF and SincNet, 0.96 s and 10 s, one clip
    python benchmarks/frontends.py --seconds 0.96 --clips 16 --filters 40
    python benchmarks/frontends.py --crossover                    where a clip or a filter is too short to gain
    python benchmarks/frontends.py --learning --clips 32          LEAF's gradient, filtering again against autograd

A row: milliseconds of a forward pass of the whole front end (median of the turns, both domains in turn), how many
times faster the frequency domain is, then the same for a forward and a backward pass; with `--learning` a forward and
a backward pass of LEAF, with autograd keeping all responses and with a gradient that filters again. Speed does not
depend on what the parameters are. Exit status: 0 measured, 2 wrong use.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from common import machine

from hear_models.frontends import Leaf, SincNet
from hear_models.frontends.pooled_filters import PooledFilters

FRONT_ENDS: dict[str, type[Leaf] | type[SincNet]] = {"leaf": Leaf, "sincnet": SincNet}
DOMAINS = ("time", "frequency")


def medians(works: list[Callable[[], Any]], turns: int) -> list[float]:
    """Milliseconds of each work, median of the turns after one that is not counted; the works take turns."""
    times: list[list[float]] = [[] for _ in works]
    for turn in range(turns + 1):
        for work, taken in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            if turn:
                taken.append(1000 * (time.perf_counter() - start))
    return [statistics.median(taken) for taken in times]


def row(name: str, samples: int, clips: int, filters: int, window: int, turns: int) -> str:
    """A line of the table."""
    audio = 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(0))
    models = [FRONT_ENDS[name](filters, window, domain=domain) for domain in DOMAINS]

    def forward(model: torch.nn.Module) -> None:
        with torch.inference_mode():
            model(audio)

    def train(model: torch.nn.Module) -> None:
        model(audio).sum().backward()

    cells = []
    for work in (forward, train):
        direct, frequency = medians([lambda m=m, w=work: w(m) for m in models], turns)
        cells += [f"{direct:.1f}", f"{frequency:.1f}", f"{direct / frequency:.1f}"]
    return f"| {name} | {samples} | {clips} | {filters} x {window} | {' | '.join(cells)} |"


def learning(samples: int, clips: int, filters: int, turns: int) -> str:
    """A line of the table of `--learning`."""
    audio = 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(0))
    model = Leaf(filters)

    def train(pooled: Callable[[Leaf, torch.Tensor], torch.Tensor]) -> None:
        model.compress(pooled(model, audio)).sum().backward()

    kept, again = medians([lambda p=p: train(p) for p in (PooledFilters.pooled, Leaf.pooled)], turns)
    return f"| {samples} | {clips} | {filters} | {kept:.0f} | {again:.0f} | {kept / again:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.96, 10.0], help="lengths of the clips")
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--crossover", action="store_true", help="short clips and short filters instead")
    parser.add_argument("--learning", action="store_true", help="LEAF's gradient instead")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(machine())
    if args.learning:
        print("\n| samples | clips | filters | responses kept, ms | filtered again, ms | ratio |\n" + "|---" * 6 + "|")
        for seconds in args.seconds:
            print(learning(int(16_000 * seconds), args.clips, args.filters, args.turns), flush=True)
        return
    print("\n| front end | samples | clips | filters | direct, ms | frequency, ms | ratio | ", end="")
    print("trained: direct | frequency | ratio |\n|---|---|---|---|---|---|---|---|---|---|")
    sizes = [(int(16_000 * seconds), 401) for seconds in args.seconds]
    if args.crossover:
        sizes = [(n, 401) for n in (1, 100, 200, 400, 800, 1600)] + [(15_360, taps) for taps in (25, 51, 101, 201)]
    for name in FRONT_ENDS:
        for samples, window in sizes:
            print(row(name, samples, args.clips, args.filters, window, args.turns), flush=True)


if __name__ == "__main__":
    main()
