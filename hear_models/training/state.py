"""What a pretraining run keeps: its state, from which it is resumed, and its model; nothing that is not finite."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hear_models.checkpoints.safetensors_file import verify, write_checkpoint
from hear_models.checkpoints.sealed import read_sealed, sealed
from hear_models.errors import CheckpointError, HearModelsError, UsageError
from hear_models.files import write_atomically
from hear_models.foreign import reading
from hear_models.pipeline.model import HearModel
from hear_models.training.batches import Batches
from hear_models.training.progress import Progress
from hear_models.training.recipe import Recipe
from hear_models.training.run import Run
from hear_models.zoo.licensing import STARTED_FROM

STATE, MODEL, BEST = "state.safetensors", "model.safetensors", "best.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")
STANDING, DATA, CHANGED = "standing", "data", "changed"  # in the notes of a model's header


class DivergedError(HearModelsError):
    """A loss or a parameter of a run is not finite."""


class State:
    """Parameters, moments, statistics and the step, as `state.safetensors`; the model as `model.safetensors`.

    Args:
        lineage: what the header tells of the weights that training began with.
        data: what is learned from, see `features.data_identity`.
        progress: how the run stands with its validation set.
    """

    def __init__(
        self,
        recipe: Recipe,
        run: Run,
        model: HearModel,
        heads: nn.Module | None,
        adam: torch.optim.AdamW,
        lineage: dict[str, Any],
        data: dict[str, Any],
        progress: Progress,
    ) -> None:
        self.recipe, self.run, self.model, self.adam, self.progress = recipe, run, model, adam, progress
        self.lineage, self.data = lineage, data
        self.changed: list[Any] = []  # what was another one before which update
        self.saved = 0
        parts = [("", model), *([("heads.", heads)] if heads is not None else [])]
        self.parameters = [(f"{at}{name}", p) for at, part in parts for name, p in part.named_parameters()]
        kept = [(at, part, part.state_dict()) for at, part in parts]
        self.buffers = [(f"{at}{n}", b) for at, part, state in kept for n, b in part.named_buffers() if n in state]

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is kept, on the CPU."""
        found = {}
        for name, parameter in self.parameters:
            found[f"parameter/{name}"] = parameter.detach().cpu().contiguous()
            if parameter.requires_grad and parameter in self.adam.state:
                for moment in MOMENTS:
                    found[f"{moment}/{name}"] = self.adam.state[parameter][moment].cpu().contiguous()
        return found | {f"buffer/{name}": buffer.cpu() for name, buffer in self.buffers}

    def save(self, step: int) -> None:
        """Write state and model; each of the two files whole or not at all."""
        about = {
            "step": str(step),
            "recipe": self.recipe.digest,
            "tables": json.dumps(self.recipe.as_dict()),
            "lineage": json.dumps(self.lineage),
            DATA: json.dumps(self.data),
            CHANGED: json.dumps(self.changed),
            STANDING: json.dumps(self.progress.as_dict()),
        }
        write_atomically(self.run.output / STATE, sealed(self.tensors(), about))
        self.saved = step
        self._write_model(step)

    def save_best(self, step: int) -> None:
        """Write the weights that the validation set likes best so far."""
        self._write_model(step, BEST)

    def _write_model(self, step: int, name: str = MODEL) -> None:
        config = asdict(self.model.trained_config())
        weights = {key: tensor.detach().cpu().contiguous() for key, tensor in self.model.state_dict().items()}
        notes = {"recipe": self.recipe.as_dict(), "step": step, DATA: self.data, **self.lineage}
        if self.changed:
            notes[CHANGED] = self.changed
        write_checkpoint(self.run.output / name, family=self.recipe.family, config=config, tensors=weights, notes=notes)

    def resume(self, report: Callable[[str], None]) -> int:
        """Fill model and optimiser from the last save; returns the updates done.

        Raises UsageError if the run is of another recipe, other data or other first weights, CheckpointError if it is
        damaged.
        """
        path = self.run.output / STATE
        if not path.exists():
            return 0
        advice = "Delete it to begin again."
        tensors, about, with_digest = read_sealed(path, advice)
        if not with_digest:
            report(f"{path} is of an older version and has no digest: it is taken as it is")
        with reading(path, CheckpointError, advice):
            step = int(about["step"])
            self._compare(about, step)
            self.progress.restore(json.loads(about.get(STANDING, "{}")))
            self._fill(tensors, step)
        self.saved = step
        if not self._has_model(step):  # the run was killed, or the disk full, between the two files
            self._write_model(step)
        return step

    def _has_model(self, step: int) -> bool:
        try:
            header, _, _ = verify(self.run.output / MODEL)
        except CheckpointError:
            return False
        return header.notes.get("step") == step

    def _compare(self, about: Mapping[str, str], step: int) -> None:
        """Refuse what the run was not begun with; take over what it was."""
        output, other = self.run.output, "Give another --output"
        self.changed = json.loads(about.get(CHANGED, "[]"))
        if about.get("recipe") != self.recipe.digest:
            before, now = json.loads(about.get("tables", "{}")), json.loads(json.dumps(self.recipe.as_dict()))
            differing = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
            if not before or not differing or set(differing) - set(self.run.go_on_with_changed):
                what = f" ([{'], ['.join(differing)}] differ)" if before and differing else ""
                cure = ", or --go-on-with-changed optimiser" if differing == ["optimiser"] else ""
                raise _Refused(f"{output} holds a run of another recipe{what}. {other}, or that recipe{cure}.")
            self.changed.append({"before_update": step + 1, **{name: before[name] for name in differing}})
        data = json.loads(about.get(DATA, "{}"))
        if data and data["sha256"] != self.data["sha256"]:
            names = ", ".join(str(source["name"]) for source in data["sources"])
            raise _Refused(f"{output} holds a run on other data ({names}). {other}, or the --data that it began with.")
        lineage = json.loads(about.get("lineage", "{}"))
        given, began = (notes.get(STARTED_FROM, {}).get("sha256") for notes in (self.lineage, lineage))
        if self.run.init is not None and given != began:
            raise _Refused(f"{output} holds a run that began with other weights. {other}, or leave --init out.")
        self.lineage = lineage

    @torch.no_grad()
    def _fill(self, tensors: Mapping[str, Tensor], step: int) -> None:
        for name, parameter in self.parameters:
            parameter.copy_(tensors[f"parameter/{name}"])
            if parameter.requires_grad:
                moments = {m: torch.empty_like(parameter).copy_(tensors[f"{m}/{name}"]) for m in MOMENTS}
                self.adam.state[parameter] = {"step": torch.tensor(float(step)), **moments}
        for name, buffer in self.buffers:
            buffer.copy_(tensors[f"buffer/{name}"])


