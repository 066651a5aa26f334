"""The pretraining loop: batch, loss, gradients, update, log, save; killed at any moment, it resumes exactly."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hear_models.checkpoints.safetensors_file import read_header
from hear_models.errors import FileError, UsageError
from hear_models.files import open_to_write, unwritable, write_atomically
from hear_models.foreign import read_bytes
from hear_models.locks import inside, only_writer
from hear_models.pipeline.model import HearModel
from hear_models.training.curves import Events, check_installed, write_curves
from hear_models.training.objectives import Way, chosen_way, config_of, new_network, way_named
from hear_models.training.progress import Progress
from hear_models.training.recipe import Recipe
from hear_models.training.run import Run
from hear_models.training.state import Guard, State
from hear_models.zoo import load_model
from hear_models.zoo.families import family_module
from hear_models.zoo.licensing import inherited
from hear_models.zoo.starting import first_weights

LOG = "log.jsonl"


def pretrain(recipe: Recipe, run: Run, report: Callable[[str], None] = print) -> int:
    """Train until the recipe's last update, or until stopped; returns the number of updates done in all.

    `run.output` gets `state.safetensors` (parameters, moments, step), `model.safetensors` (for `load_model`),
    `log.jsonl`, and with a validation set `best.safetensors`, the weights of its best score. The same call again goes
    on from the last save and computes what an uninterrupted run would have.

    Raises:
        UsageError: a recipe that gives no network, no data, or the output folder belongs to another recipe, to other
            data, to other first weights, or to another run that is going on.
        CheckpointError: the saved state is damaged.
        FileError: the output or the cache cannot be written.
        DivergedError: a loss or a parameter is not finite; what was saved before stays.
    """
    way = way_named(chosen_way(recipe.family, recipe.objective))
    check_installed(run)
    if run.validation and "validation" not in way.tables:
        raise UsageError(f"{recipe.family} is trained without a validation set. Leave --validation out.")
    try:
        run.output.mkdir(parents=True, exist_ok=True)
        with only_writer(inside(run.output), run.output):
            return _pretrain(recipe, run, way, report)
    except OSError as error:
        said = unwritable(error.filename or run.output, error, "Make room, or give another --output.")
        raise FileError(f"{said} The same command goes on from the last save.") from error


def _pretrain(recipe: Recipe, run: Run, way: Way, report: Callable[[str], None]) -> int:
    model, lineage = _begin(recipe, run, way, report)
    objective = way.build(recipe, run, model, report)

    o = recipe.optimiser
    model.to(run.device).train()
    if objective.heads is not None:
        objective.heads.to(run.device).train()
    adam = torch.optim.AdamW(decay_groups(model, o.weight_decay, objective.heads), lr=0.0, betas=o.betas, eps=o.eps)
    progress = Progress(o, objective.watched)
    state = State(recipe, run, model, objective.heads, adam, lineage, dict(objective.data), progress)
    first = state.resume(report)
    kept_lines(run.output / LOG, first)
    last = min(o.steps, first + run.stop_after) if run.stop_after is not None else o.steps
    report(f"{recipe.family}: updates {first} to {last} of {o.steps}, {o.batch} crops each, on {run.device}")

    saved, step = time.monotonic(), first
    guard = Guard(run, state, objective.batches, o.batch)
    batches = objective.batches.stream(first, last, o.batch)
    repeated = objective.batches.batch(0, o.batch) if run.synthetic_batch else None
    with _stop_signals() as stop, Log(run, o.batch, first, last, report) as log:
        while step < last and not stop and not progress.ended:
            with log.waiting():
                batch = repeated or next(batches)
            with torch.autocast(run.device.split(":")[0], torch.bfloat16, enabled=o.precision == "bfloat16"):
                loss = objective.loss(batch, step)
            adam.zero_grad(set_to_none=True)
            loss.backward()
            rate = progress.rate(step)
            for group in adam.param_groups:
                group["lr"] = rate
            adam.step()
            log.losses.append(loss.detach())
            guard.losses.append(loss.detach())
            step += 1

            look = progress.due(step)
            due = time.monotonic() - saved >= run.save_every_s or step == last or bool(stop)
            if due or look or step % run.log_every == 0:
                guard.check(step)
            if look or step % run.log_every == 0 or step == last or stop:
                figures = objective.validate() if look or objective.watched is None else {}
                log.write(step, rate, figures)
                if look and progress.see(figures):
                    state.save_best(step)
            if due or progress.ended:
                state.save(step)
                saved = time.monotonic()
    if run.curves:
        write_curves(run.output / LOG, run.output)
    if progress.ended:
        report(f"ended after update {step}: no better score for {progress.standing.idle} looks at the validation set")
    elif stop:
        report(f"stopped after update {step}; the same command goes on from there")
    return step


def _begin(recipe: Recipe, run: Run, way: Way, report: Callable[[str], None]) -> tuple[HearModel, dict[str, Any]]:
    """(the network with its first weights, what the header tells of the weights that training began with)."""
    model = new_network(family_module(recipe.family), config_of(recipe), recipe.seed, way.options)
    lineage: dict[str, Any] = {}
    if run.init is not None:
        path = first_weights(run.init, recipe.family, bool(way.options.get("decoder")))
        base = load_model(path, family=recipe.family, **way.options)
        begin_with(model, way.initial_weights(model, base, report), path)
        sha256 = base.checkpoint.sha256 if base.checkpoint else None
        lineage = inherited(read_header(path), path.name, sha256)
    return model, lineage


def begin_with(model: HearModel, weights: Mapping[str, Tensor], path: Path) -> None:
    """Take over weights. UsageError if they are those of another network: `[model]` says what the recipe trains."""
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(own.keys() | given.keys()):
        if own.get(name) != given.get(name):
            of = [str(list(shapes[name])) if name in shapes else "nothing" for shapes in (given, own)]
            raise UsageError(
                f"{path} is a network of other sizes than [model] of the recipe: {name} is {of[0]} there, {of[1]} "
                "here. Leave --init out, or take the recipe of that network."
            )
    model.load_state_dict(dict(weights))


def decay_groups(model: HearModel, weight_decay: float, heads: nn.Module | None = None) -> list[dict[str, Any]]:
    """The trained parameters for AdamW, those that the family's paper decays first; an objective's heads decay too."""
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": weight_decay},
        {"params": [], "weight_decay": 0.0},
    ]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[0 if model.decays(name, parameter) else 1]["params"].append(parameter)
    if heads is not None:
        groups[0]["params"] += [parameter for parameter in heads.parameters() if parameter.requires_grad]
    return [group for group in groups if group["params"]]


class Log:
    """The lines of `log.jsonl`, and what is told while the run goes on."""

    def __init__(self, run: Run, batch: int, first: int, last: int, report: Callable[[str], None]) -> None:
        self.path, self.batch, self.last, self.report = run.output / LOG, batch, last, report
        self.events = Events(run, first) if run.tensorboard else None
        self.losses: list[Tensor] = []  # since the last line
        self.waited_s = 0.0
        self.began = self.written = time.monotonic()

    def __enter__(self) -> Log:
        self.file = os.fdopen(open_to_write(self.path, append=True), "w", encoding="utf-8")
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()
        if self.events is not None:
            self.events.close()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what the loop waits for."""
        since = time.monotonic()
        yield
        self.waited_s += time.monotonic() - since

    def write(self, step: int, rate: float, validated: Mapping[str, float]) -> None:
        """A line on the updates since the last one, the last of them at a learning rate of `rate`."""
        now = time.monotonic()
        mean_loss = float(torch.stack(self.losses).mean())
        seconds = now - self.written
        speed = len(self.losses) / seconds
        line = {
            "step": step,
            "loss": round(mean_loss, 5),
            "rate": rate,
            "updates_per_s": round(speed, 3),
            "crops_per_s": round(speed * self.batch, 1),
            "data_wait_share": round(self.waited_s / seconds, 4),
            "seconds": round(now - self.began, 1),
            **validated,
        }
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        if self.events is not None:
            self.events.note(line)
        found = "".join(f"  {name} {value:.4f}" for name, value in validated.items())
        crops, minutes = speed * self.batch, (self.last - step) / speed / 60
        self.report(f"update {step}/{self.last}  loss {mean_loss:.4f}{found}  {crops:.0f} crops/s  {minutes:.0f} min")
        self.written, self.waited_s, self.losses = now, 0.0, []


def kept_lines(log: Path, step: int) -> None:
    """Keep the lines of a log up to the last save: later updates are done again. Lines that are damaged go too."""
    kept = []
    for line in read_bytes(log).decode("utf-8", "replace").splitlines() if log.exists() else ():
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            if json.loads(line)["step"] <= step:
                kept.append(line)
    write_atomically(log, "".join(line + "\n" for line in kept).encode())


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that becomes non-empty at Ctrl-C or SIGTERM; a second signal ends the process at once."""
    asked: list[int] = []

    def note(number: int, _frame: object) -> None:
        asked.append(number)
        if len(asked) > 1:
            os._exit(128 + number)

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:  # not the main thread: the caller stops the run
        pass
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
