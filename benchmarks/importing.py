"""How long a leaderboard takes from folders that hear-eval-kit wrote elsewhere: 12 models x 10 seeds x the ten tasks.

    python benchmarks/importing.py              # 1,200 results, the kit's copies of the tasks' files beside each
    python benchmarks/importing.py --seeds 2

The folders are made on the spot, with tables of as many clips as the real tasks have (copies share their bytes on the
disk); scores are made up. CPU seconds of `hear-models leaderboard FOLDER -o board.html`, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hear_models.tasks.known_tasks import KnownTask, known_tasks

MODELS = 12
FOLDS = 5
CHOICE = {"hidden_layers": 1, "hidden_dim": 1024, "dropout": 0.1, "lr": 1e-4, "batch_size": 1024, "max_epochs": 500}


def write_task(folder: Path, task: KnownTask) -> list[Path]:
    """The files of a task that the kit copies: metadata, vocabulary and a table for each split."""
    folder.mkdir(parents=True)
    labels = [str(k) for k in range(task.n_classes)]
    metadata: dict[str, Any] = {
        "task_name": task.folder.split("-")[0],
        "embedding_type": task.embedding_type,
        "prediction_type": task.prediction_type,
        "split_mode": task.split_mode,
        "sample_duration": task.clip_s,
        "evaluation": list(task.evaluation),
        "splits": list(task.splits),
    }
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    (folder / "labelvocabulary.csv").write_text(
        "idx,label\n" + "".join(f"{k},{label}\n" for k, label in enumerate(labels))
    )
    for number, split in enumerate(task.splits):
        clips = range(number, task.n_clips, len(task.splits))
        items = {f"clip-{clip:06d}.wav": [labels[clip % len(labels)]] for clip in clips}
        (folder / f"{split}.json").write_text(json.dumps(items, indent=1, sort_keys=True))
    return sorted(folder.iterdir())


def write_scores(folder: Path, task: KnownTask, rng: random.Random) -> None:
    """The kit's file of scores."""
    names = [f"fold{k:02d}" for k in range(FOLDS)] if task.split_mode != "trainvaltest" else ["test"]
    folds = {name: _fold(task, rng) for name in names}
    content: dict[str, Any] = {**folds, "hparams": CHOICE, "score_mode": "max"}
    if len(folds) > 1:
        from hear_models.evaluation.board.importing import aggregate_folds

        content["aggregated_scores"] = aggregate_folds(folds)
    (folder / "test.predicted-scores.json").write_text(json.dumps(content, indent=4))


def _fold(task: KnownTask, rng: random.Random) -> dict[str, float]:
    score = rng.uniform(0.5, 0.9)
    shown = {f"test_{metric}": score for metric in (*task.evaluation, "d_prime", "aucroc")}
    return {"test_loss": 1.0, "test_score": score, **shown, "validation_score": score, "epoch": 30}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    seeds = parser.parse_args().seeds
    ten = [task for task in known_tasks().values() if task.paper_name]
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        copies = {task.folder: write_task(root / "tasks" / task.folder, task) for task in ten}
        for model in range(MODELS):
            for seed in range(seeds):
                for task in ten:
                    folder = root / "results" / f"hear_configs.model-{model:02d}_r1_{seed:02d}" / task.folder
                    folder.mkdir(parents=True)
                    for path in copies[task.folder]:
                        os.link(path, folder / path.name)
                    write_scores(folder, task, rng)
        begin = time.perf_counter()
        program = "import sys; from hear_models.cli.main import main; sys.argv[0] = 'hear-models'; main()"
        arguments = ["leaderboard", str(root / "results"), "-o", str(root / "board.html")]
        subprocess.run([sys.executable, "-c", program, *arguments], check=True)
        wall_s, used = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = used.ru_utime + used.ru_stime
        print(f"{MODELS * seeds * len(ten):,} results: {cpu_s:.1f} s of CPU, {wall_s:.1f} s in all")


if __name__ == "__main__":
    main()
