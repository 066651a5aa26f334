"""`hear_models.embed`: arrays, tensors, lists of unequal clips, files and what holds one, to embeddings in memory."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, Literal, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hear_models.corpus.items import Reader, is_pair, read_each, reader_of, several
from hear_models.corpus.options import KINDS, Channel, Kind, Resampler, check_batch_seconds
from hear_models.errors import InputError, UsageError
from hear_models.pipeline.encoders import Batch, ClipStream, Encoders, device_of
from hear_models.pipeline.listening import EACH
from hear_models.pipeline.model import HearModel
from hear_models.subjects.naming import find_ours

BATCH_SECONDS = 60.0
ERRORS = ("raise", "skip")
Network = str | os.PathLike[str] | HearModel | None
Array = npt.NDArray[np.float32]
OneClip = (
    str
    | os.PathLike[str]
    | bytes
    | IO[bytes]
    | npt.NDArray[np.floating[Any]]
    | tuple[npt.NDArray[np.floating[Any]], int]
    | Mapping[str, Any]
)


# what a type checker knows: arrays for arrays and files, tensors for tensors, a list for several, a pair with times
@overload
def embed(
    audio: list[Tensor],
    model: Network = ...,
    *,
    kind: Literal["scene"] = ...,
    sample_rate: int | None = ...,
    batch_seconds: float = ...,
    channel: Channel = ...,
    resampler: Resampler = ...,
    errors: Literal["raise"] = ...,
    allow_untrained: bool = ...,
    **model_options: Any,
) -> list[Tensor]: ...


@overload
def embed(
    audio: list[Tensor],
    model: Network = ...,
    *,
    kind: Literal["timestamps"],
    sample_rate: int | None = ...,
    batch_seconds: float = ...,
    channel: Channel = ...,
    resampler: Resampler = ...,
    errors: Literal["raise"] = ...,
    allow_untrained: bool = ...,
    **model_options: Any,
) -> list[tuple[Tensor, Tensor]]: ...


@overload
def embed(
    audio: Tensor | tuple[Tensor, int],
    model: Network = ...,
    *,
    kind: Literal["scene"] = ...,
    sample_rate: int | None = ...,
    batch_seconds: float = ...,
    channel: Channel = ...,
    resampler: Resampler = ...,
    errors: Literal["raise"] = ...,
    allow_untrained: bool = ...,
    **model_options: Any,
) -> Tensor: ...


@overload
def embed(
    audio: Tensor | tuple[Tensor, int],
    model: Network = ...,
    *,
    kind: Literal["timestamps"],
    sample_rate: int | None = ...,
    batch_seconds: float = ...,
    channel: Channel = ...,
    resampler: Resampler = ...,
    errors: Literal["raise"] = ...,
    allow_untrained: bool = ...,
    **model_options: Any,
) -> tuple[Tensor, Tensor]: ...


@overload
def embed(
    audio: OneClip,
    model: Network = ...,
    *,
    kind: Literal["scene"] = ...,
    sample_rate: int | None = ...,
    batch_seconds: float = ...,
    channel: Channel = ...,
    resampler: Resampler = ...,
    errors: Literal["raise"] = ...,
    allow_untrained: bool = ...,
    **model_options: Any,
) -> Array: ...


@overload
def embed(
    audio: OneClip,
    model: Network = ...,
    *,
    kind: Literal["timestamps"],
    sample_rate: int | None = ...,
    batch_seconds: float = ...,
    channel: Channel = ...,
    resampler: Resampler = ...,
    errors: Literal["raise"] = ...,
    allow_untrained: bool = ...,
    **model_options: Any,
) -> tuple[Array, Array]: ...


@overload
def embed(
    audio: Iterable[Any],
    model: Network = ...,
    *,
    kind: Literal["scene"] = ...,
    sample_rate: int | None = ...,
    batch_seconds: float = ...,
    channel: Channel = ...,
    resampler: Resampler = ...,
    errors: Literal["raise"] = ...,
    allow_untrained: bool = ...,
    **model_options: Any,
) -> list[Array]: ...


@overload
def embed(
    audio: Iterable[Any],
    model: Network = ...,
    *,
    kind: Literal["timestamps"],
    sample_rate: int | None = ...,
    batch_seconds: float = ...,
    channel: Channel = ...,
    resampler: Resampler = ...,
    errors: Literal["raise"] = ...,
    allow_untrained: bool = ...,
    **model_options: Any,
) -> list[tuple[Array, Array]]: ...


@overload
def embed(
    audio: Any,
    model: Network = ...,
    *,
    kind: Kind = ...,
    sample_rate: int | None = ...,
    batch_seconds: float = ...,
    channel: Channel = ...,
    resampler: Resampler = ...,
    errors: Literal["skip"],
    allow_untrained: bool = ...,
    **model_options: Any,
) -> Any: ...


def embed(
    audio: Any,
    model: Network = None,
    *,
    kind: Kind = "scene",
    sample_rate: int | None = None,
    batch_seconds: float = BATCH_SECONDS,
    channel: Channel = "mix",
    resampler: Resampler = "soxr",
    errors: Literal["raise", "skip"] = "raise",
    allow_untrained: bool = False,
    **model_options: Any,
) -> Any:
    """Embed audio of any form; the result has the form of what was given.

    Args:
        audio: one clip: a 1-D array or tensor [samples], mono, floating point in [-1, 1]; a path ("-": standard input);
            the content of a file as bytes, or an open file object; a pair (array, Hz); a record of Hugging Face,
            {"array", "sampling_rate"} or {"bytes"}. Several: a list of clips of any lengths, a pandas Series, a column
            of a data set, or a 2-D array or tensor [clips, samples].
        model: a name or `.safetensors` file as for `load_model`, a family (`mwmae`: its default; `mwmae:FILE`), a
            model, or None for the bundled default.
        kind: "scene" (one embedding a clip) or "timestamps" (one a step, with its time in ms).
        sample_rate: Hz of the arrays, if it is not the model's: they are resampled. Files know their own.
        batch_seconds: audio that is handed to the model at once; more needs more memory and changes no result.
        channel: of files: "mix" (the mean of all), "left", "right", a number from 1, or "each" (results are stacked).
        resampler: "soxr", or "resampy" as the originals of HEAR 2021.
        errors: "raise", or "skip": a clip that cannot be read has the result None, and a warning says why.
        allow_untrained: accept a model's name that stands for random weights.
        model_options: of `load_model`, such as timestamps="official", dtype="bfloat16", device="cuda".

    Returns:
        "scene": one clip float32 [dim]; 2-D [clips, dim]; a list gives a list of [dim]. With channel="each" every file
        has [channels, dim].
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
    check_batch_seconds(batch_seconds)
    if errors not in ERRORS:
        raise UsageError(f"errors={errors!r} is unknown. Use one of {', '.join(ERRORS)}.")
    if isinstance(model, HearModel):
        if model_options:
            raise UsageError(f"{', '.join(model_options)}: options belong to load_model. Pass them there.")
    else:
        named = find_ours("" if model is None else model, allow_untrained=allow_untrained, how="allow_untrained=True")
        model = named.load(**model_options)
    reader = reader_of(model.sample_rate, sample_rate, channel, resampler)
    items = several(audio)
    names = (f"clip {index}" for index in itertools.count()) if items is not None else iter(["the clip"])
    results = list(
        _embed_all([audio] if items is None else items, model, kind, reader, names, batch_seconds, errors == "skip")
    )
    if items is None:
        return results[0]
    if not results:
        raise InputError("There is nothing to embed: the list is empty. Give at least one clip.")
    if not isinstance(audio, (np.ndarray, Tensor)) or audio.ndim != 2 or any(result is None for result in results):
        return results
    return _stacked(results, kind)


