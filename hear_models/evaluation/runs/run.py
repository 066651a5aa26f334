"""`evaluate`: models x tasks x seeds, planned, embedded here, judged in worker processes, resumable at any point.

    plan      resolve models, read tasks, look at the records that are there: done, to do, or of other inputs
    embed     one model after the other, one task after the other, in this process (it uses all cores, or the GPU)
    judge     every job in a worker process of one thread; each writes its own record

On a GPU the judging of what is embedded goes on meanwhile; on a CPU both want the same cores, so embedding comes first.
What fails takes nothing else with it and is listed at the end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from hear_models.errors import HearModelsError, UsageError
from hear_models.evaluation.embeddings.extraction import Extraction, extract
from hear_models.evaluation.embeddings.preflight import look_at_module
from hear_models.evaluation.judges.table import find_judge
from hear_models.evaluation.runs.estimate import Estimate, Work, bounds, row_seconds
from hear_models.evaluation.runs.jobs import Job, JobResult, record_file, run_job
from hear_models.evaluation.runs.planning import ModelOnTask, RunPlan, embedding, judging, make_plan
from hear_models.evaluation.runs.progress import Reporter
from hear_models.evaluation.runs.record import EmbeddingFacts
from hear_models.evaluation.runs.settings import Request
from hear_models.evaluation.runs.summary import Failure, RunSummary
from hear_models.execution.local import Workers
from hear_models.execution.pool import Done, Pool

POLL_S = 0.5


def evaluate(request: Request, reporter: Reporter | None = None, *, dry_run: bool = False) -> RunSummary:
    """Do what is asked; what was finished before is kept and not done again.

    Returns:
        Scores, and what failed. With `dry_run` nothing is embedded, judged, written or moved.

    Raises:
        UsageError: a wrong option, an unknown model or task, a model with random weights, or records of other inputs
            (then nothing was changed; `overwrite` puts them aside).
        HearModelsError: a task folder that cannot be read.
    """
    request.check()
    shown_results, request = str(request.results), request.absolute()
    reporter = reporter or Reporter(quiet=True)
    device = device_of(request)
    plan = make_plan(request, device)
    summary = RunSummary.of(request, plan)
    summary.results = shown_results
    if dry_run:
        return summary
    summary.put_aside = [str(path) for path in plan.put_aside()]
    if summary.put_aside:
        more = f" and {len(summary.put_aside) - 1} more" if len(summary.put_aside) > 1 else ""
        reporter.say(f"put aside: {summary.put_aside[0]}{more}")
    _Evaluation(request, plan, summary, reporter, device).go()
    return summary


def device_of(request: Request) -> str:
    """The device of the embeddings; UsageError if there is no such device."""
    name = request.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=torch.device(name))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].partition(":")[0].partition(" device type at")[0].rstrip(".")
        raise UsageError(f"The device {name!r} cannot be used ({reason}). Try --device cpu.") from error
    return name


def overlaps(device: str) -> bool:
    """Whether judging goes on while other tasks are embedded: on a CPU both would want the same cores."""
    return torch.device(device).type != "cpu"


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


TIMED = "builtin"  # the judge whose trainings `bounds` speaks of


class _Evaluation:
    """The work that a plan leaves to do."""

    def __init__(self, request: Request, plan: RunPlan, summary: RunSummary, reporter: Reporter, device: str) -> None:
        self.request, self.summary, self.reporter, self.device = request, summary, reporter, device
        self.to_embed = [pair for pair in plan.pairs if pair.todo]
        self.to_judge = {(pair.name, seed): judging(request, pair.task) for pair in self.to_embed for seed in pair.todo}
        self.ready: list[Job] = []  # on a CPU: waits until everything is embedded
        self.busy: list[Job] = []  # another run does them: for the end
        self.meanwhile = overlaps(device)
        self.estimate = Estimate()
        for pair in plan.pairs:
            for record in pair.done.values():
                if record.wall_s is not None:
                    self.estimate.measured(judging(request, pair.task), record.wall_s)
        self.rows = {(row.slug, row.task): row for row in summary.rows}

    def go(self) -> None:
        """Embed, judge, note what failed."""
        state = self.reporter.state
        state.embeddings, state.jobs = len(self.to_embed), len(self.to_judge)
        if not self.to_embed:
            return
        find_judge(self.request.judge).prepare(self.reporter.say)
        with Workers(run_job, min(self.request.jobs or cores(), state.jobs)) as workers:
            while self.to_embed:
                slug = self.to_embed[0].subject.slug
                self._embed_model([pair for pair in self.to_embed if pair.subject.slug == slug], workers)
            self._tell_bounds(workers.count)
            # longest first, so that no core waits for one long job at the end
            ready, self.ready = sorted(self.ready, key=lambda job: -job.work.units), []
            for job in ready:
                workers.submit(job)
            while workers.left:
                self._poll(workers, POLL_S)
            if self.busy:
                self.reporter.say(f"waiting for another run, which does {len(self.busy)} of these jobs")
                for job in self.busy:
                    workers.submit(replace(job, patient=True))
            while workers.left:
                self._poll(workers, POLL_S)

    def _tell_bounds(self, at_once: int) -> None:
        """How long the scores may take, where nothing of their kind was measured and what runs is known."""
        works = [job.work for job in self.ready]
        if not works or self.request.judge != TIMED or self.estimate.left(works) is not None:
            return
        row_s = max(row_seconds(dim) for dim in {job.embeddings.dim for job in self.ready})
        self.reporter.scores_take(*bounds(works, row_s, at_once))

    # ------------------------------------------------------------------------------------------------- embeddings
    def _embed_model(self, pairs: list[ModelOnTask], workers: Pool[Job]) -> None:
        loaded = pairs[0].loaded
        for pair in pairs:
            self.reporter.state.embedding, self.reporter.state.clips = pair.name, None
            self._draw(workers)
            began = time.monotonic()
            try:
                loaded = loaded or pair.subject.load(self.device)
                pair.warnings = tuple(look_at_module(loaded, pair.task))
                for text in pair.warnings:
                    self.reporter.say(f"note: {text}")
                extraction = extract(
                    loaded,
                    pair.task,
                    self.request.embeddings_dir,
                    progress=self._progress(pair, workers, began),
                    wait=self.reporter.say,
                )
            except HearModelsError as error:
                self.to_embed.remove(pair)
                self._lost(pair, str(error))
                continue
            self.to_embed.remove(pair)
            seconds = time.monotonic() - began
            if not extraction.reused:
                self.estimate.measured(embedding(pair.subject, pair.task), seconds)
            self.reporter.embedded(pair.name, extraction.reused, seconds)
            self._add_jobs(pair, extraction, workers)
        self.reporter.state.embedding = self.reporter.state.clips = None

    def _progress(self, pair: ModelOnTask, workers: Pool[Job], began: float) -> Callable[[int, int], None]:
        def report(done: int, of: int) -> None:
            self.reporter.state.clips = (done, of)
            if self.meanwhile:
                self._poll(workers, 0.0)
            else:
                self._draw(workers, (embedding(pair.subject, pair.task), time.monotonic() - began, done / max(1, of)))

        return report

    def _lost(self, pair: ModelOnTask, error: str) -> None:
        for seed in pair.todo:
            self.to_judge.pop((pair.name, seed), None)
        self.summary.failed.append(Failure(pair.name, error, jobs=len(pair.todo)))
        state = self.reporter.state
        state.embeddings_done, state.jobs = state.embeddings_done + 1, state.jobs - len(pair.todo)
        self.reporter.failed(pair.name, error)

    def _add_jobs(self, pair: ModelOnTask, extraction: Extraction, workers: Pool[Job]) -> None:
        assert pair.inputs is not None
        if extraction.sha256 != pair.inputs.embeddings:  # the task's files changed between the plan and now
            self._lost(pair, "the model or the task's files changed while this run was going on. Start it again.")
            return
        facts = EmbeddingFacts(
            sha256=extraction.sha256,
            dim=extraction.dim,
            batches=extraction.batches,
            device=extraction.device,
            wall_s=extraction.wall_s,
            cpu_s=extraction.cpu_s,
        )
        self.rows[pair.subject.slug, pair.task.name].dim = extraction.dim
        for seed in pair.todo:
            job = Job(
                model=pair.model,
                task=pair.facts,
                inputs=pair.inputs,
                seed=seed,
                folder=str(extraction.folder),
                embeddings=facts,
                path=str(record_file(self.request.results, pair.model, pair.facts, pair.inputs, seed)),
                work=self.to_judge.pop((pair.name, seed)),
                name=f"{pair.name}  seed {seed}",
                command=self.request.told_command,
                warnings=pair.warnings,
            )
            if self.meanwhile:
                workers.submit(job)
            else:
                self.ready.append(job)

    # ---------------------------------------------------------------------------------------------------- judging
    def _poll(self, workers: Pool[Job], timeout_s: float) -> None:
        for done in workers.poll(timeout_s):
            self._note(done, workers)
        self._draw(workers)

    def _note(self, done: Done[Job], workers: Pool[Job]) -> None:
        job = done.job
        if done.error is None and done.result.busy:
            self.busy.append(job)
            return
        row = self.rows[job.model.slug, job.task.name]
        if done.error is not None:
            self.summary.failed.append(Failure(job.name, done.error, done.details))
            self.reporter.state.jobs_done += 1
            self.reporter.failed(job.name, done.error)
        else:
            result: JobResult = done.result
            row.scores[job.seed] = result.score
            if result.why_undefined:
                row.undefined[job.seed] = result.why_undefined
            row.scores = dict(sorted(row.scores.items()))
            self.summary.done += 1
            self.estimate.measured(job.work, result.wall_s)
            self._draw(workers)
            self.reporter.scored(job.name, shown(result.score), result.wall_s)
        row.to_do.remove(job.seed)
        if not row.to_do:
            self.reporter.finished(job.name.rpartition("  seed ")[0], len(row.scores), shown(row.mean))

    def _draw(self, workers: Pool[Job], now: tuple[Work, float, float] | None = None) -> None:
        """Show where the run stands; `now`: the embedding in work, its seconds so far, and its share that is done."""
        state = self.reporter.state
        state.running = [(job.name, seconds) for job, seconds in workers.running]
        waiting = [*self.to_judge.values(), *(job.work for job in self.ready), *(job.work for job in workers.waiting)]
        judged = self.estimate.left(waiting, [(job.work, s) for job, s in workers.running], workers.count)
        pairs = self.to_embed[1:] if now else self.to_embed
        embedded = self.estimate.left([embedding(pair.subject, pair.task) for pair in pairs])
        if now and now[2] > 0:
            rest = now[1] * (1 - now[2]) / now[2]
            embedded = None if embedded is None else embedded + rest
        if judged is None or embedded is None:
            state.left_s = None
        else:
            state.left_s = max(judged, embedded) if self.meanwhile else judged + embedded
        self.reporter.draw()


def shown(score: float | None) -> str:
    """A score for people."""
    return "not defined" if score is None else f"{score:.4f}"
