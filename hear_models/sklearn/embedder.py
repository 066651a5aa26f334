"""A transformer of scikit-learn whose input are recordings and whose output are scene embeddings."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.corpus.embed import embed
from hear_models.errors import UsageError
from hear_models.files import write_atomically
from hear_models.pipeline.model import HearModel
from hear_models.subjects.naming import find_ours
from hear_models.subjects.weights import weights_sha256

try:
    from sklearn.base import BaseEstimator, TransformerMixin
except ImportError as error:
    raise ImportError("hear_models.sklearn needs scikit-learn. Install it: pip install 'hear-models[eval]'") from error

KINDS = ("scene", "timestamps")


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

    def fit(self, X: Sequence[Any], y: Any = None) -> Embedder:
        """Check the parameters, and that there is a model. UsageError otherwise."""
        if self.kind not in KINDS:
            raise UsageError(f"kind={self.kind!r} is unknown. Use one of {', '.join(KINDS)}.")
        network = self._network()
        scene = self.kind == "scene"
        self.n_features_out_ = network.scene_embedding_size if scene else network.timestamp_embedding_size
        return self

    def transform(self, X: Sequence[Any]) -> np.ndarray:
        """Clips → float32 [clips, dim], or, of timestamps, an object array [clips]."""
        network, items = self._network(), list(X)
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
        folder.mkdir(parents=True, exist_ok=True)
        about = f"{weights_sha256(network)} {network.config!r} {self.sample_rate}"
        files = [folder / f"{_content(item, about)}.npy" for item in items]
        missing = [index for index, file in enumerate(files) if _read(file) is None]
        if missing:
            made = embed([items[index] for index in missing], network, sample_rate=self.sample_rate)
            for index, embedding in zip(missing, made, strict=True):
                write_atomically(files[index], np.asarray(embedding, np.float32).tobytes())
        results = []
        for file in files:
            found = _read(file)
            assert found is not None
            results.append(found)
        return np.stack(results)


def _read(file: Path) -> np.ndarray | None:
    """An embedding that was kept."""
    try:
        return np.frombuffer(file.read_bytes(), np.float32)
    except OSError:
        return None


def _content(item: Any, about: str) -> str:
    """The digest of a clip's content, whatever form it has, and of what embeds it."""
    digest = hashlib.sha256(about.encode())
    if isinstance(item, (str, os.PathLike)):
        with open(item, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    elif isinstance(item, dict):
        for key in sorted(item):
            digest.update(f"{key} {_content(item[key], '')}".encode())
    elif isinstance(item, (tuple, list)):
        for part in item:
            digest.update(_content(part, "").encode())
    elif isinstance(item, bytes):
        digest.update(item)
    elif isinstance(item, (int, float)) or item is None:
        digest.update(repr(item).encode())
    else:
        array = np.ascontiguousarray(np.asarray(item))
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
