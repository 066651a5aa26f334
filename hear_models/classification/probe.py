"""A probe on embeddings, the linear one here, and what it is worth on recordings of groups that it never saw."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hear_models.errors import UsageError
from hear_models.metrics.clips import average_precision

C_GRID = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
FOLDS, INNER_FOLDS = 5, 3
RESAMPLES = 1000
THRESHOLD = 0.5  # of a chance, where a recording may have several labels


@dataclass(frozen=True)
class Probe:
    """Standardised embeddings, perhaps hidden layers, and a matrix.

    Attributes:
        classes: in the order of the rows.
        multilabel: chances are a sigmoid each, else a softmax.
        mean, scale: float32 [dim]. coef: float32 [classes, dim, or the width of the last hidden layer].
        intercept: float32 [classes].
        hidden: of each layer its weight, float32 [width, inputs], and bias, float32 [width]; a rectifier follows.
    """

    classes: tuple[str, ...]
    multilabel: bool
    mean: np.ndarray
    scale: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    hidden: tuple[tuple[np.ndarray, np.ndarray], ...] = ()

    def chances(self, embeddings: np.ndarray) -> np.ndarray:
        """Embeddings [rows, dim] → probabilities [rows, classes]."""
        x = (embeddings.astype(np.float64) - self.mean) / self.scale
        for weight, bias in self.hidden:
            x = np.maximum(x @ weight.T.astype(np.float64) + bias, 0.0)
        logits = x @ self.coef.T.astype(np.float64) + self.intercept
        if self.multilabel:
            return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500))))
        weights = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(weights / weights.sum(1, keepdims=True))


@dataclass(frozen=True)
class PerClass:
    """Of one class, on recordings that were held out."""

    name: str
    recordings: int
    precision: float | None  # None: never said
    recall: float
    average_precision: float | None


@dataclass(frozen=True)
class Figures:
    """What cross-validation says; shares between 0 and 1.

    Attributes:
        metric: "accuracy", or with several labels "mAP".
        score, low, high: its value, and 95 % interval by a bootstrap over groups.
        floor: of saying the commonest class always (mAP: of chance, the mean share of a class).
        logmel: the same probe on `logmel_stats`, statistics of a spectrogram; None: not asked for.
        folds: how many. groups: how many that were kept together. recordings: how many.
        confusion: [classes, classes], row: the label, column: what was said; None with several labels.
    """

    metric: str
    score: float
    low: float
    high: float
    floor: float
    logmel: float | None
    folds: int
    groups: int
    recordings: int
    per_class: tuple[PerClass, ...]
    confusion: tuple[tuple[int, ...], ...] | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def targets_of(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> np.ndarray:
    """[recordings, classes], 1 where a recording has the label."""
    return np.array([[name in said for name in classes] for said in labels], dtype=np.int64)


def check_groups(targets: np.ndarray, groups: Sequence[str], classes: Sequence[str]) -> int:
    """How many folds there can be. UsageError for a class that lies in one group only: nothing can be held out."""
    fewest = len(set(groups))
    for name, column in zip(classes, targets.T, strict=True):
        places = len({group for group, has in zip(groups, column, strict=True) if has})
        if places < 2:
            raise UsageError(
                f"the class {name!r} has recordings of one group only, so that it cannot be tested on another. Record "
                "more, or leave it out."
            )
        fewest = min(fewest, places)
    return min(FOLDS, fewest)


def fit_probe(
    x: np.ndarray, targets: np.ndarray, groups: Sequence[str], classes: Sequence[str], multilabel: bool
) -> Probe:
    """L2-regularised logistic regression; its strength is chosen by cross-validation over groups."""
    mean = x.mean(0, dtype=np.float64)
    scale = x.std(0, dtype=np.float64)
    scale[scale < 1e-8] = 1.0  # a constant feature says nothing
    fitted = _search((x - mean) / scale, targets, groups, multilabel)
    estimators = fitted.estimators_ if multilabel else [fitted]
    if multilabel:
        rows = [_row(estimator, x.shape[1]) for estimator in estimators]
        coef, intercept = np.stack([row[0] for row in rows]), np.array([row[1] for row in rows])
    else:
        coef, intercept = fitted.coef_, fitted.intercept_
        if len(classes) == 2:  # one row says both: the first class has logit 0
            coef = np.concatenate([np.zeros_like(coef), coef])
            intercept = np.concatenate([np.zeros_like(intercept), intercept])
    mean, scale, coef, intercept = (np.asarray(array, np.float32) for array in (mean, scale, coef, intercept))
    return Probe(tuple(classes), multilabel, mean, scale, coef, intercept)


def _row(estimator: Any, dim: int) -> tuple[np.ndarray, float]:
    """Weights and bias of one label; a label that all have, or none, is a constant."""
    if hasattr(estimator, "coef_"):
        return estimator.coef_[0], float(estimator.intercept_[0])
    always = float(estimator.predict(np.zeros((1, dim)))[0])
    return np.zeros(dim), 20.0 if always else -20.0


def _search(x: np.ndarray, targets: np.ndarray, groups: Sequence[str], multilabel: bool) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.multiclass import OneVsRestClassifier

    regression = LogisticRegression(max_iter=1000)
    wanted: Any = targets if multilabel else targets.argmax(1)
    probe: Any = OneVsRestClassifier(regression) if multilabel else regression
    name = "estimator__C" if multilabel else "C"
    folds = group_folds(targets, groups, multilabel, INNER_FOLDS)
    scoring = "average_precision" if multilabel else "accuracy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that are absent from a fold
        if not folds:  # too few to choose by
            return probe.fit(x, wanted)
        search = GridSearchCV(probe, {name: list(C_GRID)}, cv=folds, scoring=scoring, error_score=0.0)
        return search.fit(x, wanted).best_estimator_


def group_folds(
    targets: np.ndarray, groups: Sequence[str], multilabel: bool, most: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """At most so many (rows to train on, rows of other groups); none where there are too few recordings."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    n = min(most, len(set(groups)), len(targets) if multilabel else int(targets.sum(0).max()))
    if n < 2:
        return []
    kind = GroupKFold(n) if multilabel else StratifiedGroupKFold(n, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes of fewer recordings than folds
        return list(kind.split(targets, targets.argmax(1), list(groups)))


Fit = Callable[[np.ndarray, np.ndarray, Sequence[str], Sequence[str], bool], Probe]


def held_out_chances(
    x: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[str],
    classes: Sequence[str],
    multilabel: bool,
    folds: int,
    fit: Fit = fit_probe,
) -> np.ndarray:
    """[recordings, classes], each by a probe, made by `fit`, that saw no recording of its group."""
    said = np.zeros(targets.shape)
    for train, test in group_folds(targets, groups, multilabel, folds):
        there = targets[train].any(0)
        if not multilabel and there.sum() < 2:
            said[test] = there  # a single class is left to learn from
            continue
        names = [name for name, is_there in zip(classes, there, strict=True) if is_there]
        probe = fit(x[train], targets[train][:, there], [groups[i] for i in train], names, multilabel)
        said[np.ix_(test, there)] = probe.chances(x[test])
    return said


def figures(
    chances: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[str],
    classes: Sequence[str],
    multilabel: bool,
    folds: int,
    logmel: np.ndarray | None = None,
) -> Figures:
    """What held-out chances [recordings, classes] are worth; `logmel` are those of the baseline."""
    said = chances >= THRESHOLD if multilabel else _one_hot(chances)
    hits, n = (said & (targets > 0)).sum(0), targets.sum(0)
    precision = [int(hit) / int(count) if count else None for hit, count in zip(hits, said.sum(0), strict=True)]
    each = [float(value) for value in average_precision(chances, targets)]
    rows = tuple(
        PerClass(name, int(n[i]), precision[i], int(hits[i]) / int(n[i]), each[i] if multilabel else None)
        for i, name in enumerate(classes)
    )
    score = _mean_ap if multilabel else _accuracy
    low, high = _interval(chances, targets, groups, score)
    floor = float(targets.mean()) if multilabel else float(targets.mean(0).max())
    confusion = None if multilabel else tuple(tuple(map(int, row)) for row in targets.T @ said.astype(np.int64))
    return Figures(
        "mAP" if multilabel else "accuracy",
        score(chances, targets),
        low,
        high,
        floor,
        None if logmel is None else score(logmel, targets),
        folds,
        len(set(groups)),
        len(targets),
        rows,
        confusion,
    )


def _one_hot(chances: np.ndarray) -> np.ndarray:
    said = np.zeros(chances.shape, dtype=bool)
    said[np.arange(len(said)), chances.argmax(1)] = True
    return said


def _accuracy(chances: np.ndarray, targets: np.ndarray) -> float:
    return float((chances.argmax(1) == targets.argmax(1)).mean())


def _mean_ap(chances: np.ndarray, targets: np.ndarray) -> float:
    there = targets.any(0)
    return float(np.mean(average_precision(chances[:, there], targets[:, there])))


def _interval(chances: np.ndarray, targets: np.ndarray, groups: Sequence[str], score: Any) -> tuple[float, float]:
    """95 % by drawing groups again: recordings of one group are not independent of each other."""
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    names, rng = sorted(members), np.random.default_rng(0)
    values = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([members[names[i]] for i in rng.integers(0, len(names), len(names))])
        values.append(score(chances[rows], targets[rows]))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
