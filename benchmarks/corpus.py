"""Embeds a folder of short files and one of long ones, against a plain loop over the same files in the same run.

    python benchmarks/corpus.py                       mwmae-nano, 2,000 files of 1 to 3 s, 20 of 5 minutes
    python benchmarks/corpus.py random:mwmae --short 60 --long 2 --long-seconds 60

The plain loop is what one writes first: `soundfile.read`, a tensor, `get_scene_embeddings`, a list; nothing is written
to the disk. `hear_models.corpus.embed_files` reads the same files, and writes one .npz for each, or one .parquet table
(--output). Both are run --repeats times in turn; medians. The files are 16 kHz, so neither resamples, and they are
read once before, so that both find them in memory.

wait          share of the time in which the model waited for decoded audio
Exit status: 0 measured, 2 wrong use.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile
from common import build_model, machine

from hear_models.errors import HearModelsError

RATE = 16_000


def write_files(folder: Path, count: int, shortest_s: float, longest_s: float) -> float:
    """`count` recordings of noise with lengths drawn evenly; the seconds of audio in all."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    seconds = 0.0
    for i in range(count):
        samples = int(rng.uniform(shortest_s, longest_s) * RATE)
        soundfile.write(folder / f"{i:05d}.wav", rng.uniform(-0.3, 0.3, samples).astype(np.float32), RATE)
        seconds += samples / RATE
    return seconds


def plain_loop(folder: Path, model: Any) -> list[np.ndarray]:
    """File after file."""
    import torch

    embeddings = []
    for path in sorted(folder.iterdir()):
        samples, _ = soundfile.read(path, dtype="float32")
        embeddings.append(model.get_scene_embeddings(torch.from_numpy(samples)[None])[0].numpy())
    return embeddings


def measure(folder: Path, audio_s: float, model: Any, args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Both ways over one folder, in turn."""
    from hear_models.corpus.run import embed_files

    plain_loop(folder, model)
    plain, ours, waits = [], [], []
    for turn in range(args.repeats):
        began = time.perf_counter()
        plain_loop(folder, model)
        plain.append(time.perf_counter() - began)
        output = scratch / f"{folder.name}-{turn}{'.parquet' if args.output == 'parquet' else ''}"
        began = time.perf_counter()
        summary = embed_files([folder], output, model)
        ours.append(time.perf_counter() - began)
        waits.append(summary.decode_wait_share)
        assert not summary.failed and summary.embedded == len(list(folder.iterdir()))
    return {
        "files": len(list(folder.iterdir())),
        "audio_s": audio_s,
        "plain_s": median(plain),
        "embed_s": median(ours),
        "audio_s_per_s": audio_s / median(ours),
        "wait_share": median(waits),
        "times_plain": median(p / o for p, o in zip(plain, ours, strict=True)),
    }


def main() -> int:
    """Make the files, measure, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="mwmae-nano", metavar="MODEL")
    parser.add_argument("--short", type=int, default=2000, help="files of 1 to 3 s (default: 2000)")
    parser.add_argument("--long", type=int, default=20, help="long files (default: 20)")
    parser.add_argument("--long-seconds", type=float, default=300.0, help="length of a long file (default: 300)")
    parser.add_argument("--output", choices=["npz", "parquet"], default="npz")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="of torch (default: as it likes)")
    parser.add_argument("--repeats", type=int, default=3, help="turns (default: 3)")
    parser.add_argument("--folder", help="where the files are made and deleted (default: the system's)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    if args.short < 0 or args.long < 0 or args.repeats < 1 or args.long_seconds <= 0:
        parser.error("numbers of files and seconds must be above zero")
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    rows = {}
    try:
        model, _ = build_model(args.model, device=args.device)
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            scratch = Path(name)
            for kind, count, shortest, longest in (
                ("short", args.short, 1.0, 3.0),
                ("long", args.long, args.long_seconds, args.long_seconds),
            ):
                if count:
                    audio_s = write_files(scratch / kind, count, shortest, longest)
                    rows[kind] = measure(scratch / kind, audio_s, model, args, scratch)
    except (HearModelsError, ModuleNotFoundError) as error:
        print(f"corpus: {error}", file=sys.stderr)
        return 2
    report = {"model": args.model, "output": args.output, "machine": machine(args.device), **rows}
    if args.json:
        print(json.dumps(report, indent=1))
        return 0
    print(f"{args.model}, {args.output}; {report['machine']}")
    print(f"{'':<6} {'files':>6} {'audio s':>8} {'embed s':>8} {'x real time':>11} {'x plain':>8} {'wait':>6}")
    for kind, row in rows.items():
        print(
            f"{kind:<6} {row['files']:>6} {row['audio_s']:>8.0f} {row['embed_s']:>8.2f} {row['audio_s_per_s']:>11.0f} "
            f"{row['times_plain']:>8.2f} {100 * row['wait_share']:>4.1f} %"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
