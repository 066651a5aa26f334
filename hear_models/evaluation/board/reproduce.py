"""A published row, made again: what it takes, the run, ours beside theirs, and a folder that can be checked in."""

from __future__ import annotations

import json
import platform
import shlex
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from hear_models.checkpoints.safetensors_file import read_header
from hear_models.errors import UsageError
from hear_models.evaluation.board import tabulate
from hear_models.evaluation.board.choosing import Options
from hear_models.evaluation.board.leaderboard import Board, build
from hear_models.evaluation.board.published import NOT_REPRODUCED, REPRODUCED, PublishedTable, find
from hear_models.evaluation.board.results import gather
from hear_models.evaluation.runs.estimate import EPOCHS, duration, row_seconds
from hear_models.evaluation.runs.planning import RunPlan, judging, make_plan
from hear_models.evaluation.runs.progress import Reporter
from hear_models.evaluation.runs.record import Record
from hear_models.evaluation.runs.run import cores, device_of, evaluate
from hear_models.evaluation.runs.settings import Request
from hear_models.evaluation.runs.summary import RunSummary
from hear_models.fetching.known import KnownFiles
from hear_models.files import write_atomically
from hear_models.locks import beside, only_writer
from hear_models.resources import cache_folder
from hear_models.subjects.naming import find_ours
from hear_models.tasks.known_tasks import ARCHIVE_RATE, known_tasks
from hear_models.zoo.fetch import LOCK as FETCH_LOCK
from hear_models.zoo.fetch import PASSPORT

PROBE_S = 2.0  # of sound that is embedded to measure
PROBE_CLIPS = 4
PACKAGES = ("hear-models", "torch", "numpy", "scikit-learn", "soxr", "soundfile", "safetensors", "numba", "pandas")


@dataclass(frozen=True)
class Outlook:
    """What a reproduction takes."""

    key: str
    table: PublishedTable
    missing: list[str]  # tasks of the published row that are not in the folder
    jobs: int
    to_do: int
    audio_hours: float  # still to be embedded
    embedding_s: float  # measured on this machine
    judging_s: float | None  # from the records that are there; None: there are none yet
    epoch_s: float  # of all probes that are still to be trained, measured on this machine
    disk_bytes: int


@dataclass(frozen=True)
class Reproduction:
    """What came out."""

    board: Board
    summary: RunSummary
    words: dict[str, int]  # verdict → tasks
    differs: list[str]
    folder: str


def request_for(
    name: str, tasks_dir: Path, folder: Path, key: str | None = None, **more: Any
) -> tuple[Request, str, PublishedTable]:
    """(what to evaluate, the key of the published row, its table).

    Raises UsageError: no such model, random weights, or no published scores; CheckpointError: not fetched yet.
    """
    found = find_ours(name, allow_untrained=False, how="weights: a row of a paper is of trained ones")
    entry = found.resolved.entry
    key = key or (entry.manifest.published_scores if entry else None)
    if key is None:
        raise UsageError(
            f"no published scores are known for {name}. Name a row with --published KEY (`hear-models "
            f"leaderboard --keys` lists them), or see what it scores: hear-models evaluate {name} --tasks-dir "
            f"{tasks_dir} --protocol paper"
        )
    table, _ = find(key)
    request = Request(
        models=(name,),
        tasks_dir=tasks_dir,
        only=more.pop("only", ()),
        protocol=table.protocol or "paper",
        results=folder / "records",
        **more,
    )
    request.check()
    return request, key, table


def outlook(request: Request, key: str, table: PublishedTable) -> Outlook:
    """What is to be done, how long by costs measured here, how much room. Writes nothing."""
    device = device_of(request)
    planned = make_plan(request.absolute(), device)
    wanted = [column.task for column in table.columns.values() if column.task is not None]
    there = {pair.task.name for pair in planned.pairs}
    jobs = sum(len(pair.seeds) for pair in planned.pairs)
    open_pairs = [pair for pair in planned.pairs if pair.todo and not pair.done]
    audio_s = sum(_audio_s(pair.task) for pair in open_pairs)
    embedding_s, dim = _measured(request, device)
    clips = sum(sum(pair.task.counts.values()) for pair in open_pairs)
    return Outlook(
        key,
        table,
        sorted(set(wanted) - there) if not request.only else [],
        jobs,
        sum(len(pair.todo) for pair in planned.pairs),
        audio_s / 3600,
        audio_s * embedding_s,
        _judging_s(planned, request),
        sum(judging(request, pair.task).units * len(pair.todo) for pair in planned.pairs)
        * row_seconds(dim)
        / (request.jobs or cores()),
        clips * (4 * dim + 4096),  # a file a clip, in blocks
    )


