"""The figures of a leaderboard: mean and half width over seeds, the aggregate s(m), and Holm's correction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hear_models.errors import UsageError

LEVEL = 0.95  # of every interval here


@dataclass(frozen=True)
class Interval:
    """Mean of n values and the half width of the two-sided 95 % Student interval, in the values' own unit.

    `half_width` is None for n = 1, where nothing is known of the spread, and 0.0 where all values are equal.
    """

    n: int
    mean: float
    half_width: float | None


def interval(values: Iterable[float]) -> Interval:
    """Mean and half width t(0.975, n-1) * s / sqrt(n), s with n-1: the papers' "mean ± h".

    Over the seeds of the probe it says how much of a score is the probe's luck; it says nothing of pretraining.
    Raises UsageError for no value at all.
    """
    x = np.asarray(list(values), dtype=np.float64)
    if x.size == 0:
        raise UsageError("There is no value to average. Give the scores of at least one seed.")
    if x.size == 1:
        return Interval(1, float(x[0]), None)
    if (x == x[0]).all():  # the rounding of a mean must not make a width out of equal values
        return Interval(x.size, float(x[0]), 0.0)
    return Interval(x.size, float(x.mean()), student_quantile(x.size - 1) * float(x.std(ddof=1)) / x.size**0.5)


def student_quantile(degrees_of_freedom: int) -> float:
    """The 97.5 % quantile of Student's distribution: 2.2622 for 9 degrees of freedom, ten seeds."""
    try:
        from scipy.special import stdtrit
    except ImportError as error:
        raise UsageError("The leaderboard needs scipy. Install it: pip install 'hear-models[eval]'") from error
    return float(stdtrit(degrees_of_freedom, (1 + LEVEL) / 2))


@dataclass(frozen=True)
class Aggregate:
    """s(m) of every model of a pool, in points: 0 is the weakest model of the pool on every task, 100 the best.

    `ranges` task → (worst, best) of the models' means; `of_means` model → s of its means; `intervals` model → mean and
    half width of s over the seeds that the model has on every task (None without one); `seeds` model → those seeds,
    `per_seed` model → s of each, in that order.
    """

    tasks: tuple[str, ...]
    ranges: dict[str, tuple[float, float]]
    of_means: dict[str, float]
    per_seed: dict[str, list[float]]
    seeds: dict[str, list[int]]
    intervals: dict[str, Interval | None]


def aggregate(
    scores: Mapping[str, Mapping[str, Mapping[int, float]]],
    tasks: Sequence[str],
    lower_is_better: frozenset[str] = frozenset(),
) -> Aggregate:
    """s(m) over `tasks` from model → task → seed → score; the pool is every model given.

    s(m) = 100/|T| * sum over tasks of (x - worst) / (best - worst), worst and best being means over seeds within the
    pool; a task on which all means are equal adds 0. So s(m) of another pool, or of other tasks, cannot be compared
    with this one. Raises UsageError if a model lacks a task, or there is no model or task.
    """
    if not scores or not tasks:
        raise UsageError("s(m) needs at least one model and one task.")
    for model, of_task in scores.items():
        if lacking := [task for task in tasks if not of_task.get(task)]:
            raise UsageError(
                f"{model} has no score on {', '.join(lacking)}, so s(m) cannot be formed over these tasks. "
                "Evaluate it there, or choose the tasks that all models have."
            )
    means = {model: {task: interval(of[task].values()).mean for task in tasks} for model, of in scores.items()}
    ranges = {}
    for task in tasks:
        column = [mean[task] for mean in means.values()]
        ranges[task] = (max(column), min(column)) if task in lower_is_better else (min(column), max(column))

    def s(x: Mapping[str, float]) -> float:
        parts = [(x[t] - ranges[t][0]) / (ranges[t][1] - ranges[t][0]) for t in tasks if ranges[t][0] != ranges[t][1]]
        return 100.0 * sum(parts) / len(tasks)

    seeds = {model: sorted(set.intersection(*(set(of[task]) for task in tasks))) for model, of in scores.items()}
    per_seed = {
        model: [s({task: of[task][seed] for task in tasks}) for seed in seeds[model]] for model, of in scores.items()
    }
    return Aggregate(
        tasks=tuple(tasks),
        ranges=ranges,
        of_means={model: s(mean) for model, mean in means.items()},
        per_seed=per_seed,
        seeds=seeds,
        intervals={model: interval(values) if values else None for model, values in per_seed.items()},
    )


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction: each p value times the number of those not smaller, made monotone, at most 1."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p, key=lambda name: p[name])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[name]))
        adjusted[name] = largest
    return adjusted
