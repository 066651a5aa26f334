"""The inputs of golden/audiomae_pp, regenerated, its mini checkpoint and its recipe weights."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_inputs import GOLDEN
from torch import Tensor

from hear_models import audiomae_pp
from hear_models.checkpoints.mapping import official_key
from hear_models.checkpoints.torch_file import find_state_dict, read_torch_file
from hear_models.layers.patches import sincos_1d, sincos_2d
from hear_models.zoo.convert import convert

FOLDER = GOLDEN / "audiomae_pp"
MINI = FOLDER / "mini" / "checkpoint-99.pth.xz"


def arrays(name: str) -> Any:
    """A golden file."""
    return np.load(FOLDER / f"{name}.npz")


def convert_mini(folder: Path) -> Path:
    """The official mini checkpoint, converted as a user converts it."""
    path = folder / "mini.safetensors"
    convert("audiomae_pp", MINI, path, overrides={"heads": 4})
    return path


def mini_state() -> dict[str, Tensor]:
    """The tensors of the official mini checkpoint by their official names."""
    file = read_torch_file(MINI)
    return {key: torch.from_numpy(np.array(t.array())) for key, t in find_state_dict(file.content).items()}


def official_shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Official names and shapes of a model's tensors, with the norm that the official code keeps and never uses."""
    shapes = {official_key(n, audiomae_pp.OFFICIAL.rules): tuple(t.shape) for n, t in model.state_dict().items()}
    for key, shape in list(shapes.items()):
        if "ffn1.layer2.bias" in key:
            shapes |= {key.replace("ffn1.layer2.bias", f"norm3.{name}"): shape for name in ("weight", "bias")}
    return shapes


def variant_shapes(keys: list[str]) -> dict[str, tuple[int, ...]]:
    """From "cls_token (1, 1, 16)" to names and shapes."""
    parts = [re.fullmatch(r"(\S+) \((.*)\)", key) for key in keys]
    return {p[1]: tuple(int(n) for n in p[2].split(",") if n.strip()) for p in parts if p}


def recipe_state(
    shapes: dict[str, tuple[int, ...]], grid: tuple[int, int] = (50, 5), faint: bool = False
) -> dict[str, Tensor]:
    """Weights that follow from their official names alone; positions, and `rope.freqs`, are the formula's."""
    return {key: recipe_array(key, shape, grid, faint) for key, shape in shapes.items()}


def recipe_array(key: str, shape: tuple[int, ...], grid: tuple[int, int], faint: bool) -> Tensor:
    """One of them; `faint` makes all but the weights of norms small."""
    small = np.float32(0.02) if faint else np.float32(1)
    if key.endswith("pos_embed"):
        width, tokens = shape[2], grid[0] * grid[1]
        table = sincos_1d(width, torch.arange(tokens)) if "decoder" in key else sincos_2d(width, *grid)
        return torch.cat([torch.zeros(shape[1] - tokens, width), table])[None] * small
    if key.endswith("rope.freqs"):
        return 10_000.0 ** -(torch.arange(shape[0]) / shape[0])
    t = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape, dtype=np.float32)
    if len(shape) > 1:
        return torch.from_numpy(t * np.float32(1 / np.sqrt(np.prod(shape[1:]))) * small)
    if key.endswith("weight"):
        return torch.from_numpy(1 + np.float32(0.1) * t)
    return torch.from_numpy(np.float32(0.02) * t * small)
