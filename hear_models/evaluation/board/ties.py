"""Which models of a column are as good as its best: the predictions of their records, resampled together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hear_models.errors import HearModelsError
from hear_models.evaluation.board.bootstrap import (
    SUPPORTED,
    Comparison,
    compare_with_best,
    enough_resamples,
    resample,
)
from hear_models.evaluation.board.results import Result
from hear_models.evaluation.runs.record import IMPORTED

SAME_SCORE = 1e-4  # between a record's score and its predictions': float32, and clips of equal outputs


@dataclass(frozen=True)
class Marked:
    """Comparisons by model label; `reason` says why there are none."""

    comparisons: dict[str, Comparison]
    reason: str | None = None


def mark_ties(
    of_model: Mapping[str, Sequence[Result]],
    metric: str,
    best: str,
    resamples: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Marked:
    """Compare every model that has predictions for all its seeds with `best` on the clips of the task.

    `resamples` 0 compares nothing; None takes the default. What cannot be compared has a reason, never an error: the
    table is worth printing without marks.
    """
    if resamples == 0:
        return Marked({}, "not asked for")
    if len(of_model) < 2:
        return Marked({}, "one model only")
    if metric not in SUPPORTED:
        return Marked({}, f"no resampling rule for {metric}")
    there = {name: seeds for name, seeds in of_model.items() if all(seed.predictions_path for seed in seeds)}
    if any(seed.record.judge.name == IMPORTED for seed in of_model[best]):
        return Marked({}, "the kit stores predictions as pickles, which are never opened")
    if best not in there or len(there) < 2:
        return Marked({}, f"no predictions of {best if best not in there else 'the other models'}")
    try:
        resampled = resample(
            {name: [seed.predictions for seed in seeds] for name, seeds in there.items()},
            metric,
            resamples or enough_resamples(len(there) - 1),
            progress=progress,
        )
    except HearModelsError as error:
        return Marked({}, str(error))
    for name, seeds in there.items():
        mean = sum(seed.record.score or 0.0 for seed in seeds) / len(seeds)
        if not abs(resampled.scores[name] - mean) <= SAME_SCORE:
            return Marked({}, f"the predictions of {name} give {resampled.scores[name]:.4f}, its records {mean:.4f}")
    return Marked(compare_with_best(resampled, best))