def outlook_text(name: str, found: Outlook, request: Request) -> str:
    """For people, at most 80 columns where names allow it."""
    lines = [
        f"{name} beside: {found.key}",
        f"protocol {request.protocol}, judge {request.judge}, {len(request.seed_list)} seeds",
        f"{found.jobs} jobs: {found.jobs - found.to_do} are done, {found.to_do} to do",
        f"embedding: {found.audio_hours:.1f} h of sound, {duration(found.embedding_s)} at the speed measured now",
        "judging: "
        + (
            f"{duration(found.judging_s)} by the records that are there"
            if found.judging_s is not None
            else f"{duration(found.epoch_s)} an epoch of all probes, measured now; "
            f"each takes {EPOCHS[0]} to {EPOCHS[1]} epochs"
        ),
        f"room: {found.disk_bytes / 1e9:.2f} GB for embeddings",
    ]
    if found.missing:
        lines.append(f"not in the folder, so without a verdict: {', '.join(found.missing)}")
        lines.append("  fetch them: hear-models tasks download DIR")
    return "\n".join(lines)


def _audio_s(task: Any) -> float:
    known = known_tasks().get(task.name)
    if task.sample_duration is not None:
        return float(sum(task.counts.values()) * task.sample_duration)
    return (
        float(known.hours) * 3600
        if known and isinstance(known.hours, (int, float))
        else 8.0 * sum(task.counts.values())
    )


def _measured(request: Request, device: str) -> tuple[float, int]:
    """(seconds of computing a second of sound, dimensions), from a short batch of noise."""
    import torch

    found = find_ours(request.models[0], allow_untrained=False, how="trained weights")
    model = found.load(device=device)
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(PROBE_CLIPS, round(PROBE_S * model.sample_rate), generator=generator).mul_(0.1).to(device)
    model.get_scene_embeddings(clips[:1])
    begin = time.perf_counter()
    scenes = model.get_scene_embeddings(clips).cpu()
    return (time.perf_counter() - begin) / (PROBE_CLIPS * PROBE_S), int(scenes.shape[1])


def _judging_s(planned: RunPlan, request: Request) -> float | None:
    total, known = 0.0, 0
    for pair in planned.pairs:
        times = [record.wall_s for record in pair.done.values() if record.wall_s is not None]
        if times:
            total += len(pair.todo) * sum(times) / len(times)
        known += bool(times) or not pair.todo
    return total / (request.jobs or cores()) if known == len(planned.pairs) else None


