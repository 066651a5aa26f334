"""Scores of a tagger on procedural scenes of a stream that no recipe uses, with the score of guessing beside it.

    python benchmarks/tagging.py [MODEL] [--scenes 500] [--seed 9001]

Clips are evaluated as the GISE-51 paper evaluates: repeated or cut to 501 frames, one pass, mAP over classes.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch

from hear_models.datasets.gise51 import multi_hot
from hear_models.datasets.labelled_scenes import KINDS, labelled_scenes
from hear_models.metrics.tagging import TaggingScores, tagging_scores
from hear_models.training.recipe import read_recipe, recipe_names
from hear_models.training.tagging import predict
from hear_models.zoo import load_model

RESAMPLES = 1000


def interval(logits: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mAP over other scenes (bootstrap over scenes)."""
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(logits), (RESAMPLES, len(logits)))
    scores = [tagging_scores(logits[draw], targets[draw]).mean_average_precision for draw in draws]
    return float(np.quantile(scores, 0.025)), float(np.quantile(scores, 0.975))


def table(scores: TaggingScores, targets: np.ndarray, classes: tuple[str, ...]) -> str:
    """A row for each class; guessing has the share of the scenes that hold it."""
    lines = ["| class | average precision | AUC | share of the scenes |", "|---|---|---|---|"]
    for index, name in enumerate(classes):
        precision, auc, share = scores.average_precision[index], scores.auc[index], targets[:, index].mean()
        lines.append(f"| {name} | {precision:.3f} | {auc:.3f} | {share:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="gise51-nano")
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--seed", type=int, default=9001, help="of the stream of scenes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    seeds = {read_recipe(name).seed for name in recipe_names()}
    if arguments.seed in seeds:
        parser.error(f"a recipe learns from seed {arguments.seed}; take another")
    torch.set_num_threads(1)
    model = load_model(arguments.model, family=None)
    if tuple(sorted(model.config.classes)) != tuple(sorted(KINDS)):
        parser.error(f"{arguments.model} does not know the classes of these scenes")
    clips = labelled_scenes(arguments.seed, arguments.scenes)
    targets = np.stack([multi_hot(clip.labels, model.config.classes) for clip in clips])
    logits = predict(model, clips)
    scores = tagging_scores(logits, targets)
    low, high = interval(logits, targets)
    if arguments.json:
        line = {"model": arguments.model, "scenes": len(clips), "seed": arguments.seed, "interval": [low, high]}
        line |= {"mAP": scores.mean_average_precision, "mAUC": scores.mean_auc, "d_prime": scores.d_prime}
        print(json.dumps(line | {"guessing": float(targets.mean())}))
        return
    print(table(scores, targets, model.config.classes))
    print(f"\n{arguments.model}: {scores.summary()}; mAP {low:.3f} to {high:.3f} (95 %, other scenes)")
    print(f"guessing: mAP about {targets.mean():.3f}; {len(clips)} scenes of seed {arguments.seed}")


if __name__ == "__main__":
    main()
