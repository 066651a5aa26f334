"""Which models are as good as the best: a paired bootstrap over the test clips of a task.

Every resample draws clips with replacement, the same clips for every model and seed, and computes the task's primary
metric again; a model's score is the mean over its seeds. In a k-fold task clips are drawn within each fold, and the
score is the mean over folds, as the task defines it. Resamples are kept as multiplicities, so that a resample of an
accuracy is a product of matrices, and one of a ranking metric a product with a sparse matrix per class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hear_models.errors import HearModelsError
from hear_models.evaluation.board.statistics import holm
from hear_models.evaluation.judges.outcome import Predictions

RESAMPLES = 2_000
SEED = 0
ALPHA = 0.05
SUPPORTED = ("top1_acc", "pitch_acc", "chroma_acc", "mAP", "aucroc")
CLASSES_IN_OCTAVE = 12
BLOCK = 256  # resamples at a time: measured fastest of 64, 256, 2000 for 10,231 clips

# one model: for each seed what loads its rows, test split → rows; one seed's rows are in memory at a time
Seeds = Sequence[Callable[[], Mapping[str, Predictions]]]


class BootstrapError(HearModelsError):
    """Predictions that cannot be resampled together: other clips, other targets, a metric without a rule."""


@dataclass(frozen=True)
class Resampled:
    """`scores`: model → metric on the clips as they are; `samples`: model → metric on each resample [resamples]."""

    scores: dict[str, float]
    samples: dict[str, np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """A model against the best one: difference (best minus model, in the metric's unit), its two-sided p, Holm's p."""

    best: str
    difference: float
    p: float
    p_holm: float

    @property
    def tied(self) -> bool:
        """Not significantly different from the best at the 5 % level after the correction."""
        return self.p_holm >= ALPHA


def resample(
    models: Mapping[str, Seeds],
    metric: str,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    progress: Callable[[str], None] | None = None,
) -> Resampled:
    """The metric of every model on the same `resamples` resamples of the test clips; `progress` hears what runs.

    `metric` is one of SUPPORTED. Raises BootstrapError if the models were not tested on the same clips with the same
    targets. A class without positives in a resample counts 0 for mAP, as in the metric itself; a resample in which a
    class has no positives or no negatives is NaN for aucroc.
    """
    if metric not in SUPPORTED:
        raise BootstrapError(f"clips of {metric} are not resampled; only of {', '.join(SUPPORTED)}")
    first_name, first = next((name, seeds[0]()) for name, seeds in models.items())
    reference = {split: _reference(first_name, split, rows) for split, rows in sorted(first.items())}
    generator = np.random.default_rng(seed)
    counts = {split: _counts(generator, len(files), resamples) for split, (files, _) in reference.items()}
    totals = {name: np.zeros(1 + resamples) for name in models}
    for name, seeds in models.items():
        for number, load in enumerate(seeds):
            if progress:
                progress(f"{name}, seed {number + 1} of {len(seeds)}")
            of_split = load()
            if set(of_split) != set(reference):
                raise BootstrapError(f"{name} and {first_name} were tested on different splits")
            for split, (files, target) in reference.items():
                output = _aligned(name, split, of_split[split], files, target)
                totals[name] += _resampled_metric(metric, target, output, counts[split])
        totals[name] /= len(seeds) * len(reference)
    return Resampled(
        {name: float(total[0]) for name, total in totals.items()}, {name: total[1:] for name, total in totals.items()}
    )


def _counts(generator: np.random.Generator, clips: int, resamples: int) -> list[np.ndarray]:
    """How often each resample holds each clip, the clips as they are first: blocks of [clips, up to BLOCK].

    A block stays in a core's cache; its integers are the smallest that can hold a sum over clips.
    """
    kind = np.uint16 if clips < 2**16 else np.uint32
    blocks = [np.ones((clips, 1), dtype=kind)]
    for start in range(0, resamples, BLOCK):
        draws = generator.multinomial(clips, np.full(clips, 1 / clips), size=min(BLOCK, resamples - start))
        blocks.append(np.ascontiguousarray(draws.T.astype(kind)))
    return blocks


def compare_with_best(resampled: Resampled, best: str) -> dict[str, Comparison]:
    """Every other model against `best`: p is twice the smaller tail of the resampled differences around zero.

    Tails count the observed sample as one of the resamples, so that p is never 0.
    """
    p, difference = {}, {}
    for name, samples in resampled.samples.items():
        if name == best:
            continue
        delta = resampled.samples[best] - samples
        delta = delta[np.isfinite(delta)]
        smaller_tail = min(int((delta <= 0).sum()), int((delta >= 0).sum()))
        p[name] = min(1.0, 2 * (1 + smaller_tail) / (1 + delta.size))
        difference[name] = resampled.scores[best] - resampled.scores[name]
    corrected = holm(p)
    return {name: Comparison(best, difference[name], p[name], corrected[name]) for name in p}


def enough_resamples(comparisons: int) -> int:
    """RESAMPLES, or as many as Holm's smallest level needs: the smallest p is 2 / (resamples + 1)."""
    return max(RESAMPLES, round(4 * max(comparisons, 1) / ALPHA))


# ----------------------------------------------------------------------------------------------------- the same clips
def _reference(name: str, split: str, rows: Predictions) -> tuple[list[str], np.ndarray]:
    """The files of a split in sorted order, and their targets [clips, classes]."""
    if rows.timestamps_ms is not None:
        raise BootstrapError("rows of an event task are not clips; only scene tasks are resampled")
    if len(set(rows.files)) < len(rows.files) or len(rows.files) != len(rows.target):
        raise BootstrapError(f"the predictions of {name} do not name each clip of {split} once")
    order = sorted(range(len(rows.files)), key=lambda i: rows.files[i])
    return [rows.files[i] for i in order], np.asarray(rows.target)[order]


def _aligned(name: str, split: str, rows: Predictions, files: list[str], target: np.ndarray) -> np.ndarray:
    """A model's outputs [clips, classes] in the order of `files`."""
    place = {file: i for i, file in enumerate(rows.files)}
    if len(place) != len(files) or any(file not in place for file in files):
        raise BootstrapError(f"{name} was tested on other clips of {split} than the others")
    order = [place[file] for file in files]
    if not np.array_equal(np.asarray(rows.target)[order], target):
        raise BootstrapError(f"{name} was tested with other labels of {split} than the others")
    return np.asarray(rows.prediction)[order]


# ------------------------------------------------------------------------------------------------------------- metrics
def _resampled_metric(metric: str, target: np.ndarray, output: np.ndarray, blocks: Sequence[np.ndarray]) -> np.ndarray:
    """The metric of `output` [clips, classes] for each column of the blocks, the clips as they are first."""
    if metric in ("mAP", "aucroc"):
        of_class = _average_precision if metric == "mAP" else _area_under_roc
        per_class = (of_class(target[:, c] > 0, output[:, c], blocks) for c in range(target.shape[1]))
        return np.sum(list(per_class), axis=0) / target.shape[1]
    octave = CLASSES_IN_OCTAVE if metric == "chroma_acc" else np.iinfo(np.int64).max
    correct = (output.argmax(1) % octave == target.argmax(1) % octave).astype(np.float64)
    return np.concatenate([correct @ block for block in blocks]) / len(target)


def _thresholds(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows by falling score, and where in that order each group of equal scores that holds a positive starts and ends.

    These ends are the thresholds at which recall changes.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])) + 1, len(order))
    starts = np.append(0, ends[:-1])
    holds = np.add.reduceat(positive[order].astype(np.int64), starts) > 0
    return order, starts[holds], ends[holds]


