"""One job: embeddings of one model on one task, judged once under one seed, written as one record.

A job is named by its inputs: a record of the same inputs is the job's result and is never made again; a record of other
inputs at the same place is stale, and whoever planned the job decides what becomes of it.
"""

from __future__ import annotations

import contextlib
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
from hear_models.evaluation.runs.estimate import Work
from hear_models.evaluation.runs.record import (
    NOT_COMPARABLE,
    EmbeddingFacts,
    FoldScores,
    Judge,
    Model,
    Record,
    RecordError,
    TaskFacts,
    Versions,
    read_record,
    record_stem,
    write_record,
)
from hear_models.subjects.code import code_sha256
from hear_models.version import __version__

if TYPE_CHECKING:
    from hear_models.evaluation.embeddings.folder import EmbeddingFolder
    from hear_models.evaluation.judges.outcome import Outcome

PROBE_PREFIX = "probe-"
REMAINS_S = 60.0  # a file in writing is younger
ENTRANCE = {  # judge → the module whose code decides the numbers
    "builtin": "hear_models.evaluation.judges.builtin",
    "heareval": "hear_models.evaluation.judges.heareval",
    "probe-linear": "hear_models.evaluation.judges.probe",
    "probe-knn": "hear_models.evaluation.judges.probe",
}


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs, as plain data."""

    model: Model
    task: TaskFacts
    folder: str  # of the embeddings
    embeddings: EmbeddingFacts
    protocol: str
    judge: str
    seed: int
    code_sha256: str
    path: str  # of the record
    work: Work  # for the estimate of the time
    name: str  # for people
    command: tuple[str, ...] = ()
    random_labels: bool = False


@dataclass(frozen=True)
class Inputs:
    """What a score follows from; two records with the same inputs hold the same score."""

    embeddings: str
    code: str
    protocol: str
    judge: str
    random_labels: bool

    def differences(self, other: Inputs) -> list[str]:
        """In words, what is not the same."""
        words = {"embeddings": "model, task data or code behind the embeddings", "code": "version of the judge"}
        return [words.get(name, name) for name in vars(self) if getattr(self, name) != getattr(other, name)]


def inputs_of(record: Record) -> Inputs:
    """The inputs that a record names."""
    embeddings = record.embeddings.sha256 if record.embeddings else ""
    return Inputs(embeddings, record.code_sha256 or "", record.protocol, record.judge.name, record.random_labels)


@dataclass(frozen=True)
class Found:
    """What lies where a job's record goes."""

    record: Record | None  # with the same inputs, complete: the job is done
    stale: str | None  # why what lies there is not the job's result; None if nothing is there


def record_file(results: str | os.PathLike[str], model: Model, task: TaskFacts, inputs: Inputs, seed: int) -> Path:
    """Where the record of a job goes."""
    stem = record_stem(inputs.protocol, inputs.judge, seed, inputs.random_labels)
    return Path(results) / model.slug / task.name / f"{stem}.json"


def find(path: Path, inputs: Inputs) -> Found:
    """Look for the record of a job with these inputs."""
    if not path.exists():
        return Found(None, None)
    try:
        record = read_record(path)
    except RecordError as error:
        return Found(None, f"it cannot be read ({error})")
    if differences := inputs.differences(inputs_of(record)):
        return Found(None, f"another {', another '.join(differences)}")
    if record.predictions and not (path.parent / record.predictions).is_file():
        return Found(None, None)  # half a result: the same job writes both files again
    return Found(record, None)


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
            target = file.with_name(f"{file.name}.superseded-{stamp}")
            try:
                os.rename(file, target)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise HearModelsError(f"{file} cannot be renamed: {error.strerror}. Check the folder.") from error
            moved.append(target)
    return moved


# ------------------------------------------------------------------------------------------------------- in a worker
@dataclass(frozen=True)
class Result:
    """What a job tells: the rest is in its record."""

    score: float | None
    wall_s: float  # without the start of the worker


def run_job(job: Job) -> Result:
    """Judge, then write predictions and, last, the record. One thread.

    Raises what the judge raises, and HearModelsError if a file cannot be written.
    """
    from hear_models.evaluation.embeddings.folder import read_embedding_folder
    from hear_models.evaluation.runs.predictions import write_predictions

    if not job.judge.startswith(PROBE_PREFIX):  # a quick look does without torch, whose import takes longer than it
        import torch

        torch.set_num_threads(1)
    outcome = judge(read_embedding_folder(job.folder), job)
    path = Path(job.path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HearModelsError(f"{path.parent} cannot be made: {error.strerror}. Choose other --results.") from error
    remove_remains(path)
    write_predictions(path.with_suffix(".npz"), outcome.predictions, outcome.events)
    write_record(path, record_of(job, outcome))
    return Result(outcome.score, outcome.wall_s)


def remove_remains(path: Path) -> None:
    """Delete what a run that was killed while it wrote left of this record: hidden `.part` files, not just made."""
    for remains in path.parent.glob(f".{path.stem}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - remains.stat().st_mtime > REMAINS_S:
                remains.unlink()


def judge(folder: EmbeddingFolder, job: Job) -> Outcome:
    """Ask the judge that the job names."""
    if job.judge.startswith(PROBE_PREFIX):
        from hear_models.evaluation.judges import probe

        return probe.judge(folder, job.judge.removeprefix(PROBE_PREFIX), job.seed, random_labels=job.random_labels)
    from hear_models.evaluation.judges.protocols import protocol

    if job.judge == "heareval":
        from hear_models.evaluation.judges import heareval

        return heareval.judge(folder, protocol(job.protocol), job.seed)
    from hear_models.evaluation.judges import builtin

    return builtin.judge(folder, protocol(job.protocol), job.seed, random_labels=job.random_labels)


def record_of(job: Job, outcome: Outcome) -> Record:
    """The record of a job and its outcome."""
    capability = None
    if not job.judge.startswith(PROBE_PREFIX):
        import torch

        capability = torch.backends.cpu.get_cpu_capability()
    return Record(
        model=job.model,
        task=job.task,
        protocol=job.protocol,
        judge=Judge(job.judge, list(outcome.shims), outcome.threads, capability),
        seed=job.seed,
        score=outcome.score,
        scores=outcome.scores,
        folds=[
            FoldScores(fold.split, fold.scores, fold.validation_score, fold.epoch, fold.hyper_parameters)
            for fold in outcome.folds
        ],
        hyper_parameters=outcome.hyper_parameters,
        postprocessing=outcome.postprocessing,
        predictions=Path(job.path).with_suffix(".npz").name,
        embeddings=job.embeddings,
        code_sha256=job.code_sha256,
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        device="cpu",
        versions=versions(outcome.versions),
        wall_s=outcome.wall_s,
        cpu_s=outcome.cpu_s,
        command=list(job.command),
        random_labels=job.random_labels,
        warnings=[*_quick_look(job), *outcome.warnings],
    )


def _quick_look(job: Job) -> list[str]:
    return ["A quick look: not comparable with the leaderboard."] if job.protocol == NOT_COMPARABLE else []


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


def code_of(judge_name: str) -> str:
    """The sha256 over the code of a judge: its modules, and for the released kit the recipe of its environment."""
    recipe = sorted((Path(__file__).parents[1] / "judges").glob("heareval*.txt")) if judge_name == "heareval" else []
    return code_sha256(ENTRANCE[judge_name], files=recipe)
