"""Result folders that hear-eval-kit wrote elsewhere, as records: what the kit does not say is null, never guessed.

Read: EMBEDDINGS/MODULE/TASK/test.predicted-scores.json, the kit's own layout, and the papers' folders
hear_configs.MODEL_rRUN_SEED/TASK/.... The kit writes the bare words Infinity and NaN; they
become null. Its pickles are never opened, so imported records have no predictions.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.errors import FileError, HearModelsError, UsageError
from hear_models.evaluation.judges.outcome import Fold, by_metric
from hear_models.evaluation.judges.protocols import PROTOCOLS
from hear_models.evaluation.runs.record import IMPORTED, JudgeFacts, ModelFacts, Record, TaskFacts
from hear_models.foreign import read_json, reading, walk
from hear_models.tasks.known_tasks import known_tasks
from hear_models.tasks.origin import UNOFFICIAL, USER
from hear_models.tasks.task import METADATA, Task, read_task
from hear_models.tasks.task_digest import tables_sha256

SCORES_FILE = "test.predicted-scores.json"
LARGEST_BYTES = 32 * 2**20
DEEPEST = 8  # folders below the one given
NO_FOLDS = {"aggregated_scores", "hparams", "postprocessing", "score_mode", "embedding_path"}
NO_METRICS = {"test_loss", "test_score"}
KIT_SEED = 42
PAPERS_FOLDER = re.compile(r"(?:hear_configs\.)?(?P<model>.+)_r(?P<run>\d+)_(?P<seed>\d\d)")
DECIDING = (
    "hidden_layers",
    "lr",
    "initialization",
    "dropout",
    "hidden_dim",
    "batch_size",
)  # what tells protocols apart
IMPORTED_WARNING = "imported: versions, weights, device, data and whether the model was trained are not known"


class ImportedError(HearModelsError):
    """A file that should be the kit's scores is not, or its numbers contradict each other."""


_Tasks = dict[tuple[str, str], Task]  # by folder name and digest: beside every result lie the same tables


@dataclass(frozen=True)
class _ScoresFile:
    """One scores file, before it is known which protocol made it."""

    path: Path
    record: Record
    possible: frozenset[str]  # protocols that its hyper-parameters may come from


def import_folder(
    folder: str | os.PathLike[str], protocol: str | None = None, progress: Callable[[str], None] = lambda line: None
) -> list[Record]:
    """Every kit result below `folder`, as records with the judge "imported", in the order of their paths.

    `protocol` ("hear" or "paper") says how they were made; without it the papers' folder names mean "paper", and
    elsewhere the chosen hyper-parameters of a model's tasks decide, where they can have come from one protocol only.

    The seed is that of the papers' folder name, else the kit's 42 (with a warning in the record). A task whose metadata
    lie beside the scores gets its origin from them; without them a HEAR name counts as "unofficial".

    Raises ImportedError for a file that is not the kit's or whose aggregated scores do not follow from its folds,
    UsageError if the protocol cannot be told, with the option that says it.
    """
    tasks: _Tasks = {}
    found = []
    for path in find_scores(Path(folder)):
        found.append(_read(path, tasks))
        progress(f"reading: {len(found)} results of hear-eval-kit")
    records = []
    for item in found:
        of_model = [other for other in found if other.record.model.slug == item.record.model.slug]
        name = protocol or _one_protocol(item, of_model)
        if name not in item.possible:
            raise ImportedError(
                f"{item.path}: its hyper-parameters {_choice(item.record.hyper_parameters)} are not in the grid of the "
                f"protocol {name}. Such a result stands in no table; remove it, or say another --imported-protocol."
            )
        records.append(replace(item.record, protocol=name))
    return records


def find_scores(folder: Path) -> Iterator[Path]:
    """The kit's score files below `folder`; a folder with one is not searched further (it holds the embeddings)."""
    for where, folders, files in walk(folder, DEEPEST):
        if SCORES_FILE in files:
            yield where / SCORES_FILE
            folders.clear()


