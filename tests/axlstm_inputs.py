"""The inputs of golden/axlstm, regenerated, its mini checkpoints and its rule weights."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_inputs import GOLDEN
from torch import Tensor

from hear_models.checkpoints.torch_file import find_state_dict, read_torch_file
from hear_models.layers.patches import sincos_2d
from hear_models.zoo.convert import convert

FOLDER = GOLDEN / "axlstm"
MINIS = {"mini_a": "checkpoint-12.pth", "mini_b": "checkpoint-7.pth"}
LAYOUTS = ("official", "corrected")
CASES = {
    "short_mix": (8000, [("mix", 101)]),
    "one_chunk_am": (31999, [("am", 102)]),
    "just_over_mix": (32000, [("mix", 103)]),
    "long_am": (80077, [("am", 104)]),
    "batch2": (24001, [("mix", 105), ("am", 1105)]),
    "clipped": (40000, [("clip", 106)]),
    "quiet": (20001, [("quiet", 107)]),
    "minimal": (201, [("mix", 108)]),
    "click": (12345, [("click", 109)]),
    "silence": (20000, [("zero", 0)]),
}


def clip(kind: str, n: int, seed: int) -> np.ndarray:
    """A waveform at 16 kHz, float32 [n]."""
    g = np.random.Generator(np.random.PCG64(seed))
    t, x = np.arange(n) / 16000, np.zeros(n)
    if kind == "mix":
        tones = sum(0.2 * np.sin(2 * np.pi * f * t + i) for i, f in enumerate(g.uniform(80, 4000, size=3)))
        x = tones + 0.2 * np.sin(2 * np.pi * (200 * t + 400 * t**2)) + 0.02 * g.standard_normal(n)
    elif kind == "am":
        x = 0.3 * g.standard_normal(n) * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * t))
    elif kind == "clip":
        x = np.clip(5 * g.standard_normal(n), -1, 1)
    elif kind == "quiet":
        x = 1e-4 * g.standard_normal(n)
    elif kind == "click":
        x[n // 3], x[(2 * n) // 3] = 0.9, -0.7
    return x.astype(np.float32)


def clips(case: str) -> Tensor:
    """A batch of waveforms of equal length, [clips, samples]."""
    n, rows = CASES[case]
    return torch.from_numpy(np.stack([clip(kind, n, seed) for kind, seed in rows]))


def arrays(name: str) -> Any:
    """A golden file."""
    return np.load(FOLDER / f"{name}.npz")


def mini_path(mini: str) -> Path:
    """The official container of a mini network."""
    return FOLDER / mini / "checkpoints" / MINIS[mini]


def mini_state(mini: str) -> dict[str, Tensor]:
    """Its tensors by their official names."""
    file = read_torch_file(mini_path(mini))
    return {key: torch.from_numpy(np.array(t.array())) for key, t in find_state_dict(file.content).items()}


def convert_mini(mini: str, folder: Path) -> Path:
    """The same, converted as a user converts it."""
    path = folder / f"{mini}.safetensors"
    convert("axlstm", mini_path(mini), path)
    return path


def rule_state(size: str) -> dict[str, Tensor]:
    """Weights of a published size that follow from their official names alone; positions are the formula's."""
    shapes = json.loads((FOLDER / f"state_shapes_{size}.json").read_text())
    return {key: rule_array(key, tuple(shape)) for key, shape in shapes.items()}


def rule_array(key: str, shape: tuple[int, ...]) -> Tensor:
    """One of them."""
    if key == "pos_embed":
        return torch.cat([torch.zeros(1, shape[2]), sincos_2d(shape[2], 50, 5)])[None]
    t = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape, dtype=np.float32)
    if len(shape) > 1:
        t = t / np.float32(np.sqrt(np.prod(shape[1:])))
    elif key.endswith(("weight", ".learnable_skip")):
        t = 1 + np.float32(0.1) * t
    elif key.endswith(".fgate.bias"):
        t = np.linspace(3, 6, 4) + np.float32(0.02) * t
    else:
        t = np.float32(0.02) * t
    return torch.from_numpy(t.astype(np.float32))
