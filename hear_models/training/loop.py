"""The pretraining loop: batch, loss, gradients, update, log, save; killed at any moment, it resumes exactly."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from hear_models.checkpoints.safetensors_file import read_header, write_checkpoint
from hear_models.errors import CheckpointError, UsageError
from hear_models.files import write_atomically
from hear_models.pipeline.model import HearModel
from hear_models.training.objectives import Way, chosen_way, config_of, new_network, way_named
from hear_models.training.progress import Progress
from hear_models.training.recipe import Recipe
from hear_models.training.run import Run
from hear_models.zoo import load_model
from hear_models.zoo.families import family_module
from hear_models.zoo.licensing import inherited

STATE, MODEL, BEST, LOG = "state.safetensors", "model.safetensors", "best.safetensors", "log.jsonl"
MOMENTS = ("exp_avg", "exp_avg_sq")


def pretrain(recipe: Recipe, run: Run, report: Callable[[str], None] = print) -> int:
    """Train until the recipe's last update, or until stopped; returns the number of updates done in all.

    `run.output` gets `state.safetensors` (parameters, moments, step), `model.safetensors` (for `load_model`),
    `log.jsonl`, and with a validation set `best.safetensors`, the weights of its best score. The same call again goes
    on from the last save and computes what an uninterrupted run would have.

    Raises:
        UsageError: a recipe that gives no network, no data, or the output folder belongs to another recipe.
        CheckpointError: the saved state is damaged.
    """
    way = way_named(chosen_way(recipe.family, recipe.objective))
    if run.validation and "validation" not in way.tables:
        raise UsageError(f"{recipe.family} is trained without a validation set. Leave --validation out.")
    model, lineage = _begin(recipe, run, way, report)
    objective = way.build(recipe, run, model, report)

    o = recipe.optimiser
    model.to(run.device).train()
    if objective.heads is not None:
        objective.heads.to(run.device).train()
    adam = torch.optim.AdamW(decay_groups(model, o.weight_decay, objective.heads), lr=0.0, betas=o.betas, eps=o.eps)
    progress = Progress(o, objective.watched)
    state = State(recipe, run, model, objective.heads, adam, lineage, progress)
    first = state.resume()
    last = min(o.steps, first + run.stop_after) if run.stop_after is not None else o.steps
    report(f"{recipe.family}: updates {first} to {last} of {o.steps}, {o.batch} crops each, on {run.device}")

    saved, step = time.monotonic(), first
    batches = objective.batches.stream(first, last, o.batch)
    repeated = objective.batches.batch(0, o.batch) if run.synthetic_batch else None
    with _stop_signals() as stop, Log(run.output / LOG, o.batch, last, report) as log:
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
            step += 1

            looked = progress.due(step)
            if looked or step % run.log_every == 0 or step == last or stop:
                figures = objective.validate() if looked or objective.watched is None else {}
                log.write(step, rate, figures)
                if looked and progress.see(figures):
                    state.save_best(step)
            if time.monotonic() - saved >= run.save_every_s or step == last or stop or progress.ended:
                state.save(step)
                saved = time.monotonic()
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
        base = load_model(run.init, family=recipe.family, **way.options)
        model.load_state_dict(dict(way.initial_weights(model, base, report)))
        sha256 = base.checkpoint.sha256 if base.checkpoint else None
        lineage = inherited(read_header(run.init), run.init.name, sha256)
    run.output.mkdir(parents=True, exist_ok=True)
    for orphan in run.output.glob(".*.part"):  # of a run that was killed while it saved
        orphan.unlink()
    return model, lineage


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

    def __init__(self, path: Path, batch: int, last: int, report: Callable[[str], None]) -> None:
        self.path, self.batch, self.last, self.report = path, batch, last, report
        self.losses: list[Tensor] = []  # since the last line
        self.waited_s = 0.0
        self.began = self.written = time.monotonic()

    def __enter__(self) -> Log:
        self.file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what the loop waits for."""
        since = time.monotonic()
        yield
        self.waited_s += time.monotonic() - since

    def write(self, step: int, rate: float, validated: Mapping[str, float]) -> None:
        """A line on the updates since the last one, the last of them at a learning rate of `rate`.

        Raises UsageError if their loss is not a number any more.
        """
        now = time.monotonic()
        mean_loss = float(torch.stack(self.losses).mean())
        if not np.isfinite(mean_loss):
            raise UsageError(f"The loss is {mean_loss} at update {step}. Lower base_rate, or use float32.")
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
        found = "".join(f"  {name} {value:.4f}" for name, value in validated.items())
        crops, minutes = speed * self.batch, (self.last - step) / speed / 60
        self.report(f"update {step}/{self.last}  loss {mean_loss:.4f}{found}  {crops:.0f} crops/s  {minutes:.0f} min")
        self.written, self.waited_s, self.losses = now, 0.0, []


