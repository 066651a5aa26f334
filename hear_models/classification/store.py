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
FORMAT = 3  # 2: its digest was of the numbers alone; 1: no hidden layers
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
        "hidden": len(p.hidden),
    }
    header["sha256"] = _digest(p, header)
    tensors = {name: np.ascontiguousarray(getattr(p, name)) for name in ARRAYS}
    for layer, (weight, bias) in enumerate(p.hidden):
        tensors |= {f"weight{layer}": np.ascontiguousarray(weight), f"bias{layer}": np.ascontiguousarray(bias)}
    write_atomically(path, save(tensors, {KEY: json.dumps(header)}))


def load_classifier(path: Path) -> Classifier:
    """Read one. Raises FileError: not there, none of ours, or damaged."""
    from safetensors.numpy import load

    with reading(path, FileError, "Fit it again: hear-models classify fit.", what="a classifier"):
        data = read_bytes(path, LARGEST)
        length = int.from_bytes(data[:8], "little")
        outer = parse_json(data[8 : 8 + length])
        header = parse_json(outer["__metadata__"][KEY])
        if header["format"] not in (1, 2, FORMAT):
            raise ValueError(f"it is of format {header['format']}; this version knows {FORMAT}")
        tensors = load(data)
        arrays = [tensors[name].astype(np.float32) for name in ARRAYS]
        hidden = tuple(
            (tensors[f"weight{layer}"].astype(np.float32), tensors[f"bias{layer}"].astype(np.float32))
            for layer in range(int(header.get("hidden", 0)))
        )
        mean, scale, coef, intercept = arrays
        classes = tuple(map(str, header["classes"]))
        probe = Probe(classes, bool(header["multilabel"]), mean, scale, coef, intercept, hidden)
        _check_shapes(probe)
        finite = all(np.isfinite(array).all() for array in (*arrays, *(part for layer in hidden for part in layer)))
        told = header.pop("sha256")
        if _digest(probe, header if header["format"] == FORMAT else None) != told or not finite:
            raise ValueError("it does not match its digest")
        settings = dict(header["settings"])
        if not isinstance(settings["model"], str) or not isinstance(settings.get("model_options", {}), dict):
            raise ValueError("it does not say which model it is for")
        return Classifier(probe, settings, dict(header["figures"]))


def _check_shapes(probe: Probe) -> None:
    """ValueError unless each array takes what the one before gives."""
    n, width = len(probe.classes), len(probe.mean)
    fits = probe.scale.shape == (width,) and probe.intercept.shape == (n,)
    for weight, bias in probe.hidden:
        fits = fits and weight.shape == (len(bias), width)
        width = len(bias)
    if not fits or probe.coef.shape != (n, width):
        raise ValueError("its arrays do not fit each other")


def _digest(probe: Probe, header: dict[str, Any] | None) -> str:
    """Of the numbers, and of all else that the file says (None: as older versions, of the names of classes)."""
    said = "\0".join(probe.classes) if header is None else json.dumps(header, sort_keys=True)
    digest = hashlib.sha256(said.encode())
    for name in ARRAYS:
        digest.update(np.ascontiguousarray(getattr(probe, name), np.float32).tobytes())
    for layer in probe.hidden:
        for part in layer:
            digest.update(np.ascontiguousarray(part, np.float32).tobytes())
    return digest.hexdigest()
