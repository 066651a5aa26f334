"""The pretraining loop: batch, loss, gradients, update, log, save; killed at any moment, it resumes exactly."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hear_models.checkpoints.safetensors_file import read_header, write_checkpoint
from hear_models.errors import CheckpointError, UsageError
from hear_models.files import write_atomically
from hear_models.pipeline.model import HearModel
from hear_models.training.objectives import build, initial_weights, is_masked, is_tagger, objective_of, options_of
from hear_models.training.recipe import Recipe
from hear_models.training.run import Run
from hear_models.zoo import list_models, load_model
from hear_models.zoo.licensing import inherited

STATE, MODEL, LOG = "state.safetensors", "model.safetensors", "log.jsonl"
MOMENTS = ("exp_avg", "exp_avg_sq")


def pretrain(recipe: Recipe, run: Run, report: Callable[[str], None] = print) -> int:
    """Train until the recipe's last update, or until stopped; returns the number of updates done in all.

    `run.output` gets `state.safetensors` (parameters, moments, step), `model.safetensors` (for `load_model`), and
    `log.jsonl`. The same call again goes on from the last save and computes what an uninterrupted run would have.

    Raises:
        UsageError: no data, or the output folder belongs to another recipe.
        CheckpointError: the saved state is damaged.
    """
    module = _family(recipe.family)
    try:
        config = module.Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in recipe.model.items()})
    except TypeError as error:
        raise UsageError(
            f"[model] of the recipe does not fit {recipe.family}: {error}. Use fields of its Config."
        ) from None
    model = build(module, config, recipe.seed)
    lineage: dict[str, Any] = {}  # for the header: the weights that training began with, and the licence that binds
    if run.init is not None:
        base = load_model(run.init, family=recipe.family, **options_of(module))
        model.load_state_dict(initial_weights(model, base, report))
        sha256 = base.checkpoint.sha256 if base.checkpoint else None
        lineage = inherited(read_header(run.init), run.init.name, sha256)
    run.output.mkdir(parents=True, exist_ok=True)
    for orphan in run.output.glob(".*.part"):  # of a run that was killed while it saved
        orphan.unlink()
    objective = objective_of(recipe, run, module, model, report)

    o = recipe.optimiser
    model.to(run.device).train()
    adam = torch.optim.AdamW(decay_groups(model, o.weight_decay), lr=0.0, betas=o.betas, eps=o.eps)
    first, lineage = _resume(recipe, run, model, adam, lineage)
    last = min(o.steps, first + run.stop_after) if run.stop_after is not None else o.steps
    report(f"{recipe.family}: updates {first} to {last} of {o.steps}, {o.batch} crops each, on {run.device}")

    began = saved = logged = time.monotonic()
    waited, losses = 0.0, []
    step = first
    batches = objective.batches.stream(first, last, o.batch)
    repeated = objective.batches.batch(0, o.batch) if run.synthetic_batch else None
    with _stop_signals() as stop, (run.output / LOG).open("a", encoding="utf-8") as log:
        while step < last and not stop:
            waiting_since = time.monotonic()
            batch = repeated or next(batches)
            waited += time.monotonic() - waiting_since

            with torch.autocast(run.device.split(":")[0], torch.bfloat16, enabled=o.precision == "bfloat16"):
                loss = objective.loss(batch, step)
            adam.zero_grad(set_to_none=True)
            loss.backward()
            for group in adam.param_groups:
                group["lr"] = o.rate(step)
            adam.step()
            losses.append(loss.detach())
            step += 1

            now = time.monotonic()
            if step % run.log_every == 0 or step == last or stop:
                mean_loss = float(torch.stack(losses).mean())
                if not np.isfinite(mean_loss):
                    raise UsageError(f"The loss is {mean_loss} at update {step}. Lower base_rate, or use float32.")
                rate = len(losses) / (now - logged)
                line = {
                    "step": step,
                    "loss": round(mean_loss, 5),
                    "rate": o.rate(step - 1),
                    "updates_per_s": round(rate, 3),
                }
                line |= {"crops_per_s": round(rate * o.batch, 1), "data_wait_share": round(waited / (now - logged), 4)}
                log.write(json.dumps(line | {"seconds": round(now - began, 1)}) + "\n")
                log.flush()
                left = (last - step) / rate
                report(f"update {step}/{last}  loss {mean_loss:.4f}  {rate * o.batch:.0f} crops/s  {left / 60:.0f} min")
                logged, waited, losses = now, 0.0, []
            if now - saved >= run.save_every_s or step == last or stop:
                _save(recipe, run, model, adam, step, lineage)
                saved = now
    if stop:
        report(f"stopped after update {step}; the same command goes on from there")
    return step


def decay_groups(model: HearModel, weight_decay: float) -> list[dict[str, Any]]:
    """The trained parameters for AdamW, those that the family's paper decays first."""
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": weight_decay},
        {"params": [], "weight_decay": 0.0},
    ]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[0 if model.decays(name, parameter) else 1]["params"].append(parameter)
    return [group for group in groups if group["params"]]


