"""What the benchmarks share: models by name (random weights where there are none), memory, the machine's name."""

from __future__ import annotations

import platform
import resource
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

RANDOM = "random:"  # random:FAMILY is the family's default configuration (the paper's base size) with seeded weights


def build_model(name: str, **options: Any) -> tuple[Any, ModuleType]:
    """(model in eval mode, module of its family) of a listed name, a .safetensors file or random:FAMILY."""
    import torch

    import hear_models

    if not name.startswith(RANDOM):
        model = hear_models.load_model(name, **options)
        return model, import_module(f"hear_models.{model.family}")
    family = import_module(f"hear_models.{name.removeprefix(RANDOM)}")
    dtype, device = options.pop("dtype", "float32"), options.pop("device", "cpu")
    model = family.Model(family.Config(), seed=0, **options)
    if dtype != "float32":
        model.use_dtype(getattr(torch, dtype))
    return model.to(device).eval(), family


def peak_gb() -> float:
    """Largest resident size of this process so far, GB (10^9 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def machine(device: str = "cpu") -> str:
    """The processor's or GPU's name, the cores that may be used, and torch's build."""
    import torch

    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    name = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = names[0] if names else name
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{name}, {torch.get_num_threads()} threads, {capability}, torch {torch.__version__}"
