"""One job: embeddings of one model on one task, judged once under one seed, written as one record.

A job is named by its inputs: a record of the same inputs is the job's result and is never made again; a record of other
inputs at the same place is stale, and whoever planned the job decides what becomes of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from hear_models.errors import HearModelsError
from hear_models.evaluation.judges.protocols import NOT_COMPARABLE, protocol
from hear_models.evaluation.judges.table import JUDGES
from hear_models.evaluation.runs.estimate import Work
from hear_models.evaluation.runs.record import (
    EmbeddingFacts,
    JudgeFacts,
    ModelFacts,
    Record,
    RecordError,
    TaskFacts,
    Versions,
    read_record,
    record_stem,
    write_record,
)
from hear_models.files import make_folder, rename_aside, unwritable
from hear_models.locks import InUse, beside, only_writer
from hear_models.version import __version__

if TYPE_CHECKING:
    from hear_models.evaluation.judges.outcome import Outcome


@dataclass(frozen=True)
class Inputs:
    """What a score follows from; two records with the same inputs and seed hold the same score."""

    embeddings: str  # sha256 of everything behind them: weights, options, task data, code, torch
    judge_code: str  # sha256
    protocol: str
    judge: str
    random_labels: bool


def inputs_of(record: Record) -> Inputs:
    """The inputs that a record names."""
    embeddings = record.embeddings.sha256 if record.embeddings else ""
    return Inputs(embeddings, record.code_sha256 or "", record.protocol, record.judge.name, record.random_labels)


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs, as plain data."""

    model: ModelFacts
    task: TaskFacts
    inputs: Inputs
    seed: int
    folder: str  # of the embeddings
    embeddings: EmbeddingFacts
    path: str  # of the record
    work: Work  # for the estimate of the time
    name: str  # for people
    patient: bool = False  # waits where another run does the same job; otherwise it says so and is tried later
    command: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()  # about model and task, for the record


# ------------------------------------------------------------------------------------------ what lies there already
@dataclass(frozen=True)
class Stale:
    """Why a record is not the result of the job whose place it has."""

    reasons: tuple[str, ...]
    older_code: bool = False  # nothing but code is another one: the record is right for the code that made it


@dataclass(frozen=True)
class Earlier:
    """What an earlier run left where a job's record goes: nothing, the job's own result, or a stale record."""

    record: Record | None = None  # with the same inputs, complete: the job is done
    stale: Stale | None = None


def record_file(results: str | os.PathLike[str], model: ModelFacts, task: TaskFacts, inputs: Inputs, seed: int) -> Path:
    """Where the record of a job goes: RESULTS/MODEL_SLUG/TASK/PROTOCOL.JUDGE.seed-SS.json."""
    stem = record_stem(inputs.protocol, inputs.judge, seed, inputs.random_labels)
    return Path(results) / model.slug / task.name / f"{stem}.json"


def find(path: Path, model: ModelFacts, task: TaskFacts, inputs: Inputs) -> Earlier:
    """Look for the record of a job with these inputs; `model` and `task` say what is another one where they differ."""
    if not path.exists():
        return Earlier()
    try:
        record = read_record(path)
    except RecordError as error:
        return Earlier(stale=Stale((f"it cannot be read ({error})",)))
    if inputs_of(record) != inputs:
        return Earlier(stale=_why_stale(record, model, task, inputs))
    if record.predictions and not (path.parent / record.predictions).is_file():
        return Earlier()  # half a result: the same job writes both files again
    return Earlier(record)


def _why_stale(record: Record, model: ModelFacts, task: TaskFacts, inputs: Inputs) -> Stale:
    """The digest of the embeddings says only that something behind them differs; the record's other fields say what."""
    found = inputs_of(record)
    behind = {
        "other weights": record.model.checkpoint_sha256 != model.checkpoint_sha256,
        "other options": _json(record.model.options) != _json(model.options),
        "other task data": record.task.data_sha256 != task.data_sha256,
        "another version of torch": _release(record.versions.torch) not in (None, _release(versions({}).torch)),
    }
    rest = {
        "another protocol": found.protocol != inputs.protocol,
        "another judge": found.judge != inputs.judge,
        "shuffled labels, or not": found.random_labels != inputs.random_labels,
    }
    other = [words for words, differs in rest.items() if differs]
    code = []
    if found.embeddings != inputs.embeddings:
        named = [words for words, differs in behind.items() if differs]
        other += named
        known_weights = model.family is not None or model.checkpoint_sha256 is not None
        what = "code behind the embeddings" if known_weights else "module itself or of our code behind the embeddings"
        code += [] if named else [f"another version of the {what}"]
    if found.judge_code != inputs.judge_code:
        code.append("another version of the judge")
    return Stale((*other, *code), older_code=not other)


def _json(options: Mapping[str, object]) -> str:
    return json.dumps(options, sort_keys=True)