def _family(name: str) -> Any:
    """The module of a family that has a pretraining objective."""
    modules = {family: import_module(f"hear_models.{family}") for family in {entry.family for entry in list_models()}}
    able = sorted(family for family, module in modules.items() if is_masked(module) or is_tagger(module))
    if name not in able:
        raise UsageError(f"The family {name!r} cannot be pretrained. Use one of {', '.join(able)}.")
    return modules[name]


def _save(
    recipe: Recipe, run: Run, model: HearModel, adam: torch.optim.AdamW, step: int, lineage: dict[str, Any]
) -> None:
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[f"parameter/{name}"] = parameter.detach().cpu().contiguous()
        if parameter.requires_grad:
            for moment in MOMENTS:
                tensors[f"{moment}/{name}"] = adam.state[parameter][moment].cpu().contiguous()
    tensors |= {f"buffer/{name}": buffer.cpu() for name, buffer in _kept_buffers(model)}
    about = {"step": str(step), "recipe": recipe.digest, "lineage": json.dumps(lineage)}
    write_atomically(run.output / STATE, save(tensors, about))
    config: dict[str, Any] = asdict(model.trained_config())
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    notes = {"recipe": asdict(recipe), "step": step, **lineage}
    write_checkpoint(run.output / MODEL, family=recipe.family, config=config, tensors=weights, notes=notes)


def _kept_buffers(model: HearModel) -> list[tuple[str, Tensor]]:
    """What training changes beside the parameters: running statistics."""
    kept = model.state_dict()
    return [(name, buffer) for name, buffer in model.named_buffers() if name in kept]


def _resume(
    recipe: Recipe, run: Run, model: HearModel, adam: torch.optim.AdamW, lineage: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """Fill the model and the optimiser from the last save, drop later log lines; returns updates done and lineage."""
    path = run.output / STATE
    if not path.exists():
        (run.output / LOG).write_text("", encoding="utf-8")
        return 0, lineage
    try:
        with safe_open(str(path), framework="pt") as file:
            about = file.metadata() or {}
            if about.get("recipe") != recipe.digest:
                raise UsageError(f"{run.output} holds a run of another recipe. Give another --output, or that recipe.")
            step = int(about["step"])
            lineage = json.loads(about.get("lineage", "{}")) or lineage  # a run goes on with the weights it began with
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(file.get_tensor(f"parameter/{name}"))
                    if not parameter.requires_grad:
                        continue
                    moments = {m: torch.empty_like(parameter).copy_(file.get_tensor(f"{m}/{name}")) for m in MOMENTS}
                    adam.state[parameter] = {"step": torch.tensor(float(step)), **moments}
                for name, buffer in _kept_buffers(model):
                    buffer.copy_(file.get_tensor(f"buffer/{name}"))
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}). Delete it to begin again.") from None
    log = run.output / LOG
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    write_atomically(log, "".join(line + "\n" for line in kept).encode())
    return step, lineage


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
