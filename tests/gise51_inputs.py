"""The inputs of tests/golden/gise51, regenerated as its README says: clips, and weights that follow from names."""

from __future__ import annotations

import json
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from golden_inputs import GOLDEN
from torch import Tensor

FOLDER = GOLDEN / "gise51"
NETWORKS = tuple(json.loads((FOLDER / "nets_info.json").read_text("utf-8")))


def signal(seed: int, n: int) -> Tensor:
    """A sweep, a tone and noise at 22,050 Hz on the grid of 16-bit integers, float32 [n]."""
    rng = np.random.Generator(np.random.PCG64(seed))
    t = np.arange(n) / 22050
    sweep = 0.4 * np.sin(2 * np.pi * (220 * t + 60 * seed * t**2)) * (0.5 + 0.5 * np.sin(2 * np.pi * 1.5 * t))
    x = sweep + 0.1 * np.sin(2 * np.pi * (3000 + 100 * seed) * t) + 0.02 * rng.standard_normal(n)
    return on_grid(x)


def loud(seed: int, n: int) -> Tensor:
    """Clipped noise."""
    return on_grid(10 * np.random.Generator(np.random.PCG64(seed)).standard_normal(n))


def on_grid(x: np.ndarray) -> Tensor:
    """As a file of 16-bit integers gives it; float32 holds these values exactly."""
    return torch.from_numpy((np.round(np.clip(x, -1, 1) * 32767).astype(np.int16) / 32768.0).astype(np.float32))


def recipe_state(network: str) -> OrderedDict[str, Tensor]:
    """The state dict of a network with the official keys and made-up weights."""
    shapes = json.loads((FOLDER / "state_dict_keys.json").read_text("utf-8"))[network]
    variance = 0.44 if network.startswith("efficientnet") else 1.0
    return OrderedDict((key, recipe_tensor(key, tuple(shape), variance)) for key, shape in shapes.items())


def recipe_tensor(key: str, shape: tuple[int, ...], variance: float) -> Tensor:
    """Weights keep the size of what flows through; statistics and normalisation differ from their neutral values."""
    if key.endswith("num_batches_tracked"):
        return torch.tensor(1000)
    t = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape, dtype=np.float32)
    if len(shape) > 1:
        t /= np.sqrt(np.prod(shape[1:])).astype(np.float32)
    elif key.endswith("weight"):
        t = 1 + np.float32(0.1) * t
    elif key.endswith("running_mean"):
        t *= np.float32(0.1)
    elif key.endswith("running_var"):
        t = np.float32(variance) * (1 + np.float32(0.3) * np.abs(t))
    else:
        t *= np.float32(0.02)
    return torch.from_numpy(t)


def write_exported(network: str, folder: Path) -> Path:
    """A `.pth` as the official export writes it."""
    path = folder / "mAP=0.5635_dprime=1.8195_num_classes=51.pth"
    torch.save(recipe_state(network), path)
    return path


def relative(ours: Tensor | np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference / largest official value; shapes must agree."""
    ours = ours.detach().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
    assert ours.shape == theirs.shape, f"{ours.shape} is not {theirs.shape}"
    return float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max() / np.abs(theirs).max())
