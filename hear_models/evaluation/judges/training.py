"""One training of the probe: epochs in fixed order, validation by the primary metric alone, the earliest best kept.

Random numbers are drawn where hear-eval-kit draws them, so a search of its can be repeated bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hear_models.errors import HearModelsError
from hear_models.evaluation.judges.events import FileFrames, frames_by_file, make_events, postprocessing_grid
from hear_models.evaluation.judges.network import LossGradient, Probe, activation, loss
from hear_models.evaluation.judges.rows import Rows, batches
from hear_models.metrics.clips import LOWER_IS_BETTER, SCENE_METRICS, score_clips
from hear_models.metrics.events import EVENT_METRICS, Events, score_events


class Draws:
    """The random numbers of one search: a generator for weights and loaders, one for dropout masks on its device.

    On the CPU they are one and the same, drawn from in the kit's order. The caller's global generators are not touched.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self.cpu = torch.Generator().manual_seed(seed)
        self.masks = self.cpu if device.type == "cpu" else torch.Generator(device).manual_seed(seed)

    def loader(self) -> None:
        """The number that a PyTorch data loader draws whenever it is walked through."""
        torch.empty((), dtype=torch.int64).random_(generator=self.cpu)


@dataclass(frozen=True)
class Goal:
    """What a validation is judged by: a metric of clips or events, or the loss (`metric` None)."""

    metric: str | None
    multilabel: bool
    labels: tuple[str, ...]
    postprocessing: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def of(cls, metadata: Mapping[str, Any], labels: tuple[str, ...]) -> Goal:
        """The task's goal; HearModelsError if its metadata name metrics of another kind of task, or none."""
        metrics, kind = metadata.get("evaluation"), metadata.get("prediction_type")
        event = metadata.get("embedding_type") == "event"
        known = EVENT_METRICS if event else tuple(SCENE_METRICS)
        if not metrics:
            raise HearModelsError("The task's metadata name no metric. Fill in `evaluation`.")
        for metric in metrics:
            if metric not in known:
                raise HearModelsError(
                    f"{metric!r} is no metric of {'an event' if event else 'a scene'} task. Known: {', '.join(known)}."
                )
        if kind not in ("multiclass", "multilabel"):
            raise HearModelsError(f"prediction_type must be multiclass or multilabel, not {kind!r}.")
        ways = postprocessing_grid(metadata) if event else []
        scored = metadata.get("use_scoring_for_early_stopping", True)
        if not scored and len(ways) > 1:
            raise HearModelsError(
                "A task that stops by its loss cannot choose a postprocessing. "
                "Leave one value each in `evaluation_params.event_postprocessing_grid`."
            )
        return cls(metrics[0] if scored else None, kind == "multilabel", labels, ways)

    @property
    def lower_is_better(self) -> bool:
        return self.metric is None or self.metric in LOWER_IS_BETTER

    def better(self, score: float, than: float) -> bool:
        """Strictly better: of equals the earlier stays. A score that is not a number is never better."""
        return score < than if self.lower_is_better else score > than


@dataclass(frozen=True)
class Trained:
    """The best checkpoint of one training: its network, epoch (from 0), validation score and postprocessing."""

    probe: Probe
    checkpoint: list[torch.Tensor]
    epoch: int
    validation_score: float
    hyper_parameters: dict[str, Any]
    postprocessing: dict[str, float] | None


@dataclass(frozen=True)
class Validation:
    """One validation: the score as float32, and the postprocessing it was reached with (event tasks)."""

    score: float
    postprocessing: dict[str, float] | None


