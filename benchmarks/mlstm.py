"""Measures the mLSTM cell against the parallel form as it is usually written down, in turns, in the same process.

    python benchmarks/mlstm.py                      the goals: AxLSTM-tiny (4 heads of 96) at 250 and 2,500 steps
    python benchmarks/mlstm.py --width 384 --steps 250 --backward
    python benchmarks/mlstm.py --forms --steps 128 256 512 --width 96 384      parallel and chunkwise, by block length
    python benchmarks/mlstm.py --network tiny base --units 1 2 4               all of AxLSTM, by units a forward pass

x official    time of the official form through ours, medians over --repeats turns; spread: 10 % and 90 % of the turns
              (a network: of the official one, which takes unit after unit, through ours)
largest error of either form against the official one in float64, as a share of the largest value

The official form holds seven tables of steps x steps for every head, which the C library's allocator may return to the
system and fetch again, page by page, in every call: as it does in a process that computes little else. `page faults`
counts them (per call of the official form). To see the arithmetic alone, keep the memory:
MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_MMAP_THRESHOLD_=4000000000 python benchmarks/mlstm.py

Every row is measured in a process of its own, on one thread unless --threads says otherwise; one thread is timed by its
CPU time, which a busy machine does not stretch.
"""

from __future__ import annotations

import argparse
import itertools
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

import torch
from common import machine
from torch import Tensor
from torch.nn.functional import conv1d, group_norm, layer_norm, linear, logsigmoid, silu

from hear_models import axlstm
from hear_models.layers import mlstm as cell
from hear_models.layers.mlstm_block import MLSTMLayer

GOALS = {(250, 96): 4, (2500, 96): 20}  # (steps, width): times the official form
WIDTHS = {"tiny": 192, "small": 384, "base": 768}  # of AxLSTM's tokens
NETWORK_GOALS = {"tiny": 2.0, "base": 1.3}
HEADS = 4


def official(q: Tensor, k: Tensor, v: Tensor, igate: Tensor, fgate: Tensor) -> Tensor:
    """The stabilised parallel form of Beck et al. 2024 (arXiv 2405.04517, appendix A.3), table by table, never tuned.

    q, k, v [B, H, S, d], gates [B, H, S] → h [B, H, S, d].
    """
    steps, width = q.shape[2:]
    log_forget = logsigmoid(fgate)[..., None]  # [B, H, S, 1]
    sums = torch.cat([torch.zeros_like(log_forget[..., :1, :]), log_forget.cumsum(dim=-2)], dim=-2)
    repeated = sums.repeat(1, 1, 1, steps + 1)  # [B, H, S + 1, S + 1]
    forget = (repeated - repeated.transpose(-2, -1))[:, :, 1:, 1:]
    seen = torch.ones(steps, steps, dtype=torch.bool, device=q.device).tril()
    log_weights = torch.where(seen, forget, -math.inf) + igate[..., None, :]
    m = log_weights.max(dim=-1, keepdim=True).values
    weights = (q @ (k / math.sqrt(width)).transpose(-2, -1)) * (log_weights - m).exp()
    normaliser = torch.maximum(weights.sum(dim=-1, keepdim=True).abs(), (-m).exp())
    return (weights / (normaliser + 1e-6)) @ v


def official_layer(layer: MLSTMLayer, x: Tensor) -> Tensor:
    """The block's layer as its paper's formulas stand, operation by operation; [units, tokens, width] → the same."""
    units, tokens = x.shape[:2]
    memory, z = linear(x, layer.proj_up.weight).chunk(2, dim=-1)
    taps = layer.conv1d.weight
    padding = taps.shape[2] - 1
    convolved = conv1d(memory.transpose(1, 2), taps, layer.conv1d.bias, padding=padding, groups=len(taps))
    a = silu(convolved[..., :tokens].transpose(1, 2))

    def mixed(y: Tensor, weight: Tensor) -> Tensor:
        return torch.einsum("...gd,god->...go", y.unflatten(-1, (-1, weight.shape[2])), weight).flatten(-2)

    parts = ((a, layer.q_proj), (a, layer.k_proj), (memory, layer.v_proj))
    q, k, v = (mixed(y, projection.weight) for y, projection in parts)
    seen = torch.cat([q, k, v], dim=-1)
    gates = [linear(seen, gate.weight, gate.bias).transpose(1, 2) for gate in (layer.igate, layer.fgate)]
    q, k, v = (y.view(units, tokens, HEADS, -1).transpose(1, 2) for y in (q, k, v))
    h = official(q, k, v, *gates).transpose(1, 2).reshape(units * tokens, -1)
    normed = group_norm(h, HEADS, 1 + layer.outnorm.weight, eps=1e-5).view(units, tokens, -1)
    return linear((normed + layer.learnable_skip * a) * silu(z), layer.proj_down.weight)