def _summing(rows: np.ndarray, ends: np.ndarray, kept: np.ndarray, kind: Any) -> Any:
    """Sparse [segments, clips]: times counts it gives, for each segment of `rows`, the sum over its `kept` rows."""
    from scipy.sparse import csr_matrix

    rows = rows[: ends[-1]]
    pointers = np.append(0, np.append(0, np.cumsum(kept[rows]))[ends])
    rows = rows[kept[rows]]
    return csr_matrix((np.ones(len(rows), dtype=kind), rows, pointers), (len(ends), len(kept)))


def _running_sum(rows: np.ndarray) -> np.ndarray:
    """np.cumsum(rows, axis=0), row by row: measured ten times faster for 190 rows of 256 numbers."""
    total = np.empty_like(rows)
    total[0] = rows[0]
    for i in range(1, len(rows)):
        np.add(total[i - 1], rows[i], out=total[i])
    return total


def _average_precision(positive: np.ndarray, score: np.ndarray, blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Sum over thresholds of precision times the step in recall, for each resample; 0 without positives."""
    if not positive.any():
        return np.zeros(sum(block.shape[1] for block in blocks))
    order, _, ends = _thresholds(positive, score)
    kind = blocks[0].dtype
    everything = _summing(order, ends, np.ones_like(positive), kind)
    hits = _summing(order, ends, positive, kind)
    areas = []
    for block in blocks:
        ranked = _running_sum((everything @ block).astype(np.float32))  # whole numbers, exact below 2**24
        hit = (hits @ block).astype(np.float32)
        found = _running_sum(hit)
        precision = found / np.maximum(ranked, 1)  # ranked is 0 only where found is
        areas.append(np.einsum("tr,tr->r", precision, hit, dtype=np.float64) / np.maximum(found[-1], 1))
    return np.concatenate(areas)


def _area_under_roc(positive: np.ndarray, score: np.ndarray, blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Share of pairs (positive, negative) in the right order, equal scores counting half; NaN without one of them."""
    if not positive.any():
        return np.full(sum(block.shape[1] for block in blocks), np.nan)
    order, starts, ends = _thresholds(positive, score)
    kind = blocks[0].dtype
    between = np.stack([starts, ends], axis=1).ravel()  # segments: before a group, the group, before the next, ...
    misses = _summing(order, between, ~positive, kind)
    hits = _summing(order, ends, positive, kind)
    areas = []
    for block in blocks:
        missed = (misses @ block).astype(np.float64)
        hit = (hits @ block).astype(np.float64)
        positives = hit.sum(0)
        negatives = block.sum(0, dtype=np.float64) - positives
        below = negatives - _running_sum(missed)[1::2]
        pairs = (hit * (below + 0.5 * missed[1::2])).sum(0)
        possible = positives * negatives
        areas.append(np.divide(pairs, possible, out=np.full_like(pairs, np.nan), where=possible > 0))
    return np.concatenate(areas)
