"""What a run of `evaluate` says at the end: scores, what failed, and how to go on."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from hear_models.evaluation.judges.protocols import NOT_COMPARABLE
from hear_models.evaluation.judges.table import JUDGES
from hear_models.evaluation.runs.progress import WIDTH, fit

if TYPE_CHECKING:
    from hear_models.evaluation.runs.planning import RunPlan
    from hear_models.evaluation.runs.settings import Request


@dataclass
class SeedScores:
    """One model on one task, the score of each seed; scores are fractions."""

    model: str
    slug: str
    task: str
    origin: str
    metric: str
    dim: int | None = None
    scores: dict[int, float | None] = field(default_factory=dict)  # seed → score
    undefined: dict[int, str] = field(default_factory=dict)  # seed → why it has no score
    to_do: list[int] = field(default_factory=list)

    @property
    def mean(self) -> float | None:
        """Over seeds; None without a score, or with one that is not defined."""
        values = list(self.scores.values())
        if not values or any(value is None for value in values):
            return None
        return math.fsum(value for value in values if value is not None) / len(values)


@dataclass(frozen=True)
class Failure:
    """What could not be done, and why; `details` is a traceback where nobody foresaw it."""

    name: str
    error: str
    details: str | None = None
    jobs: int = 1


@dataclass
class RunSummary:
    """What was done; `as_dict` is the `--json` output."""

    protocol: str
    judge: str
    seeds: list[int]
    results: str
    random_labels: bool
    rows: list[SeedScores]
    left_out: list[str] = field(default_factory=list)
    put_aside: list[str] = field(default_factory=list)
    jobs: int = 0
    kept: int = 0  # records that were there
    done: int = 0
    failed: list[Failure] = field(default_factory=list)

    @staticmethod
    def of(request: Request, plan: RunPlan) -> RunSummary:
        """Before anything was done."""
        rows = []
        for pair in plan.pairs:
            row = SeedScores(pair.model.name, pair.model.slug, pair.task.name, pair.task.origin, pair.facts.primary)
            row.scores = {seed: record.score for seed, record in sorted(pair.done.items())}
            row.undefined = {seed: record.why_undefined for seed, record in pair.done.items() if record.score is None}
            row.dim = next((r.embeddings.dim for r in pair.done.values() if r.embeddings), None)
            row.to_do = pair.todo
            rows.append(row)
        return RunSummary(
            protocol=request.protocol_name,
            judge=request.judge,
            seeds=request.seed_list,
            results=str(request.results),
            random_labels=request.random_labels,
            rows=rows,
            left_out=plan.left_out,
            jobs=sum(len(pair.seeds) for pair in plan.pairs),
            kept=sum(len(pair.done) for pair in plan.pairs),
            failed=[
                Failure(pair.name, pair.error, jobs=len(pair.seeds) - len(pair.done))
                for pair in plan.pairs
                if pair.error
            ],
        )

    @property
    def jobs_failed(self) -> int:
        """Jobs without a record."""
        return sum(failure.jobs for failure in self.failed)

    def as_dict(self) -> dict[str, Any]:
        """Plain data; a mean that is not defined is null."""
        values = asdict(self)
        for row, plain in zip(self.rows, values["rows"], strict=True):
            plain["mean"] = row.mean
        values["comparable"] = not self.marks
        return values

    @property
    def marks(self) -> list[str]:
        """Why the scores are no result, if they are none; stands above and below the table."""
        marks = []
        if not JUDGES[self.judge].comparable:
            marks.append(f"QUICK LOOK ({self.judge}): not comparable with the leaderboard or any paper.")
        if self.random_labels:
            marks.append("RANDOM LABELS: no result. A score above chance would mean that something leaks.")
        return marks


def table(summary: RunSummary) -> str:
    """The scores as text of at most 80 columns, marks first and last, and what to do next."""
    lines = [*summary.marks]
    how = f"{summary.judge}, {seeds_text(summary.seeds)}"
    how = how if summary.protocol == NOT_COMPARABLE else f"protocol {summary.protocol}, {how}"
    lines.append(f"{how}; {summary.done} done, {summary.kept} kept, {summary.jobs_failed} failed")
    lines += ["", f"  {'task':<32} {'metric':<21} {'mean':>6} seeds"]
    for slug in dict.fromkeys(row.slug for row in summary.rows):
        of_model = [row for row in summary.rows if row.slug == slug]
        lines += [of_model[0].model if of_model[0].model == slug else f"{of_model[0].model}  ({slug})"]
        lines += [_line(row) for row in of_model]
    lines.append("")
    lines += undefined_lines(summary.rows)
    if any(row.origin == "synthetic" for row in summary.rows):
        lines.append("Synthetic tasks say nothing about the real ones.")
    if summary.left_out:
        kinds = " and ".join(JUDGES[summary.judge].kinds)
        lines.append(f"Left out, as {summary.judge} is for {kinds} tasks: {', '.join(summary.left_out)}")
    lines += summary.marks or [f"records: {summary.results}", f"table:   hear-models leaderboard {summary.results}"]
    return "\n".join(lines)


def _line(row: SeedScores) -> str:
    score = "failed" if not row.scores else "n.d." if row.mean is None else f"{row.mean:.4f}"
    mark = "" if row.origin == "official" else f"  {row.origin}"
    return f"  {fit(row.task, '', 32):<32} {fit(row.metric, '', 21):<21} {score:>6} {len(row.scores):>4}{mark}"


def undefined_lines(rows: Sequence[SeedScores]) -> list[str]:
    """n.d. explained: model, task, the seeds without a score, and why."""
    lines = []
    for row in rows:
        for reason in dict.fromkeys(row.undefined.values()):
            seeds = [seed for seed, why in row.undefined.items() if why == reason]
            head = f"n.d., not defined: {row.model} on {row.task}, {seeds_text(seeds)}"
            lines += textwrap.wrap(f"{head}: {row.metric} ({reason})", WIDTH, subsequent_indent="  ")
    return lines


def plan_text(summary: RunSummary) -> str:
    """What a run would do, for `--dry-run`."""
    lines = [*summary.marks, f"{summary.jobs} jobs: {summary.kept} are done, {summary.jobs - summary.kept} to do."]
    for row in summary.rows:
        to_do = seeds_text(row.to_do) if row.to_do else "nothing to do"
        lines.append(f"  {fit(row.slug, '', 24):<24} {fit(row.task, '', 33):<33} {to_do}")
    return "\n".join(lines)


def seeds_text(seeds: Sequence[int]) -> str:
    """ "seed 42", "seeds 0-9" """
    return f"seed{'s' if len(seeds) > 1 else ''} {_ranges(seeds)}"


def _ranges(seeds: Sequence[int]) -> str:
    """0,1,2,5 → "0-2,5"."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)
