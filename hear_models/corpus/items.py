"""What people hold a clip in: paths, bytes, file objects, arrays with a rate, records and columns of data sets."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_models.corpus.spooling import STDIN, spooled
from hear_models.errors import AudioFileError, AudioWarning, InputError, UsageError
from hear_models.files import shown
from hear_models.pipeline.audio import read_audio, resample
from hear_models.pipeline.decoding import open_recording
from hear_models.pipeline.listening import EACH, MIX, channel_of
from hear_models.pipeline.model import check_batch_shape

Bytes = (bytes, bytearray, memoryview)


@dataclass(frozen=True)
class Reader:
    """How clips are read.

    sample_rate: Hz of the model. given_rate: Hz of arrays that come without one, if not the model's.
    channel, resampler: of recordings, see `embed_files`.
    """

    sample_rate: int
    given_rate: int | None = None
    channel: str | int = MIX
    resampler: str = "soxr"

    def clips(self, item: Any, where: str) -> list[Tensor]:
        """One item → float32 [samples] at the model's rate: one, or with channel="each" one for every channel.

        Raises InputError, which names the item by `where`, AudioFileError and UsageError.
        """
        if isinstance(item, (str, os.PathLike)) and str(item) == STDIN:
            item = sys.stdin.buffer
        if isinstance(item, (str, os.PathLike)):
            if self.given_rate is not None:
                raise UsageError("sample_rate= is for arrays; a file knows its own. Leave it out.")
            if not os.fspath(item):
                raise UsageError(f"{where} is an empty path. Name a file.")
            return self._of_file(Path(item))
        if isinstance(item, Bytes) or hasattr(item, "read"):
            return self._of_content(item, where)
        if isinstance(item, Mapping):
            return self._of_record(item, where)
        if hasattr(item, "get_all_samples"):  # torchcodec's decoder, as `datasets` gives it
            samples = item.get_all_samples()
            return self._of_channels(samples.data, int(samples.sample_rate), where)
        if is_pair(item):
            array, rate = item
            return [self._of_array(array, int(rate), where)]
        if self.given_rate is None and isinstance(item, (np.ndarray, Tensor)):
            _say_once_which_rate(self.sample_rate)
        return [self._of_array(item, self.given_rate, where)]

    def _of_file(self, path: Path) -> list[Tensor]:
        channels = [self.channel]
        if self.channel == EACH:
            with closing(open_recording(path)) as recording:
                channels = list(range(1, recording.channels + 1))
        return [
            torch.from_numpy(read_audio(path, self.sample_rate, channel=channel, resampler=self.resampler))
            for channel in channels
        ]

    def _of_content(self, content: Any, where: str) -> list[Tensor]:
        name = getattr(content, "name", None)
        label = f"{where} ({shown(name)})" if isinstance(name, str) and name else where
        with spooled(content) as path, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", AudioWarning)
            try:
                found = self._of_file(path)
            except AudioFileError as error:
                raise AudioFileError(str(error).replace(shown(path), label)) from error
        for warning in caught:
            text = str(warning.message).replace(shown(path), label)
            warnings.warn(text, warning.category, stacklevel=2)
        return found

    def _of_record(self, record: Mapping[Any, Any], where: str) -> list[Tensor]:
        """Of Hugging Face: {"array", "sampling_rate"}, or {"bytes", "path"} where it is not decoded."""
        if record.get("array") is not None:
            rate = record.get("sampling_rate")
            if not isinstance(rate, (int, float, np.number)) or rate != int(rate):
                raise InputError(f'{where} has an "array" without a "sampling_rate". Give both, or the array alone.')
            array = record["array"]
            if not isinstance(array, (np.ndarray, Tensor)):
                array = np.asarray(array, dtype=np.float32)
            return [self._of_array(array, int(rate), where)]
        if record.get("bytes") is not None:
            return self._of_content(record["bytes"], where)
        if record.get("path"):
            return self._of_file(Path(record["path"]))
        raise InputError(
            f'{where} is a dictionary without "array", "bytes" or "path". Give {{"array": ..., "sampling_rate": ...}}, '
            'or {"bytes": ...}.'
        )

    def _of_channels(self, data: Tensor, rate: int, where: str) -> list[Tensor]:
        """[channels, samples] → the chosen channel, or each."""
        n = len(data)
        if self.channel == MIX:
            chosen = [data.float().mean(0)]
        elif self.channel == EACH:
            chosen = list(data)
        elif 1 <= int(self.channel) <= n:
            chosen = [data[int(self.channel) - 1]]
        else:
            raise InputError(
                f"{where} has {n} channels, there is no channel {self.channel}. Choose another one, or mix."
            )
        return [self._of_array(one, rate, where) for one in chosen]

    def _of_array(self, item: Any, given_rate: int | None, where: str) -> Tensor:
        if not isinstance(item, (np.ndarray, Tensor)):
            raise InputError(
                f"{where} is a {type(item).__name__}. Give a path, bytes, a file object, or a NumPy array or tensor of "
                "floats [samples], alone or with its rate."
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
        if given_rate is not None and given_rate != self.sample_rate:
            samples = clip.float().cpu().numpy() if isinstance(clip, Tensor) else clip
            if not np.isfinite(samples).all():
                raise InputError(f"{where} holds NaN or infinity. Repair it or leave it out.")
            return torch.from_numpy(resample(samples, given_rate, self.sample_rate, self.resampler))
        # a copy of the array: it may be read-only or strided backwards, which torch does not take
        tensor = clip.float() if isinstance(clip, Tensor) else torch.from_numpy(np.array(clip, dtype=np.float32))
        if not torch.isfinite(tensor).all():
            raise InputError(f"{where} holds NaN or infinity. Repair it or leave it out.")
        return tensor


_said_which_rate: list[int] = []  # once a process: a warning that comes with every call is read by nobody


def _say_once_which_rate(rate: int) -> None:
    """Plain arrays know no rate, and a wrong one is not heard by anybody: the embeddings look as always."""
    if not _said_which_rate:
        _said_which_rate.append(rate)
        warnings.warn(
            f"arrays without sample_rate= are taken as {rate} Hz, the rate of the model. Say sample_rate=..., or give "
            "(array, Hz).",
            AudioWarning,
            stacklevel=2,
        )


def reader_of(sample_rate: int, given_rate: int | None, channel: str | int, resampler: str) -> Reader:
    """A `Reader`, its options checked."""
    return Reader(sample_rate, given_rate, channel_of(channel), resampler)


def is_pair(item: Any) -> bool:
    """Whether it is (array, rate)."""
    return (
        isinstance(item, (tuple, list))
        and len(item) == 2
        and isinstance(item[0], (np.ndarray, Tensor))
        and isinstance(item[1], (Integral, np.integer))
        and not isinstance(item[1], bool)
    )


def several(audio: Any) -> Iterable[Any] | None:
    """The clips in what was given, or None if it is one clip.

    Many are: a batch [clips, samples], a list, and whatever else is iterated over: a pandas Series, a column of a data
    set, a generator.
    """
    if isinstance(audio, (np.ndarray, Tensor)):
        if audio.ndim == 2:
            check_batch_shape(audio)
            return audio
        is_text = isinstance(audio, np.ndarray) and audio.ndim == 1 and audio.dtype.kind in "OUS"
        return audio.tolist() if is_text else None
    one = isinstance(audio, (str, os.PathLike, Mapping, *Bytes)) or hasattr(audio, "read") or is_pair(audio)
    if one or hasattr(audio, "get_all_samples") or not isinstance(audio, Iterable):
        return None
    return audio


def read_each(
    items: Iterable[Any], reader: Reader, names: Iterator[str], skip: bool
) -> Iterator[tuple[Any, list[Tensor]]]:
    """Each item with its clips; with `skip` an item that cannot be read has none, and a warning says why."""
    for item, where in zip(items, names, strict=False):
        try:
            yield item, reader.clips(item, where)
        except (AudioFileError, InputError) as error:
            if not skip:
                raise
            warnings.warn(f"left out: {error}", AudioWarning, stacklevel=4)
            yield item, []
