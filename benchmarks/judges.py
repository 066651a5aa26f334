"""The kit's prediction step against our builtin judge, in one run, on the same embeddings: CPU seconds of a whole task.

    python benchmarks/judges.py                                a tiny task: 5 folds of 12 clips, 96 numbers a clip
    python benchmarks/judges.py --size esc50 --protocol paper  an ESC-50-sized one: 5 folds of 400 clips, 768 numbers
    python benchmarks/judges.py EMBEDDING_FOLDER...            folders that the kit or `hear-models evaluate` wrote
    python benchmarks/judges.py --size esc50 --masks 7         what judges/masks.py saves of our own judge's time
    python benchmarks/judges.py --json

Each judge runs in a fresh process on one thread; CPU seconds are those of the whole process, imports included, so a
busy machine matters little. The kit runs in its pinned environment, which is built if it is not there.
Exit status: 0 if the logits are equal to the last bit and ours takes less than half, 1 if not, 2 for wrong use.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from common import machine

from hear_models.errors import HearModelsError
from hear_models.evaluation.embeddings.folder import packing_order, read_embedding_folder
from hear_models.evaluation.judges.protocols import PROTOCOLS

SIZES = {"tiny": (12, 96, 6), "esc50": (400, 768, 50)}  # clips a fold, numbers a clip, classes
FOLDS = tuple(f"fold{index:02d}" for index in range(5))
GOAL = 0.5  # of the kit's CPU time
EPOCHS = 18  # of each training of `--masks`: validations every third, as in a whole one


def write_folder(path: Path, clips: int, dim: int, classes: int) -> Path:
    """Five folds of random embeddings around a class's mean, as the kit lays them out."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((classes, dim))
    path.mkdir()
    metadata = {
        **{"task_name": path.name, "embedding_type": "scene", "prediction_type": "multiclass", "synthetic": True},
        **{"split_mode": "new_split_kfold", "splits": FOLDS, "sample_duration": 1.0},
        **{"evaluation": ["top1_acc", "mAP", "d_prime", "aucroc"]},
    }
    (path / "task_metadata.json").write_text(json.dumps(metadata))
    with (path / "labelvocabulary.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("idx", "label"), *((index, f"class{index:02d}") for index in range(classes))])
    items = {
        fold: {f"{fold}-{clip:03d}.wav": [f"class{clip % classes:02d}"] for clip in range(clips)} for fold in FOLDS
    }
    for fold, files in packing_order({fold: list(content) for fold, content in items.items()}).items():
        labels = [items[fold][file] for file in files]
        means = centres[[int(label[0][5:]) for label in labels]]
        rows = 0.15 * means + rng.standard_normal((clips, dim))
        rows.astype("<f4").tofile(path / f"{fold}.embeddings.npy")
        (path / f"{fold}.embedding-dimensions.json").write_text(json.dumps([clips, dim]))
        (path / f"{fold}.target-labels.pkl").write_bytes(pickle.dumps(labels))
        (path / f"{fold}.json").write_text(json.dumps(items[fold]))
    return path


def ours(folder: Path, protocol: str, seed: int, logits: Path) -> dict[str, Any]:
    """The builtin judge in a fresh process: score and CPU seconds; its logits are written to `logits`."""
    program = (
        "import json, resource, sys\n"
        "import numpy as np\n"
        "from hear_models.evaluation.judges import builtin\n"
        "from hear_models.evaluation.embeddings.folder import read_embedding_folder\n"
        "from hear_models.evaluation.judges.protocols import PROTOCOLS\n"
        "path, protocol, seed, logits = sys.argv[1:]\n"
        "found = builtin.judge(read_embedding_folder(path), PROTOCOLS[protocol], int(seed))\n"
        "np.savez(logits, **{split: rows.logit for split, rows in found.predictions.items()})\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(json.dumps({'score': found.score, 'cpu_s': used.ru_utime + used.ru_stime}))\n"
    )
    command = [sys.executable, "-c", program, str(folder), protocol, str(seed), str(logits)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise HearModelsError(f"The builtin judge failed on {folder}: {done.stderr.strip().splitlines()[-1]}")
    return dict(json.loads(done.stdout))


def compare(folder: Path, protocol: str, seed: int) -> dict[str, Any]:
    """Both judges on one folder, ours first: CPU seconds, their ratio, and how far the logits are apart."""
    from hear_models.evaluation.judges import heareval

    with tempfile.TemporaryDirectory(prefix="hear-models-judges-") as scratch:
        read = read_embedding_folder(folder)
        mine = ours(folder, protocol, seed, Path(scratch) / "logits.npz")
        kit = heareval.judge(read, PROTOCOLS[protocol], seed)
        with np.load(Path(scratch) / "logits.npz") as logits:
            apart = max(float(np.abs(logits[split] - rows.logit).max()) for split, rows in kit.predictions.items())
    return {
        "task": folder.name,
        "protocol": protocol,
        "seed": seed,
        "kit_cpu_s": round(kit.cpu_s, 1),
        "builtin_cpu_s": round(mine["cpu_s"], 1),
        "ratio": round(mine["cpu_s"] / kit.cpu_s, 3),
        "score": mine["score"],
        "same_score": abs(mine["score"] - kit.score) < 1e-6,
        "logits_apart": apart,
        "shims": kit.shims,
    }


def masks(folder: Path, rounds: int) -> dict[str, Any]:
    """Our judge with its own kernel for dropout masks and with torch's generator, by turns: median CPU seconds."""
    from hear_models.evaluation.judges import builtin
    from hear_models.evaluation.judges import masks as kernel

    if not kernel.bits_are_torchs():
        raise HearModelsError("The kernel is not used with this torch. Install numba, or another torch.")
    read, paper = read_embedding_folder(folder), PROTOCOLS["paper"]
    protocol = replace(paper, grid={**paper.grid, "max_epochs": (EPOCHS,)}, grid_points=1)
    spent: dict[bool, list[float]] = {True: [], False: []}
    logits = set()
    for _ in range(rounds):
        for ours in spent:
            with mock.patch.object(kernel, "bits_are_torchs", return_value=ours):
                began = time.process_time()
                outcome = builtin.judge(read, protocol, 0)
                spent[ours].append(time.process_time() - began)
            logits.add(b"".join(np.asarray(rows.logit).tobytes() for rows in outcome.predictions.values()))
    with_kernel, without = statistics.median(spent[True]), statistics.median(spent[False])
    return {
        "task": folder.name,
        "rounds": rounds,
        "kernel_cpu_s": round(with_kernel, 2),
        "torch_cpu_s": round(without, 2),
        "saved": round(1 - with_kernel / without, 3),
        "same_logits": len(logits) == 1,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, help="embedding folders; none: one is made up")
    parser.add_argument("--size", choices=SIZES, default="tiny", help="of the folder that is made up")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="hear")
    parser.add_argument("--seed", type=int, help="default: the first of the protocol")
    parser.add_argument("--json", action="store_true", help="results for a program")
    parser.add_argument("--masks", type=int, metavar="ROUNDS", help="compare the two ways of drawing dropout masks")
    options = parser.parse_args()
    seed = PROTOCOLS[options.protocol].default_seeds[0] if options.seed is None else options.seed
    try:
        with tempfile.TemporaryDirectory(prefix="hear-models-judges-") as scratch:
            folders = options.folders or [write_folder(Path(scratch) / options.size, *SIZES[options.size])]
            if options.masks:
                drawn = [masks(folder, options.masks) for folder in folders]
                print(json.dumps({"machine": machine(), "results": drawn}, indent=1))
                return 0 if all(found["same_logits"] for found in drawn) else 1
            results = [compare(folder, options.protocol, seed) for folder in folders]
    except HearModelsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps({"machine": machine(), "goal": GOAL, "results": results}, indent=1))
    else:
        print(f"{machine()}; one thread each\n")
        print("| task | protocol | kit, CPU s | builtin, CPU s | ratio | logits apart |\n|---|---|---|---|---|---|")
        for found in results:
            cells = ("task", "protocol", "kit_cpu_s", "builtin_cpu_s", "ratio", "logits_apart")
            print("| " + " | ".join(str(found[cell]) for cell in cells) + " |")
    good = all(found["logits_apart"] == 0 and found["ratio"] < GOAL for found in results)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
