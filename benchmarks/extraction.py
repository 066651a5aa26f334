"""The kit's embedding runner against ours, in one run, on the same clips: seconds, and how many times faster ours is.

    python benchmarks/extraction.py                                  2,000 clips of 1 s with mwmae-nano, 2 threads
    python benchmarks/extraction.py --model random:mwmae --clips 48  the base size with random weights
    python benchmarks/extraction.py --json

Both embed one task (train, valid, test) on the CPU, each in a fresh process with as many torch threads, by turns, and
the order changes from one repetition to the next. The first column counts from the first clip to the finished folder,
as the kit's own profile does; the second the whole process with its imports. Ours also reads every clip for the digest
in its key, which stands in both columns. The kit runs in its pinned environment, which is built if it is not there.
Exit status: 0 if ours is not slower, 1 if it is, 2 for wrong use.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from common import RANDOM, machine

from hear_models.errors import HearModelsError

TASK = "clips-v1-full"


def write_task(root: Path, clips: int, seconds: float) -> None:
    """A task of seeded noise, in the proportions 6 : 2 : 2."""
    import wave

    folder, rng = root / TASK, np.random.default_rng(0)
    folder.mkdir(parents=True)
    metadata = {
        **{"task_name": "clips", "version": "v1", "mode": "full", "synthetic": True},
        **{"embedding_type": "scene", "prediction_type": "multiclass", "split_mode": "trainvaltest"},
        **{"splits": ["train", "valid", "test"], "sample_duration": seconds, "evaluation": ["top1_acc"]},
    }
    (folder / "task_metadata.json").write_text(json.dumps(metadata, indent=1))
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,a\n1,b\n")
    for split, share in (("train", 0.6), ("valid", 0.2), ("test", 0.2)):
        audio = folder / "16000" / split
        audio.mkdir(parents=True)
        table = {}
        for k in range(max(1, round(share * clips))):
            table[f"{split}-{k:05d}.wav"] = ["ab"[k % 2]]
            pcm = np.clip(rng.normal(0, 3000, round(16000 * seconds)), -32768, 32767).astype("<i2")
            with wave.open(str(audio / f"{split}-{k:05d}.wav"), "wb") as file:
                file.setparams((1, 2, 16000, 0, "NONE", ""))
                file.writeframes(pcm.tobytes())
        (folder / f"{split}.json").write_text(json.dumps(table, indent=1))


def checkpoint(name: str, folder: Path) -> tuple[str, str]:
    """(family, file) that both runners load; random:FAMILY gets a file of its default configuration."""
    from hear_models.checkpoints.safetensors_file import write_checkpoint
    from hear_models.subjects.subject import resolve

    if not name.startswith(RANDOM):
        subject = resolve(name, allow_untrained=True)
        if not subject.is_ours or subject.checkpoint is None:
            raise HearModelsError(f"{name} has no file of weights, which both runners could load. Take another model.")
        return subject.family or "", str(subject.checkpoint)
    from importlib import import_module

    family = name.removeprefix(RANDOM)
    module = import_module(f"hear_models.{family}")
    model, path = module.Model(module.Config(), seed=0), folder / f"{family}.safetensors"
    config = asdict(model.config)
    write_checkpoint(path, family=family, config=config, tensors=model.state_dict(), trained=False)
    return family, str(path)


def run_ours(path: str, tasks_dir: Path, out: Path, threads: int) -> dict[str, float]:
    command = [sys.executable, os.path.abspath(__file__), "--one", path, "--tasks-dir", str(tasks_dir)]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "--out", str(out), "--threads", str(threads)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise HearModelsError(f"Our extractor failed: {done.stderr.strip().splitlines()[-1]}")
    return {**json.loads(done.stdout.splitlines()[-1]), "process_s": time.perf_counter() - began}


def one(path: str, tasks_dir: Path, out: Path, threads: int) -> dict[str, float]:
    """Our extractor, in this process: from a loaded model to the finished folder, digests of data included."""
    import torch

    torch.set_num_threads(threads)
    from hear_models.evaluation.embeddings.extraction import extract
    from hear_models.subjects.subject import resolve
    from hear_models.tasks.task import read_task

    loaded = resolve(path, allow_untrained=True).load("cpu")
    began = time.perf_counter()
    extraction = extract(loaded, read_task(tasks_dir / TASK), out)
    seconds = time.perf_counter() - began
    assert not extraction.reused
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds,
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }


def run_kit(family: str, path: str, tasks_dir: Path, out: Path, threads: int) -> dict[str, float]:
    from hear_models.evaluation.judges.heareval import run_embeddings

    report = run_embeddings(f"hear_models.{family}", path, {}, tasks_dir, TASK, out, threads=threads)
    profile = json.loads((out / f"hear_models.{family}" / TASK / "profile.embeddings.json").read_text())
    return {"seconds": profile["time_elapsed"], "cpu_s": report["cpu_s"], "process_s": report["wall_s"]}


def compare(family: str, path: str, tasks_dir: Path, scratch: Path, repetitions: int, threads: int) -> dict[str, Any]:
    runs: dict[str, list[dict[str, float]]] = {"kit": [], "ours": []}
    for repetition in range(repetitions):
        for who in ("kit", "ours") if repetition % 2 == 0 else ("ours", "kit"):
            out = scratch / f"{who}-{repetition}"
            if who == "kit":
                runs[who].append(run_kit(family, path, tasks_dir, out, threads))
            else:
                runs[who].append(run_ours(path, tasks_dir, out, threads))
    medians = {
        who: {key: statistics.median(run[key] for run in found) for key in found[0]} for who, found in runs.items()
    }
    by_turns = [kit["seconds"] / ours["seconds"] for kit, ours in zip(runs["kit"], runs["ours"], strict=True)]
    return {
        "runs": runs,
        "medians": medians,
        "times_faster": statistics.median(by_turns),
        "times_faster_of_each_pair": by_turns,
        "times_faster_whole_process": medians["kit"]["process_s"] / medians["ours"]["process_s"],
        "cpu_ratio": medians["kit"]["cpu_s"] / medians["ours"]["cpu_s"],
        "worst_difference": worst_difference(scratch / "kit-0", scratch / "ours-0"),
    }


def worst_difference(kit: Path, ours: Path) -> float:
    """Largest difference of any number in the packed embeddings of both."""
    (left,), (right,) = (list(folder.glob(f"*/{TASK}")) for folder in (kit, ours))
    pairs = [
        [np.fromfile(folder / f"{split}.embeddings.npy", "<f4") for folder in (left, right)]
        for split in ("train", "valid", "test")
    ]
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mwmae-nano", help="a model with a file of weights, or random:FAMILY")
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a clip (default: 1)")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of torch, for both (default: 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for hidden in ("--one", "--tasks-dir", "--out"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if min(arguments.clips - 4, arguments.repetitions, arguments.threads) < 1 or not 0 < arguments.seconds <= 120:
        parser.error("give at least 5 clips, 1 repetition and 1 thread, and clips of at most 120 s")
    try:
        if arguments.one:
            found = one(arguments.one, Path(arguments.tasks_dir), Path(arguments.out), arguments.threads)
            print(json.dumps(found))
            return 0
        with tempfile.TemporaryDirectory() as scratch:
            tasks_dir = Path(scratch) / "tasks"
            write_task(tasks_dir, arguments.clips, arguments.seconds)
            family, path = checkpoint(arguments.model, Path(scratch))
            work = Path(scratch) / "out"
            result = compare(family, path, tasks_dir, work, arguments.repetitions, arguments.threads)
    except (HearModelsError, ModuleNotFoundError) as error:
        print(f"extraction: {error}", file=sys.stderr)
        return 2
    setting = {key: getattr(arguments, key) for key in ("model", "clips", "seconds", "repetitions", "threads")}
    result = {**setting, "machine": machine(), "load_before": os.getloadavg()[0], **result}
    print(json.dumps(result, indent=1) if arguments.json else as_text(result))
    return 0 if result["times_faster"] >= 1 else 1


def as_text(result: dict[str, Any]) -> str:
    lines = [
        f"{result['model']}, {result['clips']} clips of {result['seconds']:g} s, {result['threads']} threads, "
        f"medians of {result['repetitions']} runs by turns",
        f"{result['machine']}, load {result['load_before']:.1f}",
        f"{'':<6} {'embedding s':>12} {'process s':>10} {'CPU s':>8}",
    ]
    for who, row in result["medians"].items():
        lines.append(f"{who:<6} {row['seconds']:>12.2f} {row['process_s']:>10.2f} {row['cpu_s']:>8.2f}")
    pairs = ", ".join(f"{ratio:.2f}" for ratio in result["times_faster_of_each_pair"])
    lines.append(f"ours is {result['times_faster']:.2f} times faster (pairs: {pairs})")
    lines.append(
        f"whole process {result['times_faster_whole_process']:.2f}, CPU time {result['cpu_ratio']:.2f} times; "
        f"largest difference of an embedding {result['worst_difference']:.1e}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
