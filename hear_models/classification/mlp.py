"""The papers' probe as a classifier: the network that HEAR's kit trains, its early stopping, and the papers' grid."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch

from hear_models.classification.probe import Probe, group_folds
from hear_models.evaluation.judges import network
from hear_models.evaluation.judges.protocols import PROTOCOLS
from hear_models.evaluation.judges.rows import Rows
from hear_models.evaluation.judges.training import Draws, Goal, train

PROTOCOL = PROTOCOLS["paper"]
VALIDATION_PARTS = 4  # groups in one of so many parts stop the training
SEED = 0


def fit_mlp(
    x: np.ndarray, targets: np.ndarray, groups: Sequence[str], classes: Sequence[str], multilabel: bool
) -> Probe:
    """One hidden layer, batch normalisation, dropout and Adam; groups of a quarter say when to stop and which dropout.

    Unlike the kit the rows are drawn in a new order for every epoch: here they lie sorted by class.
    """
    train_rows, valid_rows = _parted(targets, groups, multilabel)
    points = PROTOCOL.points({})
    random.Random(SEED).shuffle(points)
    if len(train_rows) % int(points[0]["batch_size"]) == 1:  # no batch of one row
        train_rows = train_rows[:-1]
    goal = Goal("mAP" if multilabel else "top1_acc", multilabel, tuple(classes))
    draws, best = Draws(SEED, torch.device("cpu")), None
    with torch.inference_mode():
        rows, valid = (_rows(x, targets, part) for part in (train_rows, valid_rows))
        for point in points[: PROTOCOL.grid_points]:
            found = train(rows, valid, {}, goal, point, draws, shuffle=True)
            if best is None or goal.better(found.validation_score, best.validation_score):
                best = found
        assert best is not None, "a grid has at least one point"
        best.probe.restore(best.checkpoint)
    return _as_probe(best.probe, classes, multilabel)


def _rows(x: np.ndarray, targets: np.ndarray, part: np.ndarray) -> Rows:
    embeddings, labels = (torch.from_numpy(np.ascontiguousarray(a[part], np.float32)) for a in (x, targets))
    return Rows(embeddings, labels, [str(row) for row in part])


def _parted(targets: np.ndarray, groups: Sequence[str], multilabel: bool) -> tuple[np.ndarray, np.ndarray]:
    """(rows to train on, rows of other groups to validate on), in the way that leaves most classes to train on."""
    everything = np.arange(len(targets))
    parts = group_folds(targets, groups, multilabel, VALIDATION_PARTS) or [(everything, everything)]
    chosen = max(parts, key=lambda part: int(targets[part[0]].any(0).sum()))
    return chosen if len(chosen[0]) > 1 else (everything, everything)


def _as_probe(trained: network.Probe, classes: Sequence[str], multilabel: bool) -> Probe:
    """Matrices alone: dropout does nothing any more, and batch normalisation is a scale and a shift."""
    weights = {name: tensor.double() for name, tensor in trained.parameters.items()}
    hidden = []
    for layer in range(trained.depth):
        deviation = (trained.running_var[layer].double() + network.BATCH_NORM_EPS).sqrt()
        scale = weights[f"scale{layer}"] / deviation
        bias = scale * (weights[f"bias{layer}"] - trained.running_mean[layer].double()) + weights[f"shift{layer}"]
        weight = scale[:, None] * weights[f"weight{layer}"]
        hidden.append((weight.float().numpy(), bias.float().numpy()))
    last = trained.depth
    coef, intercept = (weights[f"{name}{last}"].float().numpy() for name in ("weight", "bias"))
    dim = trained.parameters["weight0"].shape[1]
    zeros, ones = np.zeros(dim, np.float32), np.ones(dim, np.float32)
    return Probe(tuple(classes), multilabel, zeros, ones, coef, intercept, tuple(hidden))
