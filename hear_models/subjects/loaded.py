"""A subject's model on a device, and its two functions, called as the kit calls them and checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hear_models.errors import HearModelsError
from hear_models.pipeline.model import HearModel
from hear_models.subjects.module import call_text, describe

if TYPE_CHECKING:
    from hear_models.subjects.subject import Subject

ADVICE = "`hear-models validate` checks a module against the API."


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


def state_sha256(model: torch.nn.Module) -> str:
    """A digest of a model's parameters and buffers: weights that load_model found by itself have no file to name."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor) and not value.is_sparse:
            digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weights_of(loaded: Loaded) -> str:
    """What stands for the weights in a cache's key: the digest of our file, or of a foreign model's tensors."""
    if isinstance(loaded.model, HearModel) and loaded.subject.checkpoint_sha256:
        return loaded.subject.checkpoint_sha256
    return state_sha256(loaded.model)
