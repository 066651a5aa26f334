"""Which results enter the tables, and which of them may stand in one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from hear_models.errors import UsageError
from hear_models.evaluation.board.results import Result
from hear_models.evaluation.judges.agreement import judges_agree
from hear_models.evaluation.judges.protocols import NOT_COMPARABLE
from hear_models.evaluation.judges.table import JUDGES
from hear_models.evaluation.runs.record import IMPORTED, ModelFacts, Record
from hear_models.tasks.task import is_called, near_tasks
from hear_models.zoo.registry import did_you_mean


@dataclass(frozen=True)
class Options:
    """What to show. `tasks` and `models` choose (empty: all); `keys` maps a model to a key of published scores."""

    tasks: Sequence[str] = ()
    models: Sequence[str] = ()
    protocol: str | None = None
    allow_untrained: bool = False
    published: bool = True
    keys: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[str] = ()  # published rows beside ours, `beside.py` says how they are named; empty: the usual ones
    resamples: int | None = None  # of the bootstrap; 0: no ties; None: the default
    title: str = ""


def choose(results: list[Result], options: Options) -> tuple[list[Result], list[str]]:
    """The results that the options leave, and notes on what was left out. UsageError: none is left, random weights."""
    notes: list[str] = []
    kept, shuffled = [], 0
    for result in results:
        if result.record.random_labels:
            shuffled += 1
        elif _wanted(result.record, options):
            kept.append(result)
    if shuffled:
        notes.append(f"{shuffled} results with shuffled labels are left out: leak tests, not scores.")
    if not kept:
        records = [result.record for result in results]
        tasks, models = {r.task.name for r in records}, {r.model.name for r in records}
        near = "".join(near_tasks(n, tasks) for n in options.tasks if not any(is_called(t, n) for t in tasks))
        strange = [name for name in options.models if not any(is_named(r.model, name) for r in records)]
        near += "".join(did_you_mean(name, models) for name in strange)
        raise UsageError(
            f"No result is left to show. {near}There are the models {listed(r.model.name for r in records)}; "
            f"the tasks {listed(r.task.name for r in records)}; the protocols {listed(r.protocol for r in records)}."
        )
    untrained = sorted({r.record.model.name for r in kept if not r.record.model.trained})
    if untrained and not options.allow_untrained:
        raise UsageError(
            f"{', '.join(untrained)}: random weights, so the scores say nothing of the method. "
            "Leave them out with --models, or say --allow-untrained; they are marked then."
        )
    unknown = [name for name in options.keys if not any(is_named(r.record.model, name) for r in kept)]
    if unknown:
        raise UsageError(f"--published names {unknown[0]!r}, but no result is of that model.")
    return kept, notes


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names with commas between, each once, not all of very many."""
    different = sorted(set(names))
    return ", ".join(different[:most]) + (", …" if len(different) > most else "")


def _wanted(record: Record, options: Options) -> bool:
    return (
        (options.protocol is None or record.protocol == options.protocol)
        and (not options.models or any(is_named(record.model, name) for name in options.models))
        and (not options.tasks or any(is_called(record.task.name, name) for name in options.tasks))
    )


def is_named(model: ModelFacts, name: str) -> bool:
    """Whether a user who says `name`, where * stands for anything, means that model."""
    return fnmatchcase(model.name, name) or fnmatchcase(model.slug, name)


def by_judge(results: list[Result], notes: list[str]) -> list[list[Result]]:
    """One list if all judges are known to agree, else one for each judge."""
    judges = sorted({result.record.judge.name for result in results})
    if len(judges) == 1 or _agree(results, judges):
        return [results]
    why = "that these judges give the same scores is not proven for the versions that computed them"
    if results[0].record.protocol == NOT_COMPARABLE:
        why = "they are quick looks of different kinds, whose scores cannot be compared"
    elif IMPORTED in judges:
        why = "under which versions the imported scores were computed is not known"
    notes.append(f"Tables of {', '.join(judges)} stay apart: {why}.")
    return [[result for result in results if result.record.judge.name == judge] for judge in judges]


def _agree(results: list[Result], judges: Sequence[str]) -> bool:
    """Whether one of two judges gives the bits of the other, and that was shown for every torch that computed here."""
    versions = {result.record.versions.torch for result in results}
    twins = len(judges) == 2 and any(same_bits_as(a) == b for a, b in (judges, judges[::-1]))
    return twins and all(v is not None and judges_agree(v) for v in versions)


def same_bits_as(name: str) -> str | None:
    """The judge whose bits this one gives."""
    return JUDGES[name].same_bits_as if name in JUDGES else None  # "imported" is no judge of ours
