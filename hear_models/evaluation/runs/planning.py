"""What `evaluate` has to do: every model x task x seed, what is done already, and what lies in its way."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from hear_models.errors import HearModelsError, UsageError
from hear_models.evaluation.embeddings.extraction import key_sha256
from hear_models.evaluation.judges.protocols import protocol
from hear_models.evaluation.judges.table import code_of, find_judge
from hear_models.evaluation.runs.estimate import Work
from hear_models.evaluation.runs.jobs import Inputs, Stale, find, put_aside, record_file, records_beside
from hear_models.evaluation.runs.record import ModelFacts, Record, TaskFacts, Weights
from hear_models.evaluation.runs.settings import Request
from hear_models.metrics.clips import LOWER_IS_BETTER
from hear_models.subjects.loaded import Loaded
from hear_models.subjects.subject import Subject, parse_options, resolve, told_apart
from hear_models.tasks.check import Finding, check_task
from hear_models.tasks.task import EVENT, Task, list_tasks

SHOWN_STALE = 3
STEPS_A_SECOND, CLIP_S = 20.0, 8.0  # guesses, for estimates of time only


@dataclass
class ModelOnTask:
    """One model on one task, every seed: what is done, what is to do, what lies in the way."""

    subject: Subject
    task: Task
    model: ModelFacts
    facts: TaskFacts
    seeds: list[int]
    short: str = ""  # of the task: "esc50"
    inputs: Inputs | None = None  # None: the task cannot be embedded, and `error` says why
    error: str | None = None
    done: dict[int, Record] = field(default_factory=dict)  # seed → the record that is there
    stale: dict[Path, Stale] = field(default_factory=dict)  # record of other inputs → what is another one
    loaded: Loaded | None = None  # kept when it is the only model
    warnings: tuple[str, ...] = ()  # about this model on this task, for its records

    @property
    def name(self) -> str:
        """For people: model and task."""
        return f"{self.model.name}  {self.short}"

    @property
    def todo(self) -> list[int]:
        """Seeds without a record."""
        return [] if self.error else [seed for seed in self.seeds if seed not in self.done]


@dataclass
class RunPlan:
    """All pairs of a model and a task; `left_out` are tasks that the judge cannot do."""

    pairs: list[ModelOnTask]
    left_out: list[str]

    @property
    def stale(self) -> dict[Path, Stale]:
        """Records of other inputs that lie where new ones go."""
        return {path: why for pair in self.pairs for path, why in pair.stale.items()}

    def put_aside(self) -> list[Path]:
        """Rename the stale records; what they are called now."""
        return put_aside(self.stale, time.time())


def make_plan(request: Request, device: str) -> RunPlan:
    """Resolve models, read tasks, compare with the records that are there. Writes nothing but digests of audio files.

    Raises UsageError for what cannot be evaluated at all and, unless the request says overwrite, for stale records.
    """
    tasks, left_out = _tasks(request)
    subjects = _subjects(request)
    code = code_of(request.judge)
    short = short_names(tasks)
    pairs = []
    checks = TaskChecks(of_the_kit=find_judge(request.judge).is_the_kit)
    for subject in subjects:
        loaded = subject.load(device)  # now, so that a model that does not load is told before hours of work
        for task in tasks:
            pair = _pair(request, loaded, task, code)
            if pair.todo:
                pair.error = checks.problem(task, loaded.sample_rate)
            pair.short = short[task.name]
            pair.loaded = loaded if len(subjects) == 1 else None
            pairs.append(pair)
    plan = RunPlan(pairs, left_out)
    # a quick look is repeated after every change of a model: its old records step aside by themselves
    if plan.stale and not request.overwrite and not request.is_quick_look:
        _refuse_stale(plan.stale, Path(request.results))
    return plan


@dataclass
class TaskChecks:
    """The quick part of `hear-models tasks check`, once for each task and sample rate: headers, labels, metrics."""

    of_the_kit: bool  # what stops the released kit counts too
    _known: dict[tuple[Path, int], str | None] = field(default_factory=dict)

    def problem(self, task: Task, sample_rate: int) -> str | None:
        """The first thing that would make a score wrong, or a judge fail."""
        key = (task.folder, sample_rate)
        if key not in self._known:
            report = check_task(task.folder, sample_rates=[sample_rate])
            finding = report.first_error(of_the_kit=self.of_the_kit)
            self._known[key] = None if finding is None else self._sentence(task, finding)
        return self._known[key]

    def _sentence(self, task: Task, finding: Finding) -> str:
        more = f" and {len(finding.files) - 1} more" if len(finding.files) > 1 else ""
        files = f" ({finding.files[0]}{more})" if finding.files else ""
        return f"{task.name}: {finding.text}{files}. `hear-models tasks check` lists everything wrong."


def _tasks(request: Request) -> tuple[list[Task], list[str]]:
    """The tasks that the judge can do, and the names of the others."""
    tasks = list_tasks(request.tasks_dir, request.only)
    judge = find_judge(request.judge)
    able = [task for task in tasks if task.embedding_type in judge.kinds]
    if tasks and not able:
        raise UsageError(
            f"{judge.name} is for {' and '.join(judge.kinds)} tasks, and there are none. Use --judge builtin."
        )
    return able, [task.name for task in tasks if task not in able]


def _subjects(request: Request) -> list[Subject]:
    options = parse_options(request.settings)
    titles = request.names or [""] * len(request.models)
    subjects = told_apart(
        [
            resolve(name, options, allow_untrained=request.allow_untrained, how="--allow-untrained", title=title)
            for name, title in zip(request.models, titles, strict=True)
        ]
    )
    floors = [resolve(name, {}) for name in request.floors]
    return subjects + [floor for floor in floors if floor.slug not in {subject.slug for subject in subjects}]


def _pair(request: Request, loaded: Loaded, task: Task, code: str) -> ModelOnTask:
    subject = loaded.subject
    pair = ModelOnTask(subject, task, model_of(loaded), task_of(task, None), request.seed_list)
    try:
        key = key_sha256(loaded, task)
        pair.facts = task_of(task, task.data_sha256(loaded.sample_rate))
    except HearModelsError as error:
        pair.error = str(error)
        return pair
    pair.inputs = Inputs(key, code, request.protocol_name, request.judge, request.random_labels)
    for seed in pair.seeds:
        path = record_file(request.results, pair.model, pair.facts, pair.inputs, seed)
        if record := find(path, pair.model, pair.facts, pair.inputs).record:
            pair.done[seed] = record
    # seeds that nobody asks for now count too: one mean must never mix two models or two versions of a judge
    for path in records_beside(record_file(request.results, pair.model, pair.facts, pair.inputs, 0)):
        if stale := find(path, pair.model, pair.facts, pair.inputs).stale:
            pair.stale[path] = stale
    return pair


def short_names(tasks: list[Task]) -> dict[str, str]:
    """Folder's name → its beginning, where that names one task only: "esc50-v2.0.0-full" → "esc50"."""
    counts = Counter(task.name.partition("-")[0] for task in tasks)
    heads = {task.name: task.name.partition("-")[0] for task in tasks}
    return {name: head if head and counts[head] == 1 else name for name, head in heads.items()}