class State:
    """What a run is resumed from: parameters, moments, statistics and the step, as `state.safetensors`."""

    def __init__(
        self,
        recipe: Recipe,
        run: Run,
        model: HearModel,
        heads: nn.Module | None,
        adam: torch.optim.AdamW,
        lineage: dict[str, Any],
        progress: Progress,
    ) -> None:
        self.recipe, self.run, self.model, self.adam, self.lineage = recipe, run, model, adam, lineage
        self.progress = progress
        parts = [("", model), *([("heads.", heads)] if heads is not None else [])]
        self.parameters = [(f"{at}{name}", p) for at, part in parts for name, p in part.named_parameters()]
        kept = [(at, part, part.state_dict()) for at, part in parts]
        self.buffers = [(f"{at}{n}", b) for at, part, state in kept for n, b in part.named_buffers() if n in state]

    def save(self, step: int) -> None:
        """Write state and model; each of the two files whole or not at all."""
        tensors = {}
        for name, parameter in self.parameters:
            tensors[f"parameter/{name}"] = parameter.detach().cpu().contiguous()
            if parameter.requires_grad:
                for moment in MOMENTS:
                    tensors[f"{moment}/{name}"] = self.adam.state[parameter][moment].cpu().contiguous()
        tensors |= {f"buffer/{name}": buffer.cpu() for name, buffer in self.buffers}
        about = {"step": str(step), "recipe": self.recipe.digest, "lineage": json.dumps(self.lineage)}
        if standing := self.progress.as_dict():
            about["standing"] = json.dumps(standing)
        write_atomically(self.run.output / STATE, save(tensors, about))
        self._write_model(MODEL, step)

    def save_best(self, step: int) -> None:
        """Write the weights that the validation set likes best so far."""
        self._write_model(BEST, step)

    def _write_model(self, name: str, step: int) -> None:
        config = asdict(self.model.trained_config())
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        notes = {"recipe": self.recipe.as_dict(), "step": step, **self.lineage}
        write_checkpoint(self.run.output / name, family=self.recipe.family, config=config, tensors=weights, notes=notes)

    def resume(self) -> int:
        """Fill model and optimiser from the last save, drop later log lines; returns the updates done."""
        path, log = self.run.output / STATE, self.run.output / LOG
        if not path.exists():
            log.write_text("", encoding="utf-8")
            return 0
        try:
            step = self._read(path)
        except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{path} is damaged ({error}). Delete it to begin again.") from None
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        write_atomically(log, "".join(line + "\n" for line in kept).encode())
        return step

    def _read(self, path: Path) -> int:
        with safe_open(str(path), framework="pt") as file, torch.no_grad():
            about = file.metadata() or {}
            if about.get("recipe") != self.recipe.digest:
                raise UsageError(
                    f"{self.run.output} holds a run of another recipe. Give another --output, or that recipe."
                )
            step = int(about["step"])
            # a run goes on with the weights that it began with
            self.lineage = json.loads(about.get("lineage", "{}")) or self.lineage
            self.progress.restore(json.loads(about.get("standing", "{}")))
            for name, parameter in self.parameters:
                parameter.copy_(file.get_tensor(f"parameter/{name}"))
                if parameter.requires_grad:
                    moments = {m: torch.empty_like(parameter).copy_(file.get_tensor(f"{m}/{name}")) for m in MOMENTS}
                    self.adam.state[parameter] = {"step": torch.tensor(float(step)), **moments}
            for name, buffer in self.buffers:
                buffer.copy_(file.get_tensor(f"buffer/{name}"))
        return step


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
