"""Our own judge: the kit's prediction step as a plain loop, with the kit's bits in a fraction of its time.

`judge` takes an embedding folder, a protocol and a seed, searches hyper-parameters on the first
split, trains the remaining folds with the best ones, and scores every test split. On one machine its logits are those
of hear-eval-kit 2021.1.3 to the last bit (CPU, one thread, the same torch). Another kind of processor multiplies
matrices in another order, for the kit as for us, and gives other last bits.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hear_models.evaluation.embeddings.folder import EmbeddingFolder
from hear_models.evaluation.judges.events import frames_by_file, make_events
from hear_models.evaluation.judges.network import activation
from hear_models.evaluation.judges.outcome import (
    Fold,
    Outcome,
    Predictions,
    Reasons,
    by_metric,
    mean_scores,
    why_events_undefined,
    why_undefined,
)
from hear_models.evaluation.judges.protocols import Protocol
from hear_models.evaluation.judges.rows import DataSplit, Rows, data_splits, read_rows, training_rows
from hear_models.evaluation.judges.training import Draws, Goal, Trained, split_logits, train
from hear_models.metrics.clips import finite, score_clips
from hear_models.metrics.events import EVENT_METRICS, Events, score_events

NAME = "builtin"
THREADS = 1


@dataclass(frozen=True)
class _Tested:
    """One test split: its scores (not yet cleaned of infinities), what was predicted, and its events."""

    scores: dict[str, float]
    predictions: Predictions
    events: dict[str, list[dict[str, Any]]]
    undefined: Reasons


def judge(
    folder: EmbeddingFolder,
    protocol: Protocol,
    seed: int,
    *,
    device: str = "cpu",
    random_labels: bool = False,
) -> Outcome:
    """Judge one folder of embeddings under one seed.

    Computes on one thread, whatever torch is set to (and sets it back): so the bits do not depend on the number of
    cores, and several judges run side by side as processes. The thread count belongs to the process, so run no other
    torch work in threads beside this. All random numbers come from generators of its own; those of torch, numpy and
    `random` are left alone. On a GPU the first weights are the same, the dropout masks are not.

    `random_labels` shuffles the labels over the rows of each split: the score must then be that of chance.
    Raises EmbeddingFolderError for a folder that cannot be used (NaN, infinity, differing widths, missing files) and
    HearModelsError for metadata that make no sense.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    with _one_thread(), torch.inference_mode():
        search = _Search(folder, protocol, seed, torch.device(device), random_labels)
        plans = data_splits(folder.metadata)
        trained = [search.best_on(plans[0])]
        trained += [search.train(plan, trained[0].hyper_parameters) for plan in plans[1:]]
        tested = {plan.test: search.test(plan, best) for plan, best in zip(plans, trained, strict=True)}
    folds = [
        Fold(
            plan.test,
            {name: finite(value) for name, value in tested[plan.test].scores.items()},
            finite(best.validation_score),
            best.epoch,
            dict(best.hyper_parameters),
        )
        for plan, best in zip(plans, trained, strict=True)
    ]
    primary = str(folder.metadata["evaluation"][0])
    means = mean_scores(folds)
    return Outcome(
        score=means[primary],
        scores=means,
        folds=folds,
        hyper_parameters=dict(trained[0].hyper_parameters),
        predictions={name: found.predictions for name, found in tested.items()},
        judge=NAME,
        shims=[],
        threads=THREADS,
        wall_s=time.perf_counter() - wall,
        cpu_s=time.process_time() - cpu,
        warnings=list(search.warnings),
        postprocessing=dict(trained[0].postprocessing or {}),
        events={name: found.events for name, found in tested.items() if found.events},
        undefined=by_metric({name: found.undefined for name, found in tested.items()}),
    )


class _Search:
    """The state of one judgement: rows of every split, the generators, and the warnings on the way."""

    def __init__(
        self, folder: EmbeddingFolder, protocol: Protocol, seed: int, device: torch.device, random_labels: bool
    ) -> None:
        self.folder, self.protocol = folder, protocol
        self.goal = Goal.of(folder.metadata, folder.labels)
        self.rows = read_rows(folder, device, random_labels=random_labels, seed=seed)
        self.draws = Draws(seed, device)
        self.points = protocol.points(folder.metadata)
        random.Random(seed).shuffle(self.points)
        self.warnings: list[str] = []

    def best_on(self, plan: DataSplit) -> Trained:
        """Train the first points of the shuffled grid; the best validation score wins, of equals the first tried."""
        best: Trained | None = None
        for point in self.points[: self.protocol.grid_points]:
            found = self.train(plan, point)
            if best is None or self.goal.better(found.validation_score, best.validation_score):
                best = found
        assert best is not None, "a grid has at least one point"
        return best

    def train(self, plan: DataSplit, hyper_parameters: dict[str, Any]) -> Trained:
        """One training on the plan's training folds, validated on its validation split."""
        rows, warnings = training_rows(self.rows, plan.train, int(hyper_parameters["batch_size"]))
        self.warnings += [warning for warning in warnings if warning not in self.warnings]
        valid = self.rows[plan.valid]
        reference = self._reference(plan.valid)
        shuffle = self.protocol.shuffle_train
        return train(rows, valid, reference, self.goal, hyper_parameters, self.draws, shuffle=shuffle)

    def test(self, plan: DataSplit, best: Trained) -> _Tested:
        """Every metric of the task on the test split, with the best checkpoint and its postprocessing."""
        rows = self.rows[plan.test]
        best.probe.restore(best.checkpoint)
        logits = split_logits(best.probe, rows)
        outputs = activation(logits, self.goal.multilabel).cpu().numpy()
        target = rows.targets.cpu().numpy()
        predictions = Predictions(list(rows.files), target, outputs, logits.cpu().numpy(), rows.timestamps_ms)
        metrics = [str(metric) for metric in self.folder.metadata["evaluation"]]
        if not set(metrics) & set(EVENT_METRICS):
            scores = {metric: score_clips(metric, outputs, target) for metric in metrics}
            return _Tested(scores, predictions, {}, why_undefined(scores, outputs, target, self.folder.labels))
        events = self._events(rows, outputs, best)
        reference = self._reference(plan.test)
        scores = {}
        for metric in metrics:
            scores.update(score_events(metric, events, reference, self.folder.labels))
        return _Tested(scores, predictions, events, why_events_undefined(scores, events, reference))

    def _events(self, rows: Rows, outputs: np.ndarray, best: Trained) -> dict[str, list[dict[str, Any]]]:
        assert rows.timestamps_ms is not None and best.postprocessing is not None, "event metrics: event tasks only"
        frames = frames_by_file(rows.files, rows.timestamps_ms)
        return make_events(outputs, frames, self.folder.labels, [best.postprocessing])[0]

    def _reference(self, split: str) -> Events:
        return self.folder.events(split) if self.goal.postprocessing else {}


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)
