"""`hear_models.embed`: arrays, tensors, lists of unequal clips, and files, to embeddings in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_models.corpus.options import KINDS
from hear_models.errors import InputError, UsageError
from hear_models.pipeline.audio import read_audio, resample
from hear_models.pipeline.encoders import Batch, ClipStream, Encoders, device_of
from hear_models.pipeline.model import HearModel
from hear_models.subjects.naming import find_ours

BATCH_SECONDS = 60.0


def embed(
    audio: Any,
    model: str | os.PathLike[str] | HearModel | None = None,
    *,
    kind: str = "scene",
    sample_rate: int | None = None,
    batch_seconds: float = BATCH_SECONDS,
    allow_untrained: bool = False,
    **model_options: Any,
) -> Any:
    """Embed audio of any form; the result has the form of what was given.

    Args:
        audio: one clip: a 1-D array or tensor [samples], mono, floating point in [-1, 1], or a path; several: a list of
            clips of any lengths, or a 2-D array or tensor [clips, samples].
        model: a name or `.safetensors` file as for `load_model`, a family (`mwmae`: its default; `mwmae:FILE`), a
            model, or None for the bundled default.
        kind: "scene" (one embedding a clip) or "timestamps" (one a step, with its time in ms).
        sample_rate: Hz of the arrays, if it is not the model's: they are resampled. Files know their own.
        batch_seconds: audio that is handed to the model at once; more needs more memory and changes no result.
        allow_untrained: accept a model's name that stands for random weights.
        model_options: of `load_model`, such as timestamps="official", dtype="bfloat16", device="cuda".

    Returns:
        "scene": one clip float32 [dim]; 2-D [clips, dim]; a list gives a list of [dim].
        "timestamps": pairs (embeddings [steps, dim], times [steps] in ms); 2-D one pair of [clips, steps, dim] and
        [clips, steps]; a list gives a list of pairs.
        Tensors for tensors, on their device; NumPy arrays for everything else. No gradients.

    Raises:
        InputError (a ValueError): integers, wrong rank, empty, NaN. AudioFileError: a file that cannot be read.
        UsageError: unknown kind, model or option.

    Example:
        >>> hear_models.embed("birds.flac").shape       # doctest: +SKIP
        (960,)
    """
    if kind not in KINDS:
        raise UsageError(f"kind={kind!r} is unknown. Use one of {', '.join(KINDS)}.")
    if not batch_seconds > 0:
        raise UsageError(f"batch_seconds={batch_seconds} is out of range. Give a positive number.")
    if isinstance(model, HearModel):
        if model_options:
            raise UsageError(f"{', '.join(model_options)}: options belong to load_model. Pass them there.")
    else:
        named = find_ours("" if model is None else model, allow_untrained=allow_untrained, how="allow_untrained=True")
        model = named.load(**model_options)
    several = isinstance(audio, (list, tuple)) or (isinstance(audio, (np.ndarray, Tensor)) and audio.ndim == 2)
    inputs = list(audio) if several else [audio]
    if several and not inputs:
        raise InputError("There is nothing to embed: the list is empty. Give at least one clip.")
    results = _embed_all(inputs, model, kind, sample_rate, batch_seconds, several)
    if not several:
        return results[0]
    if isinstance(audio, (list, tuple)):
        return results
    stack = torch.stack if isinstance(audio, Tensor) else np.stack
    return stack(results) if kind == "scene" else tuple(stack(parts) for parts in zip(*results, strict=True))


def _embed_all(
    inputs: Sequence[Any], model: HearModel, kind: str, sample_rate: int | None, batch_seconds: float, several: bool
) -> list[Any]:
    """Clips, read one by one and embedded by batches, so that only a batch of decoded files is in memory."""
    # a model whose results depend on the batch gets the caller's batch
    limit = None if model.batch_dependent else batch_seconds * model.sample_rate
    device = device_of(model)
    stream: ClipStream[Any] = ClipStream(
        Encoders(model.embed_clips), device, "scene" if kind == "scene" else "timestamps", batch_samples=limit
    )

    def batches() -> Iterator[Batch[Any]]:
        for index, item in enumerate(inputs):
            where = f"clip {index}" if several else "the clip"
            yield from stream.add(item, _clip(item, model.sample_rate, sample_rate, where).to(device))
        yield from stream.finish()

    results: list[Any] = []
    for batch in batches():
        for source, result in zip(batch.tags, batch.result(), strict=True):
            if kind == "scene":
                results.append(_like(source, result))
            else:
                results.append(tuple(_like(source, part) for part in result))
    return results


def _like(source: Any, result: Tensor) -> Any:
    """A tensor on the source's device if the source was a tensor, else an array."""
    return result.to(source.device) if isinstance(source, Tensor) else result.cpu().numpy()


def _clip(item: Any, rate: int, given_rate: int | None, where: str) -> Tensor:
    """One path, array or tensor → float32 [samples] at the model's rate. InputError names the clip by `where`."""
    if isinstance(item, (str, os.PathLike)):
        if given_rate is not None:
            raise UsageError("sample_rate= is for arrays; a file knows its own. Leave it out.")
        return torch.from_numpy(read_audio(item, rate))
    if not isinstance(item, (np.ndarray, Tensor)):
        raise InputError(
            f"{where} is a {type(item).__name__}. Give a path, or a NumPy array or tensor of floats [samples]."
        )
    clip = item.detach() if isinstance(item, Tensor) else item
    if clip.ndim != 1:
        raise InputError(
            f"{where} has shape {tuple(clip.shape)}; a clip is [samples], mono, and a batch [clips, samples]. "
            "Mix channels down first: audio.mean(axis=...)."
        )
    is_float = clip.is_floating_point() if isinstance(clip, Tensor) else np.issubdtype(clip.dtype, np.floating)
    if not is_float:
        raise InputError(
            f"{where} is {str(clip.dtype).removeprefix('torch.')}; audio is floating point in [-1, 1]. "
            "Scale integers first, for instance 16-bit: audio / 32768.0."
        )
    if len(clip) == 0:
        raise InputError(f"{where} is empty. A clip needs at least one sample.")
    if given_rate is not None and given_rate != rate:
        samples = clip.float().cpu().numpy() if isinstance(clip, Tensor) else clip
        if not np.isfinite(samples).all():
            raise InputError(f"{where} holds NaN or infinity. Repair it or leave it out.")
        return torch.from_numpy(resample(samples, given_rate, rate))
    # a copy of the array: it may be read-only or strided backwards, which torch does not take
    tensor = clip.float() if isinstance(clip, Tensor) else torch.from_numpy(np.array(clip, dtype=np.float32))
    if not torch.isfinite(tensor).all():
        raise InputError(f"{where} holds NaN or infinity. Repair it or leave it out.")
    return tensor
