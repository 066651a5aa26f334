"""Measures the selective scan against the sequential reference, alone or in whole networks, in turn in one process.

    python benchmarks/selective_scan.py                               10 s clips, as 6 units of 251 tokens each
    python benchmarks/selective_scan.py --dim 576 2304 --batch 1 8 --threads 1 --json scan.json
    python benchmarks/selective_scan.py --network tiny base --repeats 3    scene embeddings by SSAM, random weights

The reference is the formula written down: all decays and inputs at once, then a step after the other, and autograd
through it. Ratios are its time over the backend's; medians over --repeats turns. "wall" is what a user waits,
"CPU" the seconds of all threads: on a machine that others use too, the second tells more. Both passes, forward and
backward, are measured on one item of the batch at a time of `--backward-length` steps, for autograd through the
reference makes a tensor of every state of every step for each step: the square of the length.
Exit status: 0 measured.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import machine
from torch import Tensor

from hear_models import audio_mamba
from hear_models.layers.dense import dense
from hear_models.layers.selective_scan import selective_scan

WIDTHS = {"tiny": 192, "small": 384, "base": 768}  # of SSAM's tokens

UNITS, TOKENS, STATES = 6, 251, 24  # a clip of 10 s: 1001 frames in units of 200; 50 x 5 patches and the class token
GIGABYTES = 12  # of the reference's two large tensors; above, it runs over parts of the batch


def problem(units: int, dim: int, tokens: int) -> dict[str, Tensor]:
    """Inputs as a freshly made Mamba block has them: A = -1 ... -24, steps of 0.001 to 0.1."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    steps = torch.empty(dim).uniform_(-6.9, -2.3, generator=generator).exp()
    return {
        "u": normal(units, tokens, dim).transpose(1, 2),  # views, as linear layers leave them
        "delta": 0.1 * normal(units, tokens, dim).transpose(1, 2),
        "A": -torch.arange(1.0, STATES + 1).repeat(dim, 1),
        "B": normal(units, tokens, STATES).transpose(1, 2),
        "C": normal(units, tokens, STATES).transpose(1, 2),
        "D": torch.ones(dim),
        "z": normal(units, tokens, dim).transpose(1, 2),
        "delta_bias": steps + torch.log(-torch.expm1(-steps)),
    }


def forward(arguments: dict[str, Tensor], backend: str) -> None:
    units = len(arguments["u"])
    part = units
    if backend == "reference":
        part = max(1, int(GIGABYTES * 1e9 / (2 * 4 * STATES * arguments["u"][0].numel())))
    with torch.inference_mode():
        for first in range(0, units, part):
            rows = slice(first, first + part)
            selective_scan(
                **{k: x[rows] if x.dim() == 3 else x for k, x in arguments.items()},  # type: ignore[arg-type]
                backend=backend,
            )


def training(arguments: dict[str, Tensor], backend: str) -> None:
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in arguments.items()}
    selective_scan(**leaves, backend=backend).sum().backward()  # type: ignore[arg-type]


def in_turn(works: dict[str, Callable[[], None]], repeats: int) -> dict[str, tuple[float, float]]:
    """Name → medians of wall and CPU seconds."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            cpu, wall = time.process_time(), time.perf_counter()
            work()
            spent = time.perf_counter() - wall, time.process_time() - cpu
            if turn:  # the first warms up, and compiles
                times[name].append(spent)
    return {name: (median(w for w, _ in spent), median(c for _, c in spent)) for name, spent in times.items()}


def embedding(model: audio_mamba.Model, audio: Tensor) -> None:
    model.get_scene_embeddings(audio)


def networks(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Whole networks with the same weights, by what runs their scans; and their matrix products alone."""
    found = []
    for size in args.network:
        config = audio_mamba.Config(width=WIDTHS[size])
        models = {name: audio_mamba.Model(config, scan=name).eval() for name in ("reference", *args.network_backends)}
        for batch in args.batch:
            audio = 0.1 * torch.randn(batch, 160_000, generator=torch.Generator().manual_seed(0))
            works: dict[str, Callable[[], None]] = {n: partial(embedding, m, audio) for n, m in models.items()}
            works["products"] = partial(products, models["reference"], UNITS * batch)
            measured = in_turn(works, args.repeats)
            share = measured["products"][0] / min(w for name, (w, _) in measured.items() if name != "products")
            for name, (wall, cpu) in measured.items():
                ratio = measured["reference"][0] / wall, measured["reference"][1] / cpu
                found.append({"network": size, "batch": batch, "scan": name, "wall_s": wall, "wall_ratio": ratio[0]})
                print(
                    f"| {size} | {batch} | {name} | {wall:.2f} | {ratio[0]:.1f} | {cpu:.2f} | {ratio[1]:.1f} |",
                    flush=True,
                )
            print(f"matrix products alone: {100 * share:.0f} % of the quickest, {size}, batch {batch}", flush=True)
    return found


@torch.inference_mode()
def products(model: audio_mamba.Model, units: int) -> None:
    """The linear layers of every block on so many units, and nothing between them."""
    for block in model.blocks:
        mixer: Any = block.mixer
        x = torch.zeros(units, TOKENS, model.width)
        u = dense(x, mixer.in_proj)[..., : len(mixer.D)]
        dense(dense(u, mixer.x_proj)[..., : mixer.rank], mixer.dt_proj)
        dense(u, mixer.out_proj)


def rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    for kind, work in (("forward", forward), ("forward + backward", training)):
        for dim in args.dim:
            for batch in args.batch:
                if kind == "forward":
                    arguments = problem(UNITS * batch, dim, TOKENS)
                else:
                    arguments = problem(batch, dim, args.backward_length)
                works = {name: partial(work, arguments, name) for name in args.backends}
                measured = in_turn(works, args.repeats)
                reference = measured["reference"]
                for name, (wall, cpu) in measured.items():
                    row = {"pass": kind, "dim": dim, "batch": batch, "backend": name, "wall_s": wall, "cpu_s": cpu}
                    row |= {"wall_ratio": reference[0] / wall, "cpu_ratio": reference[1] / cpu}
                    found.append(row)
                    print(
                        f"| {kind} | {dim} | {batch} | {name} | {wall * 1e3:.1f} | {row['wall_ratio']:.1f} "
                        f"| {cpu * 1e3:.1f} | {row['cpu_ratio']:.1f} |",
                        flush=True,
                    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, nargs="+", default=[576], help="channels; 576 tiny, 1152 small, 2304 base")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="clips of 10 s")
    parser.add_argument("--backends", nargs="+", default=["reference", "torch", "numba"])
    parser.add_argument("--network", nargs="+", choices=list(WIDTHS), help="whole networks instead of the scan alone")
    parser.add_argument("--network-backends", nargs="+", default=["torch", "numba"])
    parser.add_argument("--threads", type=int, help="torch's and the kernels' threads (default: torch's own)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backward-length", type=int, default=TOKENS)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    if "reference" not in args.backends:
        args.backends = ["reference", *args.backends]
    if args.threads:
        torch.set_num_threads(args.threads)
    print(machine())
    if args.network:
        print("| SSAM | batch | scan | wall s | x reference | CPU s | x reference |\n|---|---|---|---|---|---|---|")
        found = networks(args)
        if args.json:
            args.json.write_text(json.dumps({"machine": machine(), "rows": found}, indent=1) + "\n", encoding="utf-8")
        return
    print(f"float32, {STATES} states; forward: {UNITS} units of {TOKENS} tokens a clip of 10 s")
    print("| pass | dim | batch | backend | wall ms | x reference | CPU ms | x reference |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    found = rows(args)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "rows": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
