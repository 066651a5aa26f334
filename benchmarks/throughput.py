"""Measures how fast models embed, against the machine's own matrix product and a plain loop, all in the same process.

    python benchmarks/throughput.py                                       the default table
    python benchmarks/throughput.py random:mwmae --seconds 10 --batch 1 8 --dtype float32 bfloat16
    python benchmarks/throughput.py mwmae-nano --seconds 1 10 60 --threads 1 --json speed.json --markdown speed.md
    python benchmarks/throughput.py random:mwmae --device cuda --batch 1 64 --dtype bfloat16 --compile

A model is a name of `hear-models list`, a .safetensors file, or random:FAMILY, the family's default configuration with
seeded random weights: speed does not depend on what the weights are. Every row is measured in a process of its own.

x real time   seconds of audio embedded per second of wall time; per CPU s: per second of CPU time, all threads
GFLOP/clip    multiplications and additions of the matrix products and attention of one clip, counted by torch
limit         GFLOP/s of a 2000x768x3072 matrix product of the same dtype, timed in turn with the model; of limit: the
              model's own rate as a share of it
x plain       against a plain float32 loop over units with the same weights (yardstick.py), timed in turn as well
front end     share of the time that features take
peak GB       largest resident size of the process (GPU: largest allocation); the same before the first clip behind it

Times are medians over --repeats turns. Exit status: 0 measured, 2 wrong use.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from common import RANDOM, build_model, machine, peak_gb

MATRIX = (2000, 768, 3072)
DTYPES = ("float32", "bfloat16")
COLUMNS = ("model", "s", "batch", "dtype", "x real time", "per CPU s", "GFLOP/clip", "limit", "of limit", "x plain")
ALSO = ("front end", "peak GB", "loaded GB")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """One row; to be run in a fresh process."""
    import torch
    from yardstick import plain_scene

    if args.threads:
        torch.set_num_threads(args.threads)
    name, seconds, batch, dtype = args.models[0], args.seconds[0], args.batch[0], args.dtype[0]
    compiled = {"compile": True} if args.compile else {}
    model, _ = build_model(name, dtype=dtype, device=args.device, **compiled)
    on_gpu = args.device.startswith("cuda")
    wait: Callable[[], None] = torch.cuda.synchronize if on_gpu else (lambda: None)

    def timed(work: Callable[[], Any]) -> tuple[float, float]:
        wait()
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        wait()
        return time.perf_counter() - wall, time.process_time() - cpu

    samples = int(seconds * model.sample_rate)
    audio = (torch.rand(batch, samples, generator=torch.Generator().manual_seed(0)) * 0.2 - 0.1).to(args.device)
    m, k, n = MATRIX
    left, right = (torch.rand(a, b, device=args.device).to(getattr(torch, dtype)) for a, b in ((m, k), (k, n)))

    def multiply() -> None:
        for _ in range(64 if on_gpu else 2):
            left @ right

    loaded = peak_gb()
    with torch.inference_mode():
        start_up = timed(lambda: model.get_scene_embeddings(audio))[0]
        model.get_scene_embeddings(audio)
        peak = torch.cuda.max_memory_allocated() / 1e9 if on_gpu else peak_gb()
        multiply()
        plain, _ = build_model(name, device=args.device)  # float32, whatever the row's dtype
        plain_audio = audio[:1]  # the loop takes clip after clip: its time per clip does not depend on the batch
        if not args.no_plain:
            plain_scene(plain, plain_audio)
        walls, cpus, limits, plains, fronts = [], [], [], [], []
        for _ in range(args.repeats):
            products = timed(multiply)[0]
            wall, cpu = timed(lambda: model.get_scene_embeddings(audio))
            walls.append(wall)
            cpus.append(cpu)
            limits.append((products + timed(multiply)[0]) / 2)  # before and behind: the machine's speed drifts
            fronts.append(timed(lambda: [model.features(clip) for clip in audio])[0])
            if not args.no_plain:
                plains.append(timed(lambda: plain_scene(plain, plain_audio))[0] * batch)
        flop = count_flop(plain, samples)
    rate_of_products = 2.0 * m * k * n * (64 if on_gpu else 2)
    shares = [flop * batch / wall / (rate_of_products / limit) for wall, limit in zip(walls, limits, strict=True)]
    return {
        "model": name,
        "random_weights": name.startswith(RANDOM),
        "seconds": seconds,
        "batch": batch,
        "dtype": dtype,
        "device": args.device,
        "compiled": args.compile,
        "machine": machine(args.device),
        "first_call_s": start_up,
        "wall_s": median(walls),
        "audio_s_per_s": batch * seconds / median(walls),
        "audio_s_per_cpu_s": batch * seconds / median(cpus),
        "clips_per_s": batch / median(walls),
        "gflop_per_clip": flop / 1e9,
        "matrix_gflop_per_s": rate_of_products / median(limits) / 1e9,
        "share_of_limit": median(shares),
        "times_plain": None if args.no_plain else median(p / w for p, w in zip(plains, walls, strict=True)),
        "front_end_share": median(f / w for f, w in zip(fronts, walls, strict=True)),
        "gb_loaded": loaded,
        "gb_peak": peak,
        "repeats": args.repeats,
    }


def count_flop(model: Any, samples: int) -> float:
    """Floating-point operations of one clip's matrix products and attention, from the plain loop."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    from yardstick import plain_scene

    device = next(itertools.chain(model.parameters(), model.buffers())).device
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # the others are not all counted
        plain_scene(model, torch.zeros(1, samples, device=device))
    return float(counter.get_total_flops())


