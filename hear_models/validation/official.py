"""What hear-validator 2021.0.6 says of a module: its conditions, no more and no fewer, on its calls.

Everything else that `validate` asks is this project's. The released validator itself needs TensorFlow and an old
Python; the conformance runs (`.ci/conformance`) run it beside this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_models.subjects.module import ModuleFault
from hear_models.subjects.naming import FUNCTIONS
from hear_models.validation.context import Context
from hear_models.validation.contract import SAMPLE_RATES, TIMESTAMP_SECONDS, standard_scene, standard_timestamps

VALIDATOR = "hear-validator 2021.0.6"
IRREGULAR_MS = 1.0


@dataclass(frozen=True)
class Official:
    """`refusal`: why hear-validator would stop, as a clause; "" if it would print "Looks good!"."""

    refusal: str

    @property
    def passes(self) -> bool:
        """Whether it would end with exit status 0."""
        return not self.refusal


def official(ctx: Context) -> Official:
    """Its verdict; it stops at the first thing that it does not like."""
    try:
        return Official(next(_refusals(ctx), ""))
    except ModuleFault as fault:
        return Official(str(fault))


def _refusals(ctx: Context) -> Iterator[str]:
    for name in FUNCTIONS:
        if name not in ctx.module.functions:
            yield f"the module has no {name}"
    model = ctx.model
    if not isinstance(model, torch.nn.Module):
        yield f"load_model returned a {type(model).__name__}"
    rate = getattr(model, "sample_rate", None)
    if rate not in SAMPLE_RATES:
        yield "the model has no sample_rate" if rate is None else f"sample_rate is {rate}"
    for name in ("scene_embedding_size", "timestamp_embedding_size"):
        if not isinstance(getattr(model, name, None), int):
            yield f"{name} is {getattr(model, name, 'missing')!r}, no int"
    for seconds, (_, returned) in zip(TIMESTAMP_SECONDS, standard_timestamps(ctx), strict=True):
        yield from _of_timestamps(returned, 1000 * seconds, model.timestamp_embedding_size)
    yield from _of_scene(standard_scene(ctx)[1], model.scene_embedding_size)


def _of_timestamps(returned: Any, length_ms: float, size: int) -> Iterator[str]:
    try:
        embeddings, times = returned
    except (TypeError, ValueError):
        yield "get_timestamp_embeddings returned no pair"
        return
    if not isinstance(embeddings, Tensor) or embeddings.dtype != torch.float32:
        yield f"the timestamp embeddings are {_kind(embeddings)}, not a float32 tensor"
        return
    if not isinstance(times, Tensor):
        yield f"the timestamps are {_kind(times)}, not a tensor"
        return
    if embeddings.ndim != 3 or times.ndim != 2 or embeddings.shape[:2] != times.shape or embeddings.shape[0] != 2:
        yield f"of two clips: embeddings {list(embeddings.shape)}, timestamps {list(times.shape)}"
        return
    if embeddings.shape[2] != size:
        yield f"{embeddings.shape[2]} dimensions, timestamp_embedding_size is {size}"
    if times.shape[1] > 1:
        t = times.detach().cpu().numpy()
        steps = np.diff(t, axis=1)
        if np.max(np.abs(steps - np.mean(steps))) > IRREGULAR_MS:  # NaN passes, as there
            yield f"the timestamps are uneven by more than {IRREGULAR_MS:g} ms"
        if np.max(t) > length_ms:
            yield f"a timestamp lies at {np.max(t):.1f} ms, past the end of a clip of {length_ms:.0f} ms"


def _of_scene(returned: Any, size: int) -> Iterator[str]:
    if not isinstance(returned, Tensor) or returned.dtype != torch.float32:
        yield f"the scene embeddings are {_kind(returned)}, not a float32 tensor"
    elif returned.ndim != 2 or list(returned.shape) != [4, size]:
        yield f"scene embeddings of four clips have shape {list(returned.shape)}, scene_embedding_size is {size}"


def _kind(value: Any) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else f"a {type(value).__name__}"