class _Refused(CheckpointError, UsageError):
    """A run is not the one that is asked for: wrong use, but found while its state is read."""

    exit_code = UsageError.exit_code


class Guard:
    """Lets nothing be saved after a loss or a parameter that is not finite, and keeps the batch that led there."""

    def __init__(self, run: Run, state: State, batches: Batches[Any], size: int) -> None:
        self.run, self.state, self.batches, self.size = run, state, batches, size
        self.losses: list[Tensor] = []  # since the last check

    def check(self, step: int) -> None:
        """After update `step`. Raises DivergedError; what was saved before stays."""
        finite = torch.isfinite(torch.stack(self.losses)).tolist()
        first, self.losses = step - len(self.losses), []
        if not all(finite):
            self._stop("loss", first + finite.index(False))
        if not all(bool(torch.isfinite(tensor).all()) for tensor in self.state.tensors().values()):
            self._stop("network", step - 1)

    def _stop(self, what: str, update: int) -> None:
        """`update`: counted from 0, as batches are."""
        batch = self.batches.batch(0 if self.run.synthetic_batch else update, self.size)
        arrays = batch._asdict() if hasattr(batch, "_asdict") else dict(enumerate(batch))
        packed = io.BytesIO()
        np.savez(packed, **{str(name): np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]
        path = self.run.output / f"diverged-at-{update + 1}.npz"
        write_atomically(path, packed.getvalue())
        kept = f" The batch of that update is kept in {path}."
        last = f"The save after update {self.state.saved} stays" if self.state.saved else "Nothing was saved"
        raise DivergedError(
            f"The {what} is not finite any more at update {update + 1}. {last}.{kept} Look at it; with another rate or "
            'precision = "float32" in [optimiser] the run goes on by --go-on-with-changed optimiser.'
        )
