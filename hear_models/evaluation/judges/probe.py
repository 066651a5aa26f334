"""A quick look at embeddings with scikit-learn, in seconds per task: never comparable with the leaderboard.

linear  standardised features, logistic regression with scikit-learn's own penalty (C = 1)
knn     the mean of the labels of the 10 nearest training clips by cosine

Nothing is searched, so whatever is not the test split is trained on, the validation split included. Splits and metrics
are those of the task; scene tasks only. Records have the protocol "not-comparable".
"""

from __future__ import annotations

import time
import warnings as python_warnings
from collections.abc import Callable

import numpy as np

from hear_models.errors import UsageError
from hear_models.evaluation.embeddings.folder import EmbeddingFolder, Split
from hear_models.evaluation.judges.outcome import Fold, Outcome, Predictions, by_metric, mean_scores, why_undefined
from hear_models.evaluation.judges.protocols import Protocol
from hear_models.metrics.clips import finite, score_clips

NEIGHBOURS = 10
ITERATIONS = 500


def judge_linear(folder: EmbeddingFolder, protocol: Protocol, seed: int, *, random_labels: bool = False) -> Outcome:
    """Train the linear probe for every test split and score it by the task's metrics.

    `seed` decides how labels are shuffled with `random_labels`; nothing else is drawn, and no protocol searches.
    Raises UsageError for an event task, or without scikit-learn.
    """
    return _judge(folder, "linear", seed, random_labels)


def judge_knn(folder: EmbeddingFolder, protocol: Protocol, seed: int, *, random_labels: bool = False) -> Outcome:
    """`judge_linear` with the nearest neighbours."""
    return _judge(folder, "knn", seed, random_labels)


def _judge(folder: EmbeddingFolder, kind: str, seed: int, random_labels: bool) -> Outcome:
    if folder.metadata.get("embedding_type") != "scene":
        raise UsageError(f"{folder.path.name} is an event task, and the quick look is for scenes. Use --judge builtin.")
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise UsageError("The quick look needs scikit-learn: pip install 'hear-models[eval]'.") from error
    began, cpu_began = time.perf_counter(), time.process_time()
    splits = {name: folder.split(name) for name in folder.splits}
    multiclass = folder.metadata["prediction_type"] == "multiclass"
    targets = {name: target_matrix(split, folder.labels) for name, split in splits.items()}
    generator = np.random.default_rng(seed)
    folds, predictions, said, undefined = [], {}, [], {}
    metrics = folder.metadata["evaluation"]
    for test in tested_splits(folder):
        rest = [name for name in folder.splits if name != test]
        x = np.concatenate([splits[name].embeddings for name in rest])
        y = np.concatenate([targets[name] for name in rest])
        if random_labels:
            y = y[generator.permutation(len(y))]
        with python_warnings.catch_warnings(record=True) as caught:
            python_warnings.simplefilter("always")
            output = FITS[kind](x, y, splits[test].embeddings, multiclass)
        said += [f"{test}: {str(warning.message).splitlines()[0]}" for warning in caught]
        predictions[test] = Predictions(splits[test].files, targets[test], output)
        found = {metric: score_clips(metric, output, targets[test]) for metric in metrics}
        folds.append(Fold(test, {metric: finite(value) for metric, value in found.items()}))
        undefined[test] = why_undefined(found, output, targets[test], folder.labels)
    scores = mean_scores(folds)
    return Outcome(
        score=scores[metrics[0]],
        scores=scores,
        folds=folds,
        hyper_parameters={"C": 1.0, "standardised": True} if kind == "linear" else {"neighbours": NEIGHBOURS},
        predictions=predictions,
        judge=f"probe-{kind}",
        shims=[],
        threads=1,
        wall_s=time.perf_counter() - began,
        cpu_s=time.process_time() - cpu_began,
        warnings=list(dict.fromkeys(said)),
        undefined=by_metric(undefined),
    )


def tested_splits(folder: EmbeddingFolder) -> list[str]:
    """The splits that are tested on: "test", or each fold in turn."""
    return ["test"] if "test" in folder.splits else sorted(folder.splits)


def target_matrix(split: Split, labels: tuple[str, ...]) -> np.ndarray:
    """Labels as 0 and 1, float32 [rows, classes]; labels in the files may be integers, the vocabulary is text."""
    index = {label: k for k, label in enumerate(labels)}
    matrix = np.zeros((len(split.labels), len(labels)), np.float32)
    for row, of_row in enumerate(split.labels):
        for label in of_row:
            matrix[row, index[str(label)]] = 1.0
    return matrix


# ------------------------------------------------------------------------------------------------------------- probes
def fit_linear(x: np.ndarray, y: np.ndarray, test: np.ndarray, multiclass: bool) -> np.ndarray:
    """Probabilities of the test rows, float32 [rows, classes], by logistic regression on standardised features.

    Multilabel: one regression per class, fitted as one network without a hidden layer, which is the same function and
    takes one matrix product per step instead of one fit per class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x)
    x, test = scaler.transform(x), scaler.transform(test)
    output = np.zeros((len(test), y.shape[1]), np.float32)
    if multiclass:
        classes = y.argmax(axis=1)
        seen = np.unique(classes)
        if len(seen) == 1:
            output[:, seen] = 1.0
            return output
        model = LogisticRegression(C=1.0, max_iter=ITERATIONS).fit(x, classes)
        output[:, model.classes_] = model.predict_proba(test)
        return output
    varied = np.flatnonzero((y != y[0]).any(axis=0))  # of the others nothing can be learnt but what they always are
    output[:] = y[0]
    if len(varied):
        network = MLPClassifier((), solver="lbfgs", alpha=1.0, max_iter=ITERATIONS, random_state=0)
        said = y[:, varied] if len(varied) > 1 else y[:, varied[0]]
        shares = network.fit(x, said).predict_proba(test)
        output[:, varied] = shares if len(varied) > 1 else shares[:, 1:]  # of one class: of its absence, its presence
    return output


def fit_knn(x: np.ndarray, y: np.ndarray, test: np.ndarray, multiclass: bool) -> np.ndarray:
    """The mean of the labels of the nearest training rows by cosine, float32 [rows, classes]."""
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(x)), metric="cosine", algorithm="brute")
    nearest = neighbours.fit(x).kneighbors(test, return_distance=False)
    return y[nearest].mean(axis=1, dtype=np.float32)


FITS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, bool], np.ndarray]] = {
    "linear": fit_linear,
    "knn": fit_knn,
}