def in_fresh_process(args: argparse.Namespace, model: str, seconds: float, batch: int, dtype: str) -> dict[str, Any]:
    """`measure` of one row; what goes wrong there goes to stderr and ends this process."""
    command = [sys.executable, os.path.abspath(__file__), "--one", model, "--device", args.device]
    command += ["--seconds", str(seconds), "--batch", str(batch), "--dtype", dtype]
    command += ["--threads", str(args.threads), "--repeats", str(args.repeats)]
    command += ["--compile"] * args.compile + ["--no-plain"] * args.no_plain
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        print(f"throughput: {model} could not be measured (its message stands above)", file=sys.stderr)
        sys.exit(2 if run.returncode == 2 else 1)
    row: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return row


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table as text, in the order of COLUMNS and ALSO."""
    return [
        row["model"] + (" (random weights)" if row["random_weights"] else ""),
        f"{row['seconds']:g}",
        str(row["batch"]),
        row["dtype"] + (", compiled" if row["compiled"] else ""),
        f"{row['audio_s_per_s']:.1f}",
        f"{row['audio_s_per_cpu_s']:.1f}",
        f"{row['gflop_per_clip']:.1f}",
        f"{row['matrix_gflop_per_s']:.0f}",
        f"{row['share_of_limit']:.2f}",
        "-" if row["times_plain"] is None else f"{row['times_plain']:.2f}",
        f"{100 * row['front_end_share']:.1f} %",
        f"{row['gb_peak']:.2f}",
        f"{row['gb_loaded']:.2f}",
    ]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table under a line that names the machine."""
    header = [*COLUMNS, *ALSO]
    lines = [rows[0]["machine"], ""]
    lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure every combination, print a table, write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=["mwmae-nano", "random:mwmae"])
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0], help="length of a clip (default: 10)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="clips in one call (default: 1 8)")
    parser.add_argument("--dtype", choices=DTYPES, nargs="+", default=["float32"])
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--compile", action="store_true", help="load_model(..., compile=True)")
    parser.add_argument("--threads", type=int, default=0, help="of torch (default: as it likes)")
    parser.add_argument("--repeats", type=int, default=5, help="turns; medians are printed (default: 5)")
    parser.add_argument("--no-plain", action="store_true", help="leave the yardstick out")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    parser.add_argument("--markdown", metavar="FILE", help="write the table")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if min(args.seconds) <= 0 or min(args.batch) < 1 or args.repeats < 1:
        parser.error("--seconds, --batch and --repeats must be above zero")
    if args.one:
        from hear_models.errors import HearModelsError

        try:
            print(json.dumps(measure(args)))
        except (HearModelsError, ModuleNotFoundError) as error:
            print(f"throughput: {error}", file=sys.stderr)
            return 2
        return 0
    rows = []
    for combination in itertools.product(args.models, args.seconds, args.batch, args.dtype):
        rows.append(in_fresh_process(args, *combination))
        if len(rows) == 1:
            print(rows[0]["machine"])
            print(f"{'model':<22} {'s':>4} {'n':>3} {'dtype':<9} {'x real':>7} {'limit':>5} {'x plain':>7} {'GB':>5}")
        row = cells(rows[-1])
        print(
            f"{row[0].replace(' (random weights)', ''):<22} {row[1]:>4} {row[2]:>3} {rows[-1]['dtype']:<9} {row[4]:>7} "
            f"{row[8]:>5} {row[9]:>7} {row[11]:>5}",
            flush=True,
        )
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")
    if args.markdown:
        Path(args.markdown).write_text(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