def train(
    rows: Rows,
    valid: Rows,
    valid_events: Events,
    goal: Goal,
    hyper_parameters: dict[str, Any],
    draws: Draws,
    *,
    shuffle: bool = False,
) -> Trained:
    """Train one probe on `rows` and return its best checkpoint on `valid`.

    `valid_events` are the reference events of event tasks, file → events (empty otherwise). `shuffle` draws a new order
    of the rows for every epoch, which the kit never does. Raises HearModelsError if no epoch was ever validated.
    """
    batch_size = int(hyper_parameters["batch_size"])
    probe = Probe(
        rows.embeddings.shape[1], rows.targets.shape[1], hyper_parameters, draws.cpu, draws.masks, draws.device
    )
    steps = batches(len(rows), batch_size)
    frames = _frames(valid, goal)
    every, patience = int(hyper_parameters["check_val_every_n_epoch"]), int(hyper_parameters["patience"])
    prepared = [] if shuffle else _prepare(rows, steps, goal)
    best: Trained | None = None
    waited = 0
    for epoch in range(int(hyper_parameters["max_epochs"])):
        draws.loader()
        if shuffle:
            order = torch.randperm(len(rows), generator=draws.cpu).to(draws.device)
            prepared = _prepare(Rows(rows.embeddings[order], rows.targets[order], rows.files), steps, goal)
        for batch, gradient in prepared:
            probe.train_on(batch, gradient)
        if (epoch + 1) % every:
            continue
        draws.loader()
        found = validate(probe, valid, frames, valid_events, goal)
        if best is None or goal.better(found.score, best.validation_score):
            # the kit's checkpoint keeps a first score that is not a number as the worst one there is
            worst = math.inf if goal.lower_is_better else -math.inf
            score = worst if math.isnan(found.score) else found.score
            best = Trained(probe, probe.state(), epoch, score, hyper_parameters, found.postprocessing)
            waited = 0
        else:
            waited += 1
        if waited >= patience or not math.isfinite(found.score):
            break
    if best is None:
        raise HearModelsError(
            f"No epoch was validated: max_epochs {hyper_parameters['max_epochs']} is below "
            f"check_val_every_n_epoch {every}. Change the task's grid."
        )
    probe.workspaces.clear()
    return best


def validate(probe: Probe, valid: Rows, frames: list[FileFrames], reference: Events, goal: Goal) -> Validation:
    """Score a network on a whole split by the goal's metric; of several postprocessings the best one counts."""
    logits = split_logits(probe, valid)
    if goal.metric is None:
        only = goal.postprocessing[0] if goal.postprocessing else None
        return Validation(_float32(loss(logits, valid.targets, goal.multilabel)), only)
    prediction = activation(logits, goal.multilabel).cpu().numpy()
    if goal.metric not in EVENT_METRICS:
        return Validation(score_clips(goal.metric, prediction, valid.targets.cpu().numpy()), None)
    ways = goal.postprocessing
    scores = [
        score_events(goal.metric, events, reference, goal.labels)[goal.metric]
        for events in make_events(prediction, frames, goal.labels, ways)
    ]
    # As in the kit: not a number counts 0, the largest score wins (for error rates too), of equals the larger settings
    chosen = max(
        range(len(ways)), key=lambda way: (0.0 if math.isnan(scores[way]) else scores[way], [*ways[way].values()])
    )
    return Validation(scores[chosen], ways[chosen])


def split_logits(probe: Probe, rows: Rows) -> torch.Tensor:
    """Logits of a whole split, in batches of the training's size as the kit forms them (the size may decide bits)."""
    size = int(probe.hyper_parameters["batch_size"])
    parts = [probe.logits(rows.embeddings[step]) for step in batches(len(rows), size)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _prepare(rows: Rows, steps: list[slice], goal: Goal) -> list[tuple[torch.Tensor, LossGradient]]:
    return [(rows.embeddings[step], LossGradient(rows.targets[step], goal.multilabel)) for step in steps]


def _frames(rows: Rows, goal: Goal) -> list[FileFrames]:
    if goal.metric not in EVENT_METRICS or rows.timestamps_ms is None:
        return []
    return frames_by_file(rows.files, rows.timestamps_ms)


def _float32(value: float) -> float:
    return float(np.float32(value))
