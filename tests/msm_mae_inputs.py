"""The inputs of golden/msm_mae, regenerated, its mini checkpoints, and the comparison that its README prescribes."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from golden_inputs import GOLDEN
from torch import Tensor

from hear_models.zoo.convert import convert

FOLDER = GOLDEN / "msm_mae"
CASES = json.loads((FOLDER / "embeddings_mini.json").read_text())
M2D_CASES = json.loads((FOLDER / "m2d_repo.json").read_text())
M2D = "msm_mae_vit_base-80x208p16x16-220924-mini"
HEADS = {  # not in the files, nor in the real ones
    "80x208p16x16_mini": {"heads": 4, "decoder_heads": 3},
    "80x96p16x8_nocls_mini": {"heads": 3, "decoder_heads": 2},
    "80x104p80x4_mini": {"heads": 2, "decoder_heads": 3},
    M2D: {"heads": 3, "decoder_heads": 4},
    f"{M2D}_enconly": {"heads": 3},
}
MINIS = {
    "a": "80x208p16x16_mini",
    "n": "80x96p16x8_nocls_mini",
    "s": "80x104p80x4_mini",
}


def clip(seed: int | None, n: int, kind: str) -> np.ndarray:
    """A waveform at 16 kHz, float32 [n]."""
    if kind == "silence":
        return np.zeros(n, np.float32)
    g = np.random.Generator(np.random.PCG64(seed))
    t = np.arange(n) / 16000.0
    f, a = g.uniform(80, 4000, 4), g.uniform(0.05, 0.2, 4)
    x = sum(a[i] * np.sin(2 * np.pi * f[i] * t) for i in range(4))
    x = x + 0.1 * np.sin(2 * np.pi * (200 * t + 300 * t * t)) + 0.02 * g.standard_normal(n)
    return (np.clip(20 * x, -1, 1) if kind == "clip" else x).astype(np.float32)


def clips(case: dict) -> Tensor:
    """The batch of a case of the .json files, [clips, samples]."""
    return torch.from_numpy(np.stack([clip(c["seed"], c["samples"], c["kind"]) for c in case["clips"]]))


def convert_mini(name: str, folder: Path) -> Path:
    """An official mini checkpoint, converted as a user converts it: the folder's name is part of the format."""
    path = folder / f"{name}.safetensors"
    if not path.exists():
        convert("msm_mae", FOLDER / name, path, overrides=HEADS[name], accept_licence=True)
    return path


def apart(ours: Tensor | np.ndarray, theirs: np.ndarray) -> float:
    """The largest |ours - theirs| / (1 + |theirs|); shapes must agree."""
    ours = ours.detach().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
    assert ours.shape == theirs.shape, f"{ours.shape} is not {theirs.shape}"
    return float((np.abs(ours.astype(np.float64) - theirs) / (1 + np.abs(theirs))).max())


def recipe_array(key: str, shape: tuple[int, ...]) -> Tensor:
    """A weight that follows from its official name alone."""
    t = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape, dtype=np.float32)
    if len(shape) > 1:
        return torch.from_numpy(t * np.float32(1 / np.sqrt(np.prod(shape[1:]))))
    return torch.from_numpy(1 + np.float32(0.1) * t if key.endswith("weight") else np.float32(0.02) * t)