def official_network(model: axlstm.Model, units: Tensor) -> Tensor:
    """The network of AxLSTM, block after block of such layers; [units, frames, bands] → steps."""
    x = model.embed(units)
    for i, block in enumerate(model.blocks):
        y = layer_norm(x, x.shape[-1:], 1 + block.norm.weight, eps=1e-5)
        layer: MLSTMLayer = block.layer  # type: ignore[assignment]
        x = x + (official_layer(layer, y.flip(1)).flip(1) if i % 2 else official_layer(layer, y))
    return model.fold_steps(model.norm(x))


def whole(size: str, at_once: int, repeats: int) -> str:
    """One line of the third table: `at_once` units through the whole network, with random weights."""
    model = axlstm.Model(axlstm.Config(width=WIDTHS[size])).eval()
    units = torch.randn(at_once, 200, 80, generator=torch.Generator().manual_seed(0))

    def theirs() -> None:
        for unit in units:
            official_network(model, unit[None])

    with torch.inference_mode():
        apart = float((official_network(model, units) - model.network(units)).abs().max())
        theirs()
        turns = [(seconds(theirs), seconds(lambda: model.network(units))) for _ in range(repeats)]
    ratios = [a / b for a, b in turns]
    tenths = quantiles(ratios, n=10)
    goal = NETWORK_GOALS.get(size)
    return (
        f"{size:>6} {at_once:>5}  {'forward':<9} {1e3 * median(a for a, _ in turns) / at_once:>9.2f} "
        f"{1e3 * median(b for _, b in turns) / at_once:>8.2f} {median(ratios):>9.2f}   "
        f"{tenths[0]:.2f} to {tenths[-1]:.2f}   {apart:.0e}   {f'goal {goal}' if goal else ''}"
    )


def example(steps: int, width: int) -> list[Tensor]:
    """q, k, v, igate, fgate of one unit; gates as in a network at its start: forget biases 3 to 6, input around 0."""
    rng = torch.Generator().manual_seed(0)
    qkv = [torch.randn(1, HEADS, steps, width, generator=rng) for _ in range(3)]
    igate = 0.3 * torch.randn(1, HEADS, steps, generator=rng)
    fgate = torch.linspace(3, 6, HEADS)[:, None] + 0.3 * torch.randn(1, HEADS, steps, generator=rng)
    return [*qkv, igate, fgate]


def runner(form: Callable[..., Tensor], inputs: list[Tensor], backward: bool) -> Callable[[], None]:
    """One call of the form, with its gradients if asked for."""
    if not backward:

        def forward_only() -> None:
            with torch.inference_mode():
                form(*inputs)

        return forward_only
    leaves = [x.clone().requires_grad_() for x in inputs]

    def forward_and_backward() -> None:
        torch.autograd.grad(form(*leaves).sum(), leaves)

    return forward_and_backward


