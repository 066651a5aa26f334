"""How many units share one forward pass: a measured choice, made here and nowhere else."""

from __future__ import annotations

import torch

CPU_POSITIONS = 1_600  # of 10 ms: 8 units of MW-MAE; more does not help a CPU and leaves its cache
GPU_POSITIONS = 25_600


def units_per_forward(device: torch.device, cost: int) -> int:
    """Units of a `cost` in frames each (`HearModel.unit_cost`) that one forward pass takes; at least one."""
    return max(1, (CPU_POSITIONS if device.type == "cpu" else GPU_POSITIONS) // max(1, cost))


SMALL_PARAMETERS = 10_000_000  # 1.7 million gained 1.3 times from workers, 86 million lost a tenth (2 cores)


def inference_workers(device: torch.device, parameters: int, clips: int) -> int:
    """Calls of a model that run at once, each with one thread; 1 means one call at a time with all of torch's threads.

    The products of a small network are too short to be shared by cores; many clips can be.

    Args:
        device: of the model.
        parameters: of the model.
        clips: how many there are to embed, at least.
    """
    if device.type != "cpu" or parameters > SMALL_PARAMETERS or not _threads_have_their_own_number():
        return 1
    return max(1, min(torch.get_num_threads(), clips))


def _threads_have_their_own_number() -> bool:
    """Whether `torch.set_num_threads` can hold for one thread alone: with OpenMP it can."""
    return "backend: OpenMP" in torch.__config__.parallel_info()
