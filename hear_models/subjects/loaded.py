"""A subject's model on a device, and its two functions, called as the kit calls them and checked."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hear_models.errors import HearModelsError, UsageError
from hear_models.subjects.naming import Foreign, Ours, functions_of
from hear_models.subjects.weights import weights_sha256
from hear_models.subjects.wording import ADVICE, call_text, describe
from hear_models.zoo.families import family_module

if TYPE_CHECKING:
    from hear_models.subjects.subject import Subject


@dataclass(frozen=True)
class Loaded:
    """A subject's model on a device, and the two functions, called as the kit calls them."""

    subject: Subject
    model: Any
    device: torch.device
    functions: dict[str, Any] = field(repr=False)

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return int(self.model.sample_rate)

    @property
    def batch_dependent(self) -> bool:
        """Whether a clip's embedding may depend on its neighbours, so that the kit's batches must be kept."""
        return bool(self.model.batch_dependent) if self.subject.is_ours else True

    @cached_property
    def weights_sha256(self) -> str:
        """See `weights.weights_sha256`; as they were when it was first asked for."""
        return weights_sha256(self.model)

    def scene(self, audio: Tensor) -> Tensor:
        """`get_scene_embeddings(audio, model)`: [clips, samples] → [clips, dim]. No gradients."""
        embeddings = self._call("get_scene_embeddings", audio)
        return self._checked("get_scene_embeddings", audio, embeddings, 2)

    def timestamps(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """`get_timestamp_embeddings(audio, model)`: [clips, samples] → [clips, steps, dim], [clips, steps] in ms."""
        name = "get_timestamp_embeddings"
        result = self._call(name, audio)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise HearModelsError(
                f"{call_text(name, audio)} gave a {type(result).__name__}, not embeddings and times. {ADVICE}"
            )
        embeddings, times = self._checked(name, audio, result[0], 3), self._checked(name, audio, result[1], 2)
        if embeddings.shape[:2] != times.shape:
            raise HearModelsError(
                f"{call_text(name, audio)} gave embeddings {list(embeddings.shape)} and times {list(times.shape)}, "
                f"which do not fit. {ADVICE}"
            )
        return embeddings, times

    def _call(self, name: str, audio: Tensor) -> Any:
        try:
            with torch.no_grad():
                return self.functions[name](audio, self.model)
        except (KeyboardInterrupt, HearModelsError):
            raise
        except BaseException as error:  # third-party code may even call sys.exit()
            raise HearModelsError(f"{call_text(name, audio)} raised {describe(error)}. {ADVICE}") from error

    def _checked(self, name: str, audio: Tensor, result: Any, rank: int) -> Tensor:
        if not isinstance(result, Tensor) or result.ndim != rank or len(result) != len(audio):
            shape = list(result.shape) if isinstance(result, Tensor) else type(result).__name__
            wanted = "[clips, dim]" if name == "get_scene_embeddings" else "[clips, steps, dim] and [clips, steps]"
            raise HearModelsError(f"{call_text(name, audio)} gave {shape}, expected {wanted}. {ADVICE}")
        return result.detach()


def load_subject(subject: Subject, device: str) -> Loaded:
    """See `Subject.load`."""
    found = subject.found
    return _load_ours(subject, found, device) if isinstance(found, Ours) else _load_foreign(subject, found, device)


def _load_ours(subject: Subject, found: Ours, device: str) -> Loaded:
    model = found.load(**subject.options, device=device)
    in_file = model.checkpoint.sha256 if model.checkpoint else None
    if in_file != subject.checkpoint_sha256 and in_file is not None:
        raise UsageError(f"{subject.name} changed while this run was going on. Start it again.")
    return Loaded(subject, model, torch.device(device), functions_of(family_module(found.family)))


def _load_foreign(subject: Subject, found: Foreign, device: str) -> Loaded:
    functions = functions_of(found.imported())
    arguments = [found.weights] if found.weights else []
    said = f"{subject.name}: {call_text('load_model', *arguments)}"
    try:
        model = functions["load_model"](*arguments, **subject.options)
    except (KeyboardInterrupt, HearModelsError):
        raise
    except BaseException as error:
        taken = ", ".join(inspect.signature(functions["load_model"]).parameters)
        hint = f" Its parameters: {taken}." if isinstance(error, TypeError) and subject.options else f" {ADVICE}"
        raise UsageError(f"{said} raised {describe(error)}.{hint}") from error
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"{said} gave a {type(model).__name__}, not a torch.nn.Module. Only torch models are taken.")
    rate = getattr(model, "sample_rate", None)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or rate != int(rate) or rate < 1:
        raise UsageError(f"{said}: its model has sample_rate {rate!r}. Give it a whole number of Hz. {ADVICE}")
    try:
        model = model.to(device)  # as the kit; it does not call eval() either, which is load_model's duty
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"{subject.name} cannot be moved to {device!r}: {describe(error)}. Try cpu.") from error
    return Loaded(subject, model, torch.device(device), functions)
