"""A classifier in one safetensors file: numbers, and a JSON header that names the embedding model by its digest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.classification.probe import Probe
from hear_models.errors import FileError
from hear_models.files import write_atomically
from hear_models.foreign import parse_json, read_bytes, reading

KEY = "hear_models_classifier"
FORMAT = 1
LARGEST = 1 << 30
ARRAYS = ("mean", "scale", "coef", "intercept")


@dataclass(frozen=True)
class Classifier:
    """A probe, the embeddings that it was fitted on (`EmbeddingSettings` as data), and its figures."""

    probe: Probe
    settings: dict[str, Any]
    figures: dict[str, Any]


def save_classifier(path: Path, classifier: Classifier) -> None:
    """Write it whole or not at all. Raises FileError."""
    from safetensors.numpy import save

    p = classifier.probe
    header = {
        "format": FORMAT,
        "classes": list(p.classes),
        "multilabel": p.multilabel,
        "settings": classifier.settings,
        "figures": classifier.figures,
        "sha256": _digest(p),
    }
    tensors = {name: np.ascontiguousarray(getattr(p, name)) for name in ARRAYS}
    write_atomically(path, save(tensors, {KEY: json.dumps(header)}))


def load_classifier(path: Path) -> Classifier:
    """Read one. Raises FileError: not there, none of ours, or damaged."""
    from safetensors.numpy import load

    with reading(path, FileError, "Fit it again: hear-models classify fit.", what="a classifier"):
        data = read_bytes(path, LARGEST)
        length = int.from_bytes(data[:8], "little")
        outer = parse_json(data[8 : 8 + length])
        header = parse_json(outer["__metadata__"][KEY])
        if header["format"] != FORMAT:
            raise ValueError(f"it is of format {header['format']}; this version knows {FORMAT}")
        tensors = load(data)
        arrays = [tensors[name].astype(np.float32) for name in ARRAYS]
        probe = Probe(tuple(map(str, header["classes"])), bool(header["multilabel"]), *arrays)
        n, dim = len(probe.classes), len(probe.mean)
        if probe.coef.shape != (n, dim) or probe.scale.shape != (dim,) or probe.intercept.shape != (n,):
            raise ValueError("its arrays do not fit each other")
        if _digest(probe) != header["sha256"] or not all(np.isfinite(a).all() for a in arrays):
            raise ValueError("its numbers do not match its digest")
        return Classifier(probe, dict(header["settings"]), dict(header["figures"]))


def _digest(probe: Probe) -> str:
    digest = hashlib.sha256("\0".join(probe.classes).encode())
    for name in ARRAYS:
        digest.update(np.ascontiguousarray(getattr(probe, name), np.float32).tobytes())
    return digest.hexdigest()
