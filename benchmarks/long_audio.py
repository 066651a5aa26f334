"""Measures 20 minutes of audio in one call: peak memory of the process (this zoo promises 4 GB, HEAR's rule is 16).

    python benchmarks/long_audio.py                       the default model
    python benchmarks/long_audio.py mwmae-nano random:mwmae --minutes 20 --json
    python benchmarks/long_audio.py mwmae-nano --command embed --minutes 600 --limit-gb 1
    python benchmarks/long_audio.py gise51-nano --command tag --minutes 600 --limit-gb 1

With --command a recording is written, mono, 16 kHz, 16 bits, and `hear-models COMMAND` is run on it as a user would.

A model is a name of `hear-models list`, a .safetensors file, or random:FAMILY, the family's default configuration (for
mwmae the published base size) with seeded random weights: speed and memory do not depend on what the weights are.
Each model runs in a process of its own, so that peaks do not mix. Exit status: 0 if every peak is below --limit-gb,
1 if not, 2 for wrong use.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from common import build_model, peak_gb

from hear_models.errors import HearModelsError

RATE = 16000
FUNCTIONS = ("get_timestamp_embeddings", "get_scene_embeddings")


def measure(name: str, minutes: float, function: str, threads: int) -> dict[str, Any]:
    """Embed `minutes` of seeded noise in one call; to be run in a fresh process."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    model, family = build_model(name)
    n_samples = int(minutes * 60 * model.sample_rate)
    audio = torch.rand(1, n_samples, generator=torch.Generator().manual_seed(0)) * 0.2 - 0.1
    loaded, started = peak_gb(), time.perf_counter()
    result = getattr(family, function)(audio, model)
    seconds = time.perf_counter() - started
    embeddings = result if isinstance(result, torch.Tensor) else result[0]
    assert bool(torch.isfinite(embeddings).all())
    return {
        "model": name,
        "function": function,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "minutes": minutes,
        "shape": list(embeddings.shape),
        "result_gb": embeddings.numel() * 4 / 1e9,
        "seconds": seconds,
        "audio_seconds_per_second": minutes * 60 / seconds,
        "threads": torch.get_num_threads(),
        "gb_before_call": loaded,
        "peak_gb": peak_gb(),
    }


def write_recording(path: Path, minutes: float) -> None:
    """Seeded noise whose level changes every minute."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for minute in range(math.ceil(minutes)):
            n = round(min(1.0, minutes - minute) * 60 * RATE)
            file.write((0.02 * (1 + minute % 5) * rng.standard_normal(n, dtype=np.float32)).clip(-1, 1))


def by_command(name: str, command: str, minutes: float) -> dict[str, Any]:
    """`hear-models embed`, `tag` or `changes` on a recording: CPU seconds and peak memory of its process."""
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder, "recording.wav")
        write_recording(recording, minutes)
        outputs = {"embed": ["-o", "out"], "tag": ["--json"], "changes": ["-o", "out.csv"]}
        line = [sys.executable, "-m", "hear_models.cli.main", command, str(recording), "-m", name, *outputs[command]]
        environment = {**os.environ, "HEAR_MODELS_CACHE": str(Path(folder, "cache"))}
        started = time.perf_counter()
        process = subprocess.Popen(line, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            print(f"long_audio: hear-models {command} failed (its message stands above)", file=sys.stderr)
            sys.exit(1)
        cpu_s = usage.ru_utime + usage.ru_stime
        return {
            "model": name,
            "command": command,
            "minutes": minutes,
            "seconds": time.perf_counter() - started,
            "cpu_seconds": cpu_s,
            "audio_seconds_per_second": minutes * 60 / cpu_s,
            "peak_gb": usage.ru_maxrss * 1024 / 1e9,
        }


def in_fresh_process(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """`measure` in a process of its own; what goes wrong there goes to stderr and ends this one."""
    command = [sys.executable, os.path.abspath(__file__), "--one", name, "--minutes", str(arguments.minutes)]
    command += ["--function", arguments.function, "--threads", str(arguments.threads)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        print(f"long_audio: {name} could not be measured (its message stands above)", file=sys.stderr)
        sys.exit(2 if run.returncode == 2 else 1)
    row: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return row


def main() -> int:
    """Measure the models given, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=["mwmae-nano"])
    parser.add_argument("--minutes", type=float, default=20.0, help="of audio in one call (default: 20)")
    parser.add_argument("--command", choices=["embed", "tag", "changes"], help="on a recording, instead of one call")
    parser.add_argument("--function", choices=FUNCTIONS, default=FUNCTIONS[0])
    parser.add_argument("--limit-gb", type=float, default=4.0, help="largest peak allowed (default: 4)")
    parser.add_argument("--threads", type=int, default=0, help="of torch (default: as it likes)")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.add_argument("--one", metavar="MODEL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.minutes <= 0:
        parser.error("--minutes must be above zero")
    if arguments.one:
        try:
            print(json.dumps(measure(arguments.one, arguments.minutes, arguments.function, arguments.threads)))
        except (HearModelsError, ModuleNotFoundError) as error:
            print(f"long_audio: {error}", file=sys.stderr)
            return 2
        return 0
    rows = []
    number, seconds = ("", "cpu_seconds") if arguments.command else ("parameters", "seconds")
    if not arguments.json:
        print(f"{'model':<24} {number:>11} {'minutes':>7} {seconds:>11} {'x real time':>11} {'peak GB':>8}")
    for name in arguments.models:
        if arguments.command:
            row = by_command(name, arguments.command, arguments.minutes)
        else:
            row = in_fresh_process(name, arguments)
        rows.append({**row, "limit_gb": arguments.limit_gb, "below_limit": row["peak_gb"] <= arguments.limit_gb})
        if not arguments.json:
            over = "" if rows[-1]["below_limit"] else f"  above {arguments.limit_gb:g}"
            print(
                f"{name:<24} {row.get('parameters', ''):>11} {row['minutes']:>7g} {row[seconds]:>11.1f} "
                f"{row['audio_seconds_per_second']:>11.1f} {row['peak_gb']:>8.2f}{over}",
                flush=True,
            )
    if arguments.json:
        print(json.dumps(rows, indent=1))
    return 0 if all(row["below_limit"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