def reproduce(
    name: str,
    request: Request,
    key: str,
    folder: Path,
    reporter: Reporter | None = None,
    progress: Callable[[str], None] = lambda what: None,
    lock: Path | None = None,
) -> Reproduction:
    """Run what is left, compare, and write the folder: records, page, verdicts, environment, command, lock file.

    Raises what `evaluate` and `build` raise; InUse if another run writes there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with only_writer(beside(folder), folder):
        summary = evaluate(request, reporter)
        results = gather([request.results])
        board = build(results, Options(models=(name,), protocol=request.protocol, keys={name: key}), progress)
        words = Counter(
            cell.verdict.word for table in board.tables for cell in table.cells.values() if cell.verdict is not None
        )
        differs = _differs(name, key, [result.record for result in results])
        done = Reproduction(board, summary, dict(words), differs, str(folder))
        _write(folder, name, key, request, done, lock)
    return done


def verdict_line(done: Reproduction) -> str:
    """One line on all tasks."""
    n = sum(done.words.values())
    if not n:
        return "NO VERDICT: no published figure stands beside these tasks"
    parts = [f"{count} {word}" for word, count in sorted(done.words.items(), reverse=True)]
    whole = done.words.get(REPRODUCED, 0) == n
    return f"{'REPRODUCED' if whole else 'NOT THE WHOLE ROW'}: of {n} tasks {', '.join(parts)}"


def _differs(name: str, key: str, records: list[Record]) -> list[str]:
    """What is not as the authors had it, or is not known to be."""
    table, _ = find(key)
    entry = find_ours(name, allow_untrained=True, how="").resolved.entry
    lines = []
    theirs = entry.manifest.training if entry and entry.manifest.original else None
    lines.append(f"precision: ours float32; theirs: {theirs or 'not stated'}")
    lines.append(
        f"resampler: if the clips were made from the {ARCHIVE_RATE} Hz archive (tasks download), they are near to and "
        "not bit-equal with the 16 kHz archive that the papers used"
    )
    judges = sorted({f"{r.judge.name} ({r.versions.heareval or 'this project'})" for r in records})
    lines.append(f"judge: ours {', '.join(judges)}; theirs a modified hear-eval-kit")
    samples = table.statistic.samples if table.statistic else None
    seeds = sorted({r.seed for r in records})
    lines.append(
        f"protocol: {table.protocol or 'theirs is not stated'}; {len(seeds)} seeds, theirs {samples or 'not stated'}"
    )
    origins = sorted({r.task.origin for r in records})
    if origins != ["official"]:
        lines.append(f"tasks: {', '.join(origins)}, not the published data")
    devices = sorted({r.embeddings.device for r in records if r.embeddings} | {r.device or "cpu" for r in records})
    lines.append(
        f"devices: {', '.join(devices)}, {', '.join(sorted({r.judge.cpu_capability or '-' for r in records}))}"
    )
    return lines


# ------------------------------------------------------------------------------------------------------- the folder
def _write(folder: Path, name: str, key: str, request: Request, done: Reproduction, lock: Path | None) -> None:
    path = find_ours(name, allow_untrained=True, how="").resolved.path
    header = read_header(path) if path else None
    verdicts = [
        {
            "task": task,
            "mean": cell.interval.mean,
            "half_width": cell.interval.half_width,
            "seeds": cell.interval.n,
            "published": cell.published.value if cell.published else None,
            **asdict(cell.verdict),
        }
        for table in done.board.tables
        for (_, task), cell in table.cells.items()
        if cell.verdict is not None
    ]
    facts = {
        "model": name,
        "key": key,
        "protocol": request.protocol,
        "judge": request.judge,
        "seeds": request.seed_list,
        "verdicts": verdicts,
        "differs": done.differs,
        "source": header.source if header else None,
        "passport": header.notes.get(PASSPORT) if header else None,
        "failed": [failure.name for failure in done.summary.failed],
    }
    lines = [
        f"# {name}",
        "",
        f"Beside `{key}`. {verdict_line(done)}.",
        "",
        "What differs:",
        "",
        *(f"- {line}" for line in done.differs),
        "",
        tabulate.markdown(done.board),
    ]
    write_atomically(folder / "README.md", "\n".join(lines).encode())
    write_atomically(folder / "reproduction.json", (json.dumps(facts, indent=1) + "\n").encode())
    write_atomically(folder / "environment.txt", environment_text().encode())
    write_atomically(folder / "command.txt", (shlex.join(request.told_command) + "\n").encode())
    known = KnownFiles(lock or cache_folder() / FETCH_LOCK)
    if name in known.groups:
        write_atomically(folder / "fetch.lock.json", known.text((name,)).encode())


def environment_text() -> str:
    """Versions of everything that is installed, and the kind of machine; no names of machines, users or folders."""
    named = {(dist.metadata["Name"] or "").lower(): dist.version for dist in distributions()}
    first = [f"{package}=={named[package]}" for package in PACKAGES if package in named]
    others = sorted(
        f"{package}=={version}" for package, version in named.items() if package not in PACKAGES and package
    )
    head = f"# Python {platform.python_version()}, {platform.system()} {platform.machine()}, {cores()} cores\n"
    return head + "\n".join([*first, *others]) + "\n"


def failed(done: Reproduction) -> bool:
    """Whether a job failed or a figure was not reproduced."""
    return bool(done.summary.failed) or bool(done.words.get(NOT_REPRODUCED))