def _refuse_stale(stale: dict[Path, Stale], results: Path) -> None:
    if all(why.older_code for why in stale.values()):
        _refuse_older_code(stale, results)
    lines = [
        f"  {path.relative_to(results)}\n    {', '.join(why.reasons)}"
        for path, why in list(stale.items())[:SHOWN_STALE]
    ]
    if len(stale) > SHOWN_STALE:
        lines.append(f"  and {len(stale) - SHOWN_STALE} more")
    n = "1 record lies" if len(stale) == 1 else f"{len(stale)} records lie"
    raise UsageError(
        f"{n} where new ones would go, made from other inputs:\n"
        + "\n".join(lines)
        + "\nNothing was changed. --overwrite puts them aside (nothing is deleted);\nanother --results keeps both."
    )


def _refuse_older_code(stale: dict[Path, Stale], results: Path) -> NoReturn:
    """What everybody with results meets after an update: their records are right, and of another version."""
    first = next(iter(stale)).relative_to(results)
    n = f"The record {first} is" if len(stale) == 1 else f"{len(stale)} records ({first} is the first of them) are"
    reasons = ", ".join(dict.fromkeys(reason for why in stale.values() for reason in why.reasons))
    raise UsageError(
        f"{n} of older code ({reasons}), made from the same weights, options and task data: --overwrite puts aside "
        "what is older and makes it anew (nothing is deleted), another --results keeps both, and "
        "`hear-models leaderboard` shows older records as they are. Nothing was changed."
    )


def model_of(loaded: Loaded) -> ModelFacts:
    """The record's words for a model."""
    subject = loaded.subject
    file = subject.checkpoint.name if subject.checkpoint else None
    return ModelFacts.identified(
        weights_sha256=loaded.weights_sha256,
        code_sha256=subject.code_sha256,
        name=subject.title,
        slug=subject.slug,
        module=subject.module,
        trained=subject.trained,
        family=subject.family,
        options=dict(subject.options),
        checkpoint_sha256=subject.checkpoint_sha256,
        checkpoint=Weights(file, subject.revision),
    )


def task_of(task: Task, data_sha256: str | None) -> TaskFacts:
    """The record's words for a task."""
    return TaskFacts(
        name=task.name,
        origin=task.origin,
        embedding_type=task.embedding_type,
        prediction_type=task.prediction_type,
        split_mode=task.split_mode,
        primary=task.evaluation[0],
        higher_is_better=task.evaluation[0] not in LOWER_IS_BETTER,
        counts=dict(task.counts),
        data_sha256=data_sha256,
    )


def judging(request: Request, task: Task) -> Work:
    """The work of one seed, in numbers that compare: rows times trainings."""
    folds = 1 if task.split_mode == "trainvaltest" else len(task.splits)
    points = protocol(request.protocol_name).grid_points
    rows_a_clip = 1.0 if task.embedding_type != EVENT else STEPS_A_SECOND * (task.sample_duration or CLIP_S)
    rows = sum(task.counts.values()) * rows_a_clip + 200.0  # a training of few rows is not free
    return Work(request.judge, task.name, rows * (points + folds - 1))


def embedding(subject: Subject, task: Task) -> Work:
    """The work of embedding a task: seconds of audio."""
    return Work(f"embed {subject.slug}", task.name, sum(task.counts.values()) * (task.sample_duration or CLIP_S))