def _release(version: str | None) -> str | None:
    """Without the build: "2.13.0+cpu" → "2.13.0"."""
    return version and version.partition("+")[0]


def records_beside(path: Path) -> list[Path]:
    """All records of the model, task, protocol and judge whose record `path` is one of: every seed."""
    stem = path.name.rpartition(".seed-")[0]
    return sorted(path.parent.glob(f"{stem}.seed-*.json"))


def put_aside(paths: Iterable[Path], now: float) -> list[Path]:
    """Rename records and their predictions to NAME.superseded-TIME, which no reader takes for a record."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    moved = []
    for path in paths:
        for file in (path, path.with_suffix(".npz")):  # the record first: without it the predictions mean nothing
            try:
                moved.append(rename_aside(file, f"{file.name}.superseded-{stamp}"))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise HearModelsError(f"{file} cannot be renamed: {error.strerror}. Check the folder.") from error
    return moved


# ------------------------------------------------------------------------------------------------------- in a worker
@dataclass(frozen=True)
class JobResult:
    """What a job tells: the rest is in its record."""

    score: float | None
    wall_s: float  # without the start of the worker
    busy: bool = False  # another run does this job at the moment
    why_undefined: str = ""  # why there is no score


def run_job(job: Job) -> JobResult:
    """Judge, then write predictions and, last, the record. One thread.

    Raises what the judge raises, and HearModelsError if a file cannot be written.
    """
    path = Path(job.path)
    try:
        make_folder(path.parents[2], path.parent)
    except OSError as error:
        raise HearModelsError(unwritable(path.parent, error, "Choose other --results.")) from error
    try:
        with only_writer(beside(path), path, "--results", wait=_in_silence if job.patient else None):
            earlier = find(path, job.model, job.task, job.inputs).record
            if earlier is not None:  # another run was quicker
                return JobResult(earlier.score, earlier.wall_s or 0.0)
            return _judge(job, path)
    except InUse:
        return JobResult(None, 0.0, busy=True)


def _in_silence(_: str) -> None:
    """The first process says what is waited for."""


def _judge(job: Job, path: Path) -> JobResult:
    from hear_models.evaluation.embeddings.folder import read_embedding_folder
    from hear_models.evaluation.runs.predictions import write_predictions

    judge, inputs = JUDGES[job.inputs.judge], job.inputs
    if judge.needs_torch:
        import torch

        torch.set_num_threads(1)
    folder = read_embedding_folder(job.folder)
    outcome = judge.judge(folder, protocol(inputs.protocol), job.seed, random_labels=inputs.random_labels)
    sha256 = write_predictions(path.with_suffix(".npz"), outcome.predictions, outcome.events)
    record = record_of(job, outcome, sha256)
    write_record(path, record)
    return JobResult(outcome.score, outcome.wall_s, why_undefined=record.why_undefined)


def record_of(job: Job, outcome: Outcome, predictions_sha256: str | None = None) -> Record:
    """The record of a job and its outcome."""
    capability, inputs = None, job.inputs
    if JUDGES[inputs.judge].needs_torch:
        import torch

        capability = torch.backends.cpu.get_cpu_capability()
    return Record(
        model=job.model,
        task=job.task,
        protocol=inputs.protocol,
        judge=JudgeFacts(inputs.judge, list(outcome.shims), outcome.threads, capability),
        seed=job.seed,
        score=outcome.score,
        scores=outcome.scores,
        folds=outcome.folds,
        hyper_parameters=outcome.hyper_parameters,
        postprocessing=outcome.postprocessing,
        predictions=Path(job.path).with_suffix(".npz").name,
        predictions_sha256=predictions_sha256,
        embeddings=job.embeddings,
        code_sha256=inputs.judge_code,
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        device="cpu",
        versions=versions(outcome.versions),
        wall_s=outcome.wall_s,
        cpu_s=outcome.cpu_s,
        command=list(job.command),
        random_labels=inputs.random_labels,
        warnings=[*_quick_look(inputs), *job.warnings, *outcome.warnings],
        undefined=outcome.undefined,
    )


def _quick_look(inputs: Inputs) -> list[str]:
    return ["A quick look: not comparable with the leaderboard."] if inputs.protocol == NOT_COMPARABLE else []


def versions(of_judge: Mapping[str, str]) -> Versions:
    """Of the packages that computed: those of this process, but of the judge's own environment what it says."""
    here: dict[str, str | None] = {}
    for package in ("torch", "numpy", "scikit-learn"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            here[package] = metadata.version(package)
    if "torch" in sys.modules:  # with its build ("+cpu"), which the package's metadata may leave out
        here["torch"] = str(sys.modules["torch"].__version__)
    found = {**here, **of_judge}
    return Versions(
        hear_models=__version__,
        torch=found.get("torch"),
        numpy=found.get("numpy"),
        sklearn=found.get("scikit-learn"),
        python=platform.python_version(),
        heareval=found.get("heareval"),
    )
