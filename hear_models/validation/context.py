"""What the checks share: seeded test sounds, calls whose results are kept, and how closely two results must agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from hear_models.pipeline.model import HearModel
from hear_models.subjects.module import HearModule, ModuleFault
from hear_models.validation.findings import Finding

Length = Literal["quick", "normal", "long"]
Result = TypeVar("Result")


def error(found: str, expected: str = "", example: str = "") -> Finding:
    """A fault; the runner fills in the name of the check."""
    return Finding("", "error", found, expected, example)


def warning(found: str, expected: str = "", example: str = "") -> Finding:
    """Allowed, but it costs something."""
    return Finding("", "warning", found, expected, example)


def info(found: str, expected: str = "", example: str = "") -> Finding:
    """Worth knowing."""
    return Finding("", "info", found, expected, example)


@dataclass
class Context:
    """One validation run: the module, how long it may take, and everything already computed.

    `length`: "quick" leaves out the long recordings, "normal" goes to 10 minutes of audio, "long" to 20.
    """

    module: HearModule
    length: Length = "normal"
    other_model_path: str = ""  # a second weights file, which must give other embeddings
    failed: set[str] = field(default_factory=set)  # names of checks that found errors, or were skipped because of one
    _kept: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> Any:
        """The loaded model, on the device of the run."""
        return self.module.model

    @property
    def device(self) -> torch.device:
        """Where model and audio are."""
        return torch.device(self.module.device)

    @property
    def rate(self) -> int:
        """Sample rate of the model in Hz."""
        return int(self.model.sample_rate)

    @property
    def ours(self) -> bool:
        """True for models of this zoo, which promise more than the HEAR API asks for."""
        return isinstance(self.model, HearModel)

    def shared(self, key: str, compute: Callable[[], Result]) -> Result:
        """`compute()`, once for all checks."""
        if key not in self._kept:
            self._kept[key] = compute()
        result: Result = self._kept[key]
        return result

    # ------------------------------------------------------------------ sounds, float32 on the device, seeded

    def samples(self, seconds: float) -> int:
        """Length in samples, rounded down as hear-validator does; at least one."""
        return max(1, int(seconds * self.rate))

    def noise(self, n_samples: int, seed: int = 0, level: float = 1.0, clips: int = 1) -> Tensor:
        """White noise uniform in [-level, level], [clips, n_samples]."""
        generator = torch.Generator().manual_seed(1000 + seed)
        return ((torch.rand(clips, n_samples, generator=generator) * 2 - 1) * level).to(self.device)

    def tone(self, n_samples: int, start_hz: float = 220.0, end_hz: float = 880.0, level: float = 0.3) -> Tensor:
        """A gliding tone, [1, n_samples]."""
        t = np.arange(n_samples) / self.rate
        glide = start_hz * t + 0.5 * (end_hz - start_hz) * t * t / max(t[-1], 1 / self.rate)
        return torch.from_numpy((level * np.sin(2 * math.pi * glide)).astype(np.float32))[None].to(self.device)

    def silence(self, n_samples: int) -> Tensor:
        """Zeros, [1, n_samples]."""
        return torch.zeros(1, n_samples, device=self.device)

    # ------------------------------------------------------------------ calls

    def scene(self, audio: Tensor, model: Any = None) -> Tensor:
        """Scene embeddings [clips, dim] on the CPU, detached, in the dtype in which they came."""
        return as_cpu_tensor(self.module.scene(audio, model))

    def timestamps(self, audio: Tensor, model: Any = None) -> tuple[Tensor, Tensor]:
        """Timestamp embeddings [clips, steps, dim] and times [clips, steps] in ms, on the CPU, detached."""
        embeddings, times = self.module.timestamps(audio, model)
        return as_cpu_tensor(embeddings), as_cpu_tensor(times)

    def both(self, audio: Tensor, model: Any = None) -> dict[str, Tensor]:
        """Both kinds of embedding of the same audio, by the name of the function."""
        return {
            "get_scene_embeddings": self.scene(audio, model),
            "get_timestamp_embeddings": self.timestamps(audio, model)[0],
        }

    # ------------------------------------------------------------------ comparing

    def difference(self, a: Tensor, b: Tensor) -> str:
        """ "" when two float32 results agree within the promised tolerance, else the difference in words.

        rtol 1e-4 and atol 1e-5 on CPU, 1e-3 on other devices (kernels differ by batch size); the absolute part follows
        the size of the embeddings (their root mean square), so that neither tiny nor huge embeddings are misjudged.
        """
        if a.shape != b.shape:
            return f"shapes {list(a.shape)} and {list(b.shape)}"
        a, b = a.double(), b.double()
        scale = float(b[torch.isfinite(b)].square().mean().sqrt()) if bool(torch.isfinite(b).any()) else 0.0
        rtol, atol = (1e-4, 1e-5) if self.device.type == "cpu" else (1e-3, 1e-3)
        if torch.allclose(a, b, rtol=rtol, atol=atol * max(scale, 0.1), equal_nan=True):
            return ""
        largest = float((a - b).abs().nan_to_num(nan=math.inf).max())
        return f"largest difference {largest:.3g}, root mean square of the embeddings {scale:.3g}"


def as_cpu_tensor(value: Any) -> Tensor:
    """A detached tensor on the CPU; arrays and nested lists are converted, so that later checks can go on."""
    try:
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError, RuntimeError) as cause:
        raise ModuleFault(f"a result of type {type(value).__name__} is no tensor ({cause})") from cause
    return tensor.detach().cpu()


def relative_change(a: Tensor, b: Tensor) -> float:
    """‖a - b‖ / ‖b‖ over all values; 0 when both are zero."""
    norm = float(b.double().norm())
    change = float((a.double() - b.double()).norm())
    return change / norm if norm > 0 else (math.inf if change > 0 else 0.0)
