"""How many units share one forward pass: a measured choice, made here and nowhere else."""

from __future__ import annotations

import torch

CPU_UNITS = 8
GPU_UNITS = 128


def units_per_forward(device: torch.device) -> int:
    """Units that one forward pass takes at most: few on a CPU, where a small batch stays in the cache, many on a GPU."""
    return CPU_UNITS if device.type == "cpu" else GPU_UNITS
