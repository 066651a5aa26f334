"""Result folders for the tests of the leaderboard: real records with real predictions, written as `evaluate` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hear_models.evaluation.judges.outcome import Fold, Predictions
from hear_models.evaluation.runs.jobs import inputs_of, record_file
from hear_models.evaluation.runs.predictions import write_predictions
from hear_models.evaluation.runs.record import (
    EmbeddingFacts,
    JudgeFacts,
    ModelFacts,
    Record,
    TaskFacts,
    Versions,
    record_stem,
    write_record,
)
from hear_models.tasks.known_tasks import known_tasks

ESC50, TONIC, PITCH, FSD = (
    "esc50-v2.0.0-full",
    "mridangam_tonic-v1.5-full",
    "nsynth_pitch-v2.2.3-5h",
    "fsd50k-v1.0-full",
)
CLIPS, CLASSES = 60, 4  # of each test split here


def write(
    results: Path,
    model: str = "mwmae-nano",
    task: str = ESC50,
    seed: int = 0,
    score: float | None = 0.8,
    origin: str = "official",
    protocol: str = "paper",
    judge: str = "builtin",
    family: str | None = "mwmae",
    trained: bool = True,
    predictions: bool = True,
    sha256: str | None = "c" * 64,
    options: dict[str, Any] | None = None,
    random_labels: bool = False,
    data: str = "d" * 64,
    torch: str = "2.13.0+cpu",
    name: str | None = None,
    undefined: str = "",
    identity: tuple[str, str] | None = None,
    embeddings: str = "e" * 64,
) -> Path:
    """One record, with predictions of which `score` are right (the record's score is the share that really is)."""
    facts = known_tasks().get(task)
    metric = facts.evaluation[0] if facts else "top1_acc"
    splits = [split for split in facts.splits if split.startswith("fold")] if facts else []
    rows = {split: _rows(split, seed, score, metric, model) for split in (splits or ["test"])}
    if score is not None and metric != "mAP":
        score = float(np.mean([np.mean(r.prediction.argmax(1) == r.target.argmax(1)) for r in rows.values()]))
    if score is not None and metric == "mAP":
        from sklearn.metrics import average_precision_score

        score = float(average_precision_score(rows["test"].target, rows["test"].prediction, average="macro"))
    stem = record_stem(protocol, judge, seed, random_labels)
    record = Record(
        model=_model(model, name or model, trained, family, options or {}, sha256, identity),
        task=TaskFacts(task, origin, "scene", "multiclass", "new_split_kfold", metric, True, {"test": CLIPS}, data),
        protocol=protocol,
        judge=JudgeFacts(judge, [], 1),
        seed=seed,
        score=score,
        scores={metric: score},
        folds=[Fold(split, {metric: score}, 0.5, 20, {"lr": 1e-4}) for split in rows],
        hyper_parameters={"lr": 1e-4},
        predictions=f"{stem}.npz" if predictions else None,
        embeddings=EmbeddingFacts(embeddings, 8, "clips", "cpu", 1.0, 1.0),
        code_sha256="a" * 64,
        finished="2026-01-31T23:59:59Z",
        device="cpu",
        versions=Versions(hear_models="0.1.0", torch=torch),
        wall_s=1.0,
        cpu_s=1.0,
        command=["hear-models", "evaluate", model],
        random_labels=random_labels,
        undefined={metric: undefined} if undefined else {},
    )
    path = record_file(results, record.model, record.task, inputs_of(record), record.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_record(path, record)
    if predictions:
        write_predictions(path.with_suffix(".npz"), rows)
    return path


def _model(
    name: str,
    slug: str,
    trained: bool,
    family: str | None,
    options: dict[str, Any],
    sha256: str | None,
    identity: tuple[str, str] | None,
) -> ModelFacts:
    """`identity`: digests of weights and code; None, as in records of older versions: not known."""
    said = {"name": name, "slug": slug, "module": f"hear_models.{family or 'none'}", "trained": trained}
    said |= {"family": family, "options": options, "checkpoint_sha256": sha256}
    if identity is None:
        return ModelFacts(**said)
    return ModelFacts.identified(weights_sha256=identity[0], code_sha256=identity[1], **said)


def _rows(split: str, seed: int, score: float | None, metric: str, model: str) -> Predictions:
    """The same clips and targets for every model and seed; which of them are right depends on model and seed."""
    target_of = np.random.default_rng(len(split))
    right = np.random.default_rng([seed, *model.encode(), *split.encode()])
    if metric == "mAP":
        target = (target_of.random((CLIPS, CLASSES)) < 0.4).astype(np.float32)
        prediction = target * (score or 0) + right.random((CLIPS, CLASSES)).astype(np.float32)
    else:
        target = np.eye(CLASSES, dtype=np.float32)[target_of.integers(0, CLASSES, CLIPS)]
        wrong = np.roll(target, 1, axis=1)
        prediction = np.where((right.random(CLIPS) < (score or 0))[:, None], target, wrong)
    return Predictions([f"{split}_{i:03}.wav" for i in range(CLIPS)], target, prediction, prediction)


def several(
    results: Path, origin: str = "official", seeds: int = 3, tasks: tuple[str, ...] = (ESC50, FSD, PITCH)
) -> Path:
    """Three models x tasks x seeds: a good one, one nearly as good, a floor."""
    for task in tasks:
        for seed in range(seeds):
            write(results, "mwmae-base", task, seed, 0.85, origin=origin)
            write(results, "mwmae-nano", task, seed, 0.82, origin=origin)
            write(results, "logmel-stats", task, seed, 0.4, origin=origin, family="logmel_stats", sha256=None)
    return results
