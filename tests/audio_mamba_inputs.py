"""The inputs of golden/audio_mamba, regenerated, its mini checkpoints and its recipe weights."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_inputs import GOLDEN, largest_difference
from torch import Tensor

from hear_models.checkpoints.safetensors_file import read_checkpoint, write_checkpoint
from hear_models.checkpoints.torch_file import find_state_dict, read_torch_file
from hear_models.layers.patches import sincos_2d
from hear_models.zoo.convert import convert

FOLDER = GOLDEN / "audio_mamba"
OVERRIDES: dict[str, dict[str, Any]] = {"ssast": {"heads": 4}, "audio_mamba": {}}  # what the mini does not tell
ARRAYS = {"ssast": "ssast", "audio_mamba": "ssam"}  # family: folder
CASES = {
    "short": [(1, 4000, "mix")],
    "one": [(2, 31840, "mix")],
    "onetail": [(3, 16000, "mix")],
    "multi": [(4, 80137, "mix")],
    "loud": [(5, 20001, "loud")],
    "odd": [(6, 12345, "mix")],
    "batch2": [(1, 16000, "mix"), (52, 16000, "loud")],
}
STEPS = {"short": 7, "one": 50, "onetail": 26, "multi": 126, "loud": 32, "odd": 20, "batch2": 26}
LAYOUTS = ("official", "corrected")


def clip(seed: int, n: int, kind: str) -> np.ndarray:
    """A waveform at 16 kHz, float32 [n]."""
    g = np.random.Generator(np.random.PCG64(seed))
    t, noise = np.arange(n) / 16000.0, g.standard_normal(n)
    if kind == "loud":
        return np.clip(1.5 * g.standard_normal(n), -1, 1).astype(np.float32)
    tones = 0.3 * np.sin(2 * np.pi * (200.0 + 37 * seed) * t) + 0.2 * np.sin(2 * np.pi * (300.0 * t + 900.0 * t * t))
    return (tones + 0.05 * noise).astype(np.float32)


def clips(case: list[tuple[int, int, str]]) -> Tensor:
    """A batch of waveforms of equal length, [clips, samples]."""
    return torch.from_numpy(np.stack([clip(*spec) for spec in case]))


def arrays(family: str, name: str) -> Any:
    """A golden file of a family."""
    return np.load(FOLDER / ARRAYS[family] / f"{name}.npz")


def convert_mini(family: str, folder: Path) -> Path:
    """The official mini checkpoint, converted as a user converts it."""
    path = folder / f"{family}.safetensors"
    convert(family, FOLDER / ARRAYS[family] / "checkpoint-99.pth", path, overrides=OVERRIDES[family])
    return path


def mini_state(family: str) -> dict[str, Tensor]:
    """The tensors of the official mini checkpoint by their official names."""
    file = read_torch_file(FOLDER / ARRAYS[family] / "checkpoint-99.pth")
    return {key: torch.from_numpy(np.array(t.array())) for key, t in find_state_dict(file.content).items()}


def as_if_ours(converted: Path, layout: str, folder: Path) -> Path:
    """The converted file with another layout in its configuration."""
    checkpoint = read_checkpoint(converted, ("encoder", "decoder"))
    path = folder / f"{layout}.safetensors"
    config = {**checkpoint.config, "layout": layout}
    write_checkpoint(path, family=checkpoint.family, config=config, tensors=checkpoint.tensors)
    return path


def check_embeddings(golden: Any, case: str, layout: str, scenes: Tensor, steps: Tensor, times: Tensor, close: float):
    """Scene embeddings [clips, dim], steps [clips, n, dim], times [clips, n] against what is stored of a case."""
    n = steps.shape[1]
    some = sorted({0, 1, n // 3, n // 2, n - 2, n - 1})
    whole = f"{case}/emb_{layout}"
    stored = golden[whole] if whole in golden else golden[f"{whole}_rows"]
    ours = steps if whole in golden else steps[:, some]
    assert largest_difference(scenes, golden[f"{case}/scene_{layout}"].reshape(scenes.shape)) <= close
    assert largest_difference(ours, stored.reshape(ours.shape)) <= close
    assert largest_difference(times, golden[f"{case}/ts"].reshape(times.shape)) <= 1e-3


def recipe_state(shapes: dict[str, tuple[int, ...]], width: int) -> dict[str, Tensor]:
    """Weights that follow from their official names alone, `shapes` those of blocks; positions are the formula's."""
    common = {
        "cls_token": (1, 1, width),
        "mask_token": (1, 1, width),
        "patch_embed.proj.weight": (width, 1, 4, 16),
        "patch_embed.proj.bias": (width,),
        "encoder_norm.weight": (width,),
        "encoder_norm.bias": (width,),
        "pred.0.weight": (width, width),
        "pred.0.bias": (width,),
        "pred.2.weight": (64, width),
        "pred.2.bias": (64,),
    }
    positions = torch.cat([torch.zeros(1, width), sincos_2d(width, 50, 5)])[None]
    return {"pos_embed": positions} | {key: recipe_array(key, shape) for key, shape in (common | shapes).items()}


def recipe_array(key: str, shape: tuple[int, ...]) -> Tensor:
    """One of them."""
    t = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape, dtype=np.float32)
    if key.endswith(".A_log"):
        t = np.log(np.arange(1, shape[1] + 1))[None].astype(np.float32) + np.float32(0.05) * t
    elif key.endswith(".dt_proj.bias"):
        t = np.float32(-4.6) + np.clip(t, -2, 2)
    elif len(shape) > 1:
        t = t * np.float32(1 / np.sqrt(np.prod(shape[1:])))
    elif key.endswith(("weight", ".mixer.D")):
        t = 1 + np.float32(0.1) * t
    else:
        t = np.float32(0.02) * t
    return torch.from_numpy(t.astype(np.float32))