def aggregate_folds(folds: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """KEY_mean and KEY_std (n-1) over the folds for every key of a fold, as the kit's `aggregated_scores`.

    As there, NaN is left out (the d' of a fold may be NaN), and infinity counts: it makes the mean infinite and the
    deviation NaN.
    """
    result: dict[str, float] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        for key in next(iter(folds.values())):
            values = np.array([fold[key] for fold in folds.values()], dtype=np.float64)
            values = values[~np.isnan(values)]
            if values.size == 0:
                result |= {f"{key}_mean": math.nan, f"{key}_std": math.nan}
                continue
            result[f"{key}_mean"] = float(np.mean(values))
            result[f"{key}_std"] = float(np.std(values, ddof=1)) if values.size > 1 else math.nan
    return result


# --------------------------------------------------------------------------------------------------------- one file
def _read(path: Path, tasks: _Tasks) -> _ScoresFile:
    content = _json(path)
    with reading(path, ImportedError, "Remove it, or run the kit again.", what="a result of hear-eval-kit"):
        folds = {name: _numbers(value) for name, value in content.items() if name not in NO_FOLDS}
        if not folds or any("test_score" not in fold for fold in folds.values()):
            raise ValueError("no split has a test_score")
        _check_aggregated(folds, content.get("aggregated_scores"))
        return _scores_file(path, content, folds, tasks)


def _scores_file(path: Path, content: dict[str, Any], folds: dict[str, dict[str, float]], tasks: _Tasks) -> _ScoresFile:
    module, warnings = path.parent.parent.name, [IMPORTED_WARNING]
    match = PAPERS_FOLDER.fullmatch(module)
    if match:
        name = match["model"] if match["run"] == "1" else f"{match['model']}_r{match['run']}"
        seed, possible = int(match["seed"]), {"paper"}
    else:
        name, seed, possible = module, KIT_SEED, set(PROTOCOLS)
        warnings.append(f"the folder does not say the seed; the kit's default {KIT_SEED} is assumed")
    choice = {key: _plain(value) for key, value in content["hparams"].items()}
    splits = [
        Fold(
            split,
            {key.removeprefix("test_"): _finite(value) for key, value in fold.items() if _is_metric(key)},
            _finite(fold.get("validation_score")),
            None if fold.get("epoch") is None else int(fold["epoch"]),
            choice,
        )
        for split, fold in folds.items()
    ]
    task = _task(path.parent, next(iter(splits[0].scores)), content.get("score_mode", "max") == "max", tasks)
    record = Record(
        model=ModelFacts(name=name, slug=slug(name), module=module, trained=True),
        task=task,
        protocol="hear",  # until it is known
        judge=JudgeFacts(IMPORTED),
        seed=seed,
        score=_finite(float(np.mean([fold["test_score"] for fold in folds.values()]))),
        scores={metric: _mean(fold.scores[metric] for fold in splits) for metric in splits[0].scores},
        folds=splits,
        hyper_parameters=choice,
        warnings=warnings,
        undefined=_undefined(folds),
    )
    return _ScoresFile(path, record, frozenset(possible & _protocols(choice)))


def _task(folder: Path, primary: str, higher_is_better: bool, tasks: _Tasks) -> TaskFacts:
    """From the task's files, where the kit's copies are there; else what its name says."""
    if (folder / METADATA).is_file():
        key = (folder.absolute().name, tables_sha256(folder))
        if key not in tasks:
            tasks[key] = read_task(folder)
        task = tasks[key]
        facts = (task.origin, task.embedding_type, task.prediction_type, task.split_mode)
        return TaskFacts(task.name, *facts, primary, higher_is_better, task.counts)
    known = known_tasks().get(folder.name)
    if known:
        facts = (UNOFFICIAL, known.embedding_type, known.prediction_type, known.split_mode)
        return TaskFacts(folder.name, *facts, primary, higher_is_better, {})
    kind = "event" if primary.startswith(("event_", "segment_")) else "scene"
    prediction = "multilabel" if kind == "event" or primary == "mAP" else "multiclass"
    return TaskFacts(folder.name, USER, kind, prediction, "not known", primary, higher_is_better, {})


def slug(name: str) -> str:
    """A name as a folder's name: letters, digits and ._=+- stay."""
    return re.sub(r"[^\w.=+-]+", "-", name).strip("-.") or "model"


def _undefined(folds: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Metric → which folds have no finite value of it, and what the kit wrote there."""
    said: dict[str, dict[str, str]] = {}
    for split, fold in folds.items():
        for key, value in fold.items():
            if _is_metric(key) and not math.isfinite(value):
                wrote = "NaN" if math.isnan(value) else "infinity"
                said.setdefault(split, {})[key.removeprefix("test_")] = f"hear-eval-kit wrote {wrote}"
    return by_metric(said)


def _is_metric(key: str) -> bool:
    return key.startswith("test_") and key not in NO_METRICS


def _mean(values: Iterator[float | None]) -> float | None:
    listed = list(values)
    return None if None in listed else float(np.mean([value for value in listed if value is not None]))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _numbers(fold: Mapping[str, Any]) -> dict[str, float]:
    for key, value in fold.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{key} is {value!r}, expected a number")
    return dict(fold)


def _check_aggregated(folds: Mapping[str, Mapping[str, float]], written: Mapping[str, float] | None) -> None:
    if written is None:
        if len(folds) > 1:
            raise ValueError("folds without aggregated_scores")
        return
    computed = aggregate_folds(folds)
    for key, value in _numbers(written).items():
        if key not in computed or not np.isclose(value, computed[key], rtol=1e-6, atol=1e-9, equal_nan=True):
            raise ValueError(f"{key} is {value!r}, but its folds give {computed.get(key)!r}")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path, LARGEST_BYTES)  # reads Infinity, -Infinity and NaN too
    except FileError as error:
        raise ImportedError(f"{error} Run the kit's prediction step again.") from error
    if not isinstance(content, dict):
        raise ImportedError(f"{path} is no result of hear-eval-kit: it holds no JSON object. Remove it.")
    return content


# --------------------------------------------------------------------------------------------------------- protocols
def _plain(value: Any) -> Any:
    """The kit writes classes and functions as Python prints them: "<function xavier_normal_ at 0x7f...>"."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"<(?:class '(?:\w+\.)*(\w+)'|function (\w+?)_? at 0x[0-9a-f]+)>", value)
    return (match[1] or match[2]) if match else value


def _protocols(choice: Mapping[str, Any]) -> set[str]:
    """The protocols whose grid holds this choice."""
    return {
        name
        for name, protocol in PROTOCOLS.items()
        if all(choice.get(key) in protocol.grid[key] for key in DECIDING if key in choice)
    }


def _one_protocol(item: _ScoresFile, of_model: list[_ScoresFile]) -> str:
    possible = frozenset.intersection(*(other.possible for other in of_model))
    if len(possible) != 1:
        why = "may come from either protocol" if possible else "do not come from one protocol"
        raise UsageError(
            f"{item.path}: the hyper-parameters chosen for {item.record.model.name} {why}. "
            "Say which with --imported-protocol hear or --imported-protocol paper."
        )
    return next(iter(possible))


def _choice(choice: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={choice[key]}" for key in DECIDING if key in choice)
