"""How many units share one forward pass: a measured choice, made here and nowhere else."""

from __future__ import annotations

import torch

CPU_POSITIONS = 1_600  # frames: 8 units of MW-MAE; more does not help a CPU and leaves its cache
GPU_POSITIONS = 25_600


def units_per_forward(device: torch.device, positions: int) -> int:
    """Units of `positions` frames (or samples) each that one forward pass takes; at least one."""
    return max(1, (CPU_POSITIONS if device.type == "cpu" else GPU_POSITIONS) // positions)