def _embed_all(
    items: Iterable[Any],
    model: HearModel,
    kind: str,
    reader: Reader,
    names: Iterator[str],
    batch_seconds: float,
    skip: bool,
) -> Iterator[Any]:
    """The result of each item, read one by one and embedded by batches: only a batch of decoded files is in memory."""
    # a model whose results depend on the batch gets the caller's batch
    limit = None if model.batch_dependent else batch_seconds * model.sample_rate
    device = device_of(model)
    stream: ClipStream[int] = ClipStream(
        Encoders(model.embed_clips), device, "scene" if kind == "scene" else "timestamps", batch_samples=limit
    )
    begun: list[tuple[torch.device | None, int]] = []  # the items' own devices, and the number of their clips
    results: dict[int, list[Any]] = {}

    def batches() -> Iterator[Batch[int]]:
        for index, (item, clips) in enumerate(read_each(items, reader, names, skip)):
            begun.append((_device_of_item(item), len(clips)))
            for clip in clips:
                yield from stream.add(index, clip.to(device))
        yield from stream.finish()

    for batch in batches():
        for index, result in zip(batch.tags, batch.result(), strict=True):
            results.setdefault(index, []).append(result)
    for index, (place, n) in enumerate(begun):
        found = [
            _put(result, place) if kind == "scene" else tuple(_put(part, place) for part in result)
            for result in results.get(index, [])
        ]
        yield None if not n else _stacked(found, kind) if reader.channel == EACH else found[0]


def _stacked(results: list[Any], kind: str) -> Any:
    """Equal results as one: [n, dim], or a pair of [n, steps, dim] and [n, steps]."""
    first = results[0] if kind == "scene" else results[0][0]
    stack = torch.stack if isinstance(first, Tensor) else np.stack
    return stack(results) if kind == "scene" else tuple(stack(parts) for parts in zip(*results, strict=True))


def _device_of_item(item: Any) -> torch.device | None:
    """Where the tensor lies that was given, alone or with its rate; None for everything else."""
    source = item[0] if is_pair(item) else item
    return source.device if isinstance(source, Tensor) else None


def _put(result: Tensor, place: torch.device | None) -> Any:
    """A tensor on the device of the source if that was a tensor, else an array."""
    return result.cpu().numpy() if place is None else result.to(place)
