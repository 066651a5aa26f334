"""A transformer of scikit-learn whose input are recordings and whose output are scene embeddings."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hear_models.corpus.embed import embed
from hear_models.corpus.items import Bytes, is_pair, several
from hear_models.errors import FileError, InputError, UsageError
from hear_models.files import unwritable, write_atomically
from hear_models.foreign import file_sha256
from hear_models.pipeline.model import HearModel
from hear_models.subjects.naming import find_ours
from hear_models.subjects.weights import weights_sha256

try:
    from sklearn.base import BaseEstimator, TransformerMixin
except ImportError as error:
    raise ImportError("hear_models.sklearn needs scikit-learn. Install it: pip install 'hear-models[eval]'") from error

KINDS = ("scene", "timestamps")
AT_ONCE = 256  # clips


class Embedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Whatever `hear_models.embed` takes → embeddings; it learns nothing, so `fit` only looks at the parameters.

    Works in `Pipeline`, `GridSearchCV` (over models, too), `clone` and joblib: the model is loaded where it is needed
    and is no part of a pickle.

    Args:
        model: name or file as for `hear_models.embed`; None: the bundled default.
        kind: "scene": X [clips, dim]; "timestamps": an object array of [steps, dim] each.
        sample_rate: Hz of arrays, if it is not the model's.
        device: "cpu", "cuda", ...
        cache: a folder in which scene embeddings are kept by the digests of content and model; None: none are.
        allow_untrained: accept a model's name that stands for random weights.
    """

    def __init__(
        self,
        model: str | None = None,
        kind: str = "scene",
        sample_rate: int | None = None,
        device: str = "cpu",
        cache: str | None = None,
        allow_untrained: bool = False,
    ) -> None:
        self.model = model
        self.kind = kind
        self.sample_rate = sample_rate
        self.device = device
        self.cache = cache
        self.allow_untrained = allow_untrained

    def fit(self, X: Any, y: Any = None) -> Embedder:
        """Check the parameters, and that there is a model. UsageError otherwise."""
        if self.kind not in KINDS:
            raise UsageError(f"kind={self.kind!r} is unknown. Use one of {', '.join(KINDS)}.")
        network = self._network()
        scene = self.kind == "scene"
        self.n_features_out_ = network.scene_embedding_size if scene else network.timestamp_embedding_size
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Clips → float32 [clips, dim], or, of timestamps, an object array [clips].

        `X`: a list, an array or Series of paths, a generator, a column of a table, a 2-D array of samples.
        Raises UsageError for one clip where several are meant, and what `hear_models.embed` raises.
        """
        network, items = self._network(), _clips_of(X)
        if self.kind == "timestamps":
            results = np.empty(len(items), dtype=object)
            results[:] = [steps for steps, _ in embed(items, network, kind="timestamps", sample_rate=self.sample_rate)]
            return results
        if self.cache is None:
            return np.stack([np.asarray(e) for e in embed(items, network, sample_rate=self.sample_rate)])
        return self._through_cache(items, network, Path(self.cache))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """embedding0, embedding1, ..."""
        return np.array([f"embedding{index}" for index in range(self.n_features_out_)], dtype=object)

    def _network(self) -> HearModel:
        if self.model is not None and not isinstance(self.model, (str, os.PathLike)):
            raise UsageError(f"model is a {type(self.model).__name__}. Give a model's name or file.")
        key = (self.model, self.device)
        if getattr(self, "_loaded", (None, None))[0] != key:
            found = find_ours(self.model or "", allow_untrained=self.allow_untrained, how="allow_untrained=True")
            self._loaded = (key, found.load(device=self.device))
        network: HearModel = self._loaded[1]
        return network

    def __getstate__(self) -> dict[str, Any]:
        """Without the network."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_loaded"}

    def _through_cache(self, items: list[Any], network: HearModel, folder: Path) -> np.ndarray:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(unwritable(folder, error)) from error
        about = f"{weights_sha256(network)} {network.config!r} {self.sample_rate}"
        dim = network.scene_embedding_size
        items = [item.read() if hasattr(item, "read") else item for item in items]  # a stream can be read once
        digests = [content_sha256(item, about) for item in items]
        files = [None if digest is None else folder / f"{digest}.f32" for digest in digests]
        results = [None if file is None else _read(file, dim) for file in files]
        missing = [index for index, result in enumerate(results) if result is None]
        for start in range(0, len(missing), AT_ONCE):  # what was embedded is kept, whatever happens to the next
            part = missing[start : start + AT_ONCE]
            made = embed([items[index] for index in part], network, sample_rate=self.sample_rate)
            for index, embedding in zip(part, made, strict=True):
                result, file = np.asarray(embedding, np.float32), files[index]
                results[index] = result
                if file is not None:
                    write_atomically(file, result.tobytes())
        return np.stack([result for result in results if result is not None])


def _clips_of(X: Any) -> list[Any]:
    """The clips in what scikit-learn hands on. InputError: none. UsageError: X is one clip, or a table of columns."""
    shape: tuple[int, ...] = getattr(X, "shape", ())
    if len(shape) == 2 and (hasattr(X, "columns") or _is_text(X)):
        if shape[1] != 1:
            raise UsageError(f"X has {shape[1]} columns. Give the one with the recordings: X[['path']], or X['path'].")
        X = np.asarray(X)[:, 0]
    items = several(X)
    if items is None:
        raise UsageError("X is one clip. Give a list of clips, also for one: [clip].")
    clips = list(items)
    if not clips:
        raise InputError("There is nothing to embed: X is empty. Give at least one clip.")
    return clips


def _is_text(X: Any) -> bool:
    return isinstance(X, np.ndarray) and X.dtype.kind in "OUS"


def _read(file: Path, dim: int) -> np.ndarray | None:
    """An embedding that was kept; None: there is none, or a damaged one."""
    try:
        found = np.frombuffer(file.read_bytes(), np.uint8)
    except OSError:
        return None
    return found.view(np.float32) if len(found) == 4 * dim else None


def content_sha256(item: Any, about: str) -> str | None:
    """The digest of a clip's content, whatever form it has, and of what embeds it; None: of what nobody knows."""
    digest = hashlib.sha256(about.encode())
    pieces = _content(item)
    if pieces is None:
        return None
    for piece in pieces:
        digest.update(hashlib.sha256(piece).digest())
    return digest.hexdigest()


def _content(item: Any) -> list[bytes] | None:
    """What decides a clip's embedding, and nothing else: a record's `path` counts only if it is all that it has."""
    if isinstance(item, (str, os.PathLike)):
        try:
            return [b"file", file_sha256(item).encode()]
        except (OSError, FileError):
            return None  # embedding it says what is wrong
    if isinstance(item, Bytes):
        return [b"file", hashlib.sha256(item).hexdigest().encode()]
    if isinstance(item, Mapping):
        if item.get("array") is not None:
            return _samples(item["array"], item.get("sampling_rate"))
        return _content(item["bytes"] if item.get("bytes") is not None else item.get("path"))
    if hasattr(item, "get_all_samples"):
        samples = item.get_all_samples()
        return _samples(samples.data, samples.sample_rate)
    return _samples(*item) if is_pair(item) else _samples(item, None)


def _samples(samples: Any, rate: Any) -> list[bytes] | None:
    if isinstance(samples, Tensor):
        samples = samples.detach().float().cpu().numpy()
    array = np.ascontiguousarray(samples)
    if array.dtype.kind not in "fiu":
        return None
    return [b"samples", f"{array.dtype} {array.shape} {rate}".encode(), array.tobytes()]
