"""Labelled recordings → a classifier with its figures; recordings → their classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from hear_models.classification.mlp import fit_mlp
from hear_models.classification.probe import (
    Fit,
    check_groups,
    figures,
    fit_probe,
    held_out_chances,
    targets_of,
)
from hear_models.classification.recordings import Labelled
from hear_models.classification.store import Classifier
from hear_models.corpus.discover import Failure, find_audio_files
from hear_models.corpus.kept import refuse_nothing, scene_settings, scenes_of
from hear_models.corpus.options import AUTO
from hear_models.corpus.run import CorpusSummary
from hear_models.corpus.settings import EmbeddingSettings
from hear_models.errors import UsageError
from hear_models.extras import check_installed
from hear_models.pipeline.model import HearModel

BASELINE = "logmel_stats"
NEEDS = ("sklearn", "Classifiers need", "eval")
COMPARED = ("model", "family", "checkpoint_sha256", "model_options")  # of what a classifier was fitted on
PROBES: dict[str, Fit] = {"linear": fit_probe, "mlp": fit_mlp}
Progress = Callable[[CorpusSummary], None]


@dataclass(frozen=True)
class Answer:
    """What is said of a recording or of a window of it, from `start_ms` on (None: the whole) to `end_ms`."""

    path: str
    start_ms: float | None
    end_ms: float
    chances: np.ndarray  # [classes]


def fit(
    labelled: Labelled,
    model: HearModel,
    *,
    kind: str = "linear",
    baseline: HearModel | None = None,
    progress: Progress | None = None,
) -> tuple[Classifier, list[Failure]]:
    """Embed, cross-validate over groups, fit on all.

    Args:
        labelled: see `read_labelled`.
        model: gives the embeddings.
        kind: of the probe: "linear", or "mlp", the papers' network with a hidden layer.
        baseline: another model, whose embeddings the same probe gets, to compare with.
        progress: called after each recording.

    Returns:
        the classifier, and the recordings that could not be read: they are left out.

    Raises UsageError: no scikit-learn, or a class of one group only; HearModelsError: nothing could be embedded.
    """
    check_installed(*NEEDS)
    if kind not in PROBES:
        raise UsageError(f"the probe {kind!r} is unknown. Use one of {', '.join(PROBES)}.")
    fit_one = PROBES[kind]
    check_groups(targets_of(labelled.labels, labelled.classes), labelled.groups, labelled.classes)
    found, failures, settings = scenes_of(labelled.files, model, progress=progress)
    refuse_nothing(found, failures)
    kept = [index for index, result in enumerate(found) if result is not None]
    used, x = labelled.only(kept), np.concatenate([result[0] for result in found if result is not None])
    classes, multilabel, groups = used.classes, used.multilabel, used.groups
    targets = targets_of(used.labels, classes)
    folds = check_groups(targets, groups, classes)
    chances = held_out_chances(x, targets, groups, classes, multilabel, folds, fit_one)
    other = None
    if baseline is not None:
        plain, _, _ = scenes_of(used.files, baseline)
        if all(result is not None for result in plain):
            y = np.concatenate([result[0] for result in plain if result is not None])
            other = held_out_chances(y, targets, groups, classes, multilabel, folds, fit_one)
    said = figures(chances, targets, groups, classes, multilabel, folds, other)
    probe = fit_one(x, targets, groups, classes, multilabel)
    return Classifier(probe, settings.as_dict(), {**said.as_dict(), "probe": kind}), failures


def predict(
    classifier: Classifier,
    paths: Sequence[str | os.PathLike[str]],
    model: HearModel,
    *,
    window_s: float | str | None = AUTO,
    progress: Progress | None = None,
) -> tuple[list[Answer], list[Failure]]:
    """What recordings and folders are, or each window of theirs; `window_s` as of `embed_files`.

    Raises UsageError if `model` is not the one that the classifier was fitted on.
    """
    refuse_others(classifier, scene_settings(model, window_s))
    sources, failures = find_audio_files(paths)
    found, failed, _ = scenes_of([source.path for source in sources], model, window_s=window_s, progress=progress)
    refuse_nothing(found, failed)
    answers = []
    for source, result in zip(sources, found, strict=True):
        if result is None:
            continue
        embeddings, windows, ends = result
        starts: list[float | None] = [None] if windows is None else windows.tolist()
        for start, end, chances in zip(starts, ends.tolist(), classifier.probe.chances(embeddings), strict=True):
            answers.append(Answer(source.name, start, end, chances))
    return answers, failures + failed


def refuse_others(classifier: Classifier, settings: EmbeddingSettings) -> None:
    """UsageError unless embeddings of these settings are those that the classifier knows."""
    now = asdict(settings)
    for name in COMPARED:
        if now[name] != classifier.settings.get(name):
            raise UsageError(
                f"the classifier was fitted on embeddings with {name} = {classifier.settings.get(name)!r}, these have "
                f"{now[name]!r}. Use the same model, or fit again."
            )