def seconds(work: Callable[[], None]) -> float:
    """Of CPU time on one thread, where it is what an idle machine's clock would show; of wall time on more."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    work()
    return clock() - start


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def against_official(steps: int, width: int, repeats: int, backward: bool) -> str:
    """One line of the first table."""
    inputs = example(steps, width)
    with torch.inference_mode():
        truth = official(*(x.double() for x in inputs))
        error = max(float((form(*inputs) - truth).abs().max() / truth.abs().max()) for form in (official, cell.mlstm))
    theirs, ours = (runner(form, inputs, backward) for form in (official, cell.mlstm))
    theirs(), ours()
    turns, paged = [], 0
    for _ in range(repeats):
        before = faults()
        time_theirs = seconds(theirs)
        paged += faults() - before
        turns.append((time_theirs, seconds(ours)))
    ratios = [a / b for a, b in turns]
    tenths = quantiles(ratios, n=10)
    goal = None if backward else GOALS.get((steps, width))
    return (
        f"{steps:>6} {width:>5}  {'both ways' if backward else 'forward':<9} {1e3 * median(a for a, _ in turns):>9.2f} "
        f"{1e3 * median(b for _, b in turns):>8.2f} {median(ratios):>9.1f}   {tenths[0]:.1f} to {tenths[-1]:.1f}   "
        f"{error:.0e}  {paged // repeats:>6}   {f'goal {goal}' if goal else ''}"
    )


def by_form(steps: int, width: int, repeats: int, backward: bool, blocks: list[int]) -> str:
    """One line of the second table: milliseconds of every form and block length."""
    inputs = example(steps, width)

    def run(mode: cell.Mode, block: int) -> Callable[[], None]:
        work = runner(lambda *x: cell.mlstm(*x, mode=mode), inputs, backward)

        def at_this_length() -> None:
            cell.PARALLEL_STEPS = cell.CHUNK_STEPS = block
            work()

        return at_this_length

    modes: tuple[cell.Mode, ...] = ("parallel", "chunkwise")
    forms = {(mode, block): run(mode, block) for mode in modes for block in blocks}
    times: dict[tuple[cell.Mode, int], list[float]] = {form: [] for form in forms}
    for _ in range(repeats + 1):
        for form, work in forms.items():
            times[form].append(seconds(work))
    cells = [f"{mode[:3]} {block}: {1e3 * median(t[1:]):.2f}" for (mode, block), t in times.items()]
    best = min(times, key=lambda form: median(times[form][1:]))
    return f"{steps:>6} {width:>5}  " + "  ".join(cells) + f"   best {best[0]} {best[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[250, 2500])
    parser.add_argument(
        "--width", type=int, nargs="+", default=[96], help="of a head: 96, 192, 384 (tiny, small, base)"
    )
    parser.add_argument("--backward", action="store_true", help="with the gradients of all five inputs")
    parser.add_argument("--forms", action="store_true", help="compare our own forms instead")
    parser.add_argument("--blocks", type=int, nargs="+", default=[64, 128], help="block lengths for --forms")
    parser.add_argument("--network", choices=WIDTHS, nargs="+", help="measure whole networks of these sizes instead")
    parser.add_argument("--units", type=int, nargs="+", default=[1], help="units a forward pass for --network")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=0, help="turns (default: as many as take seconds)")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if (
        min(*args.steps, *args.width, *args.blocks, *args.units, args.threads) < 1
        or args.repeats < 0
        or args.repeats == 1
    ):
        parser.error("--steps, --width, --blocks, --units and --threads must be above zero, --repeats above one")
    torch.set_num_threads(args.threads)
    if args.one:
        steps, width = args.steps[0], args.width[0]
        repeats = args.repeats or max(5, min(100, 5_000_000 // (steps * steps)))
        if args.network:
            size, at_once = args.network[0], args.units[0]
            print(whole(size, at_once, args.repeats or max(3, 4000 // WIDTHS[size] // at_once)))
        elif args.forms:
            print(by_form(steps, width, repeats, args.backward, args.blocks))
        else:
            print(against_official(steps, width, repeats, args.backward))
        return 0
    print(machine())
    if args.network:
        print("  size units            official ms  ours ms  x official  spread  apart      (ms a unit)")
    elif args.forms:
        print(" steps width  milliseconds" + (", both ways" if args.backward else ", forward"))
    else:
        print(" steps width            official ms  ours ms  x official  spread  error  page faults")
    names = ("--network", "--units") if args.network else ("--steps", "--width")
    rows = itertools.product(args.network, args.units) if args.network else itertools.product(args.steps, args.width)
    for first, second in rows:
        command = [sys.executable, str(Path(__file__).resolve()), "--one"]
        command += [names[0], str(first), names[1], str(second)]
        command += ["--threads", str(args.threads), "--repeats", str(args.repeats)]
        command += ["--blocks", *map(str, args.blocks)]
        command += ["--backward"] * args.backward + ["--forms"] * args.forms
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if run.returncode:
            return 1  # its message stands above
        print(run.stdout, end="", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
