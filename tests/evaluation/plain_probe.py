"""The kit's prediction step spelled out with torch's own modules, to hold the fast one against on any machine.

As hear-eval-kit does it, nothing saved: nn.Module, autograd, torch.optim.Adam, and the global generators.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

Score = Callable[[torch.Tensor, torch.Tensor], float]  # (logits, targets) → larger is better


def network(dim: int, classes: int, point: dict[str, Any]) -> nn.Sequential:
    initialise = getattr(nn.init, point["initialization"] + "_")
    layers: list[nn.Module] = []
    gain = 1.0
    for _ in range(point["hidden_layers"]):
        linear = nn.Linear(dim, point["hidden_dim"])
        initialise(linear.weight, gain=gain)
        layers += [linear, nn.BatchNorm1d(point["hidden_dim"]), nn.Dropout(point["dropout"]), nn.ReLU()]
        dim, gain = point["hidden_dim"], nn.init.calculate_gain("relu")
    last = nn.Linear(dim, classes)
    initialise(last.weight, gain=gain)
    return nn.Sequential(*layers, last)


def loss_of(logits: torch.Tensor, targets: torch.Tensor, multilabel: bool) -> torch.Tensor:
    if multilabel:
        return nn.functional.binary_cross_entropy_with_logits(logits, targets)
    return nn.functional.cross_entropy(logits, targets.argmax(1))


def train(rows, valid, point: dict[str, Any], multilabel: bool, score: Score):
    """(validation score, epoch, network at that epoch); rows and valid are (embeddings, targets)."""
    size = point["batch_size"]
    net = network(rows[0].shape[1], rows[1].shape[1], point)
    torch.rand(64, rows[0].shape[1])  # the summary printer's input
    optimiser = torch.optim.Adam(net.parameters(), lr=point["lr"])
    best, waited = None, 0
    for epoch in range(point["max_epochs"]):
        torch.empty((), dtype=torch.int64).random_()  # the training loader's seed
        net.train()
        for start in range(0, len(rows[0]), size):
            optimiser.zero_grad()
            loss_of(net(rows[0][start : start + size]), rows[1][start : start + size], multilabel).backward()
            optimiser.step()
        if (epoch + 1) % point["check_val_every_n_epoch"]:
            continue
        torch.empty((), dtype=torch.int64).random_()  # the validation loader's seed
        net.eval()
        with torch.no_grad():
            found = float(np.float32(score(net(valid[0]), valid[1])))
        if best is None or found > best[0]:
            best = (found, epoch, {name: value.clone() for name, value in net.state_dict().items()})
            waited = 0
        else:
            waited += 1
        if waited >= point["patience"]:
            break
    net.load_state_dict(best[2])
    net.eval()
    return best[0], best[1], net


def search(splits, plans, points: list[dict[str, Any]], tried: int, seed: int, multilabel: bool, score: Score):
    """(test split, validation score, epoch, test logits) of each plan (train names, valid, test); one thread."""
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    points = list(points)
    random.Random(seed).shuffle(points)

    def trained(plan, point):
        rows = [torch.cat([splits[name][part] for name in plan[0]]) for part in (0, 1)]
        return train(rows, splits[plan[1]], point, multilabel, score)

    try:
        first = [(trained(plans[0], point), point) for point in points[:tried]]
        best, point = max(first, key=lambda pair: pair[0][0])  # of equals the first
        results = [best] + [trained(plan, point) for plan in plans[1:]]
        with torch.no_grad():
            return [
                (plan[2], value, epoch, net(splits[plan[2]][0]).numpy())
                for plan, (value, epoch, net) in zip(plans, results, strict=True)
            ]
    finally:
        torch.random.set_rng_state(before)
        torch.set_num_threads(threads)
