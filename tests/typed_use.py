"""How a user's program is checked: mypy reads this file with the package, and every line says what it must find.

Not run. A wrong word that is no longer refused is an unused `type: ignore`, and mypy fails.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

import hear_models

if TYPE_CHECKING:
    from typing_extensions import assert_type

    Array = npt.NDArray[np.float32]
    audio: Array = np.zeros(16000, dtype=np.float32)
    tensor = torch.zeros(2, 16000)

    assert_type(hear_models.embed("a.wav"), Array)
    assert_type(hear_models.embed(Path("a.wav"), kind="timestamps"), tuple[Array, Array])
    assert_type(hear_models.embed(audio, sample_rate=16000), Array)
    assert_type(hear_models.embed((audio, 16000), "mwmae-nano"), Array)
    assert_type(hear_models.embed({"array": audio, "sampling_rate": 16000}), Array)
    assert_type(hear_models.embed(b"RIFF"), Array)
    assert_type(hear_models.embed(["a.wav", audio]), list[Array])
    assert_type(hear_models.embed(["a.wav"], kind="timestamps"), list[tuple[Array, Array]])
    assert_type(hear_models.embed(tensor), torch.Tensor)
    assert_type(hear_models.embed(tensor, kind="timestamps"), tuple[torch.Tensor, torch.Tensor])
    assert_type(hear_models.embed([tensor[0]]), list[torch.Tensor])
    assert_type(hear_models.embed(["a.wav"], errors="skip"), Any)

    hear_models.embed("a.wav", kind="scen")  # type: ignore[call-overload]
    hear_models.embed("a.wav", channel="middle")  # type: ignore[call-overload]
    hear_models.embed("a.wav", resampler="sox")  # type: ignore[call-overload]
    hear_models.embed("a.wav", errors="ignore")  # type: ignore[call-overload]
    hear_models.embed(3.5)  # type: ignore[call-overload]
    text: str = hear_models.embed("a.wav")  # type: ignore[assignment]
