"""The selective scan's Triton kernels, run as Python on a CPU: the same bar as every other backend, before any GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from hear_models.errors import UsageError
from hear_models.layers import selective_scan as room
from hear_models.layers.selective_scan import selective_scan

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed (pip install triton)")

GOLDEN = Path(__file__).parent.parent / "golden" / "audio_mamba" / "scan_cases.npz"
CASES = f"""
import numpy as np, torch
from hear_models.layers.selective_scan import selective_scan

names = dict(u="u", delta="dt_raw", A="A", B="B", C="C", D="D", z="z", delta_bias="dt_bias")
off = lambda found, expected: abs(found.detach().double().numpy() - expected).max() / max(abs(expected).max(), 1e-30)
arrays = np.load({str(GOLDEN)!r})
for case in ("init", "hard", "mixed", "frozen", "reset", "len1", "long"):
    arguments = {{k: torch.from_numpy(arrays[f"{{case}}/{{v}}"]).requires_grad_() for k, v in names.items()}}
    y, last = selective_scan(**arguments, backend="triton", return_state=True)
    y.backward(torch.from_numpy(arrays[f"{{case}}/cotangent"]))
    assert off(y, arrays[f"{{case}}/y64"]) <= 2e-6, case
    assert off(last, arrays[f"{{case}}/last_state64"]) <= 2e-6, case
    for name, key in names.items():
        assert off(arguments[name].grad, arrays[f"{{case}}/grad_{{key}}"]) <= 1e-5, (case, name)
    with torch.no_grad():
        assert torch.equal(selective_scan(**arguments, backend="triton"), y), case
print("all cases")
"""
DOUBT = """
from hear_models.layers import selective_scan_triton as room
assert room.obstacle() == ""
backward = room.backward
room.backward = lambda *arguments: tuple(1.001 * gradient for gradient in backward(*arguments))
print(room.obstacle())
def backward(*arguments):
    raise RuntimeError("no such instruction")
room.backward = backward
print(room.obstacle())
"""


def interpreted(code):
    """What a fresh interpreter prints in which Triton runs its kernels as Python: decided when they are defined."""
    path = os.pathsep.join([str(Path(room.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "PYTHONPATH": path, "TRITON_INTERPRET": "1"},
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@needs_triton
def test_kernels_give_values_and_gradients_of_the_recurrence_in_float64():
    assert interpreted(CASES).strip() == "all cases"


@needs_triton
def test_kernels_that_are_wrong_on_this_device_are_not_used():
    wrong, broken = interpreted(DOUBT).splitlines()
    assert "wrong numbers" in wrong
    assert "RuntimeError: no such instruction" in broken


def test_without_triton_or_without_a_gpu_the_error_says_so(monkeypatch):
    u = torch.zeros(1, 2, 3)
    arguments = u, u, torch.zeros(2, 1), u[:, :1], u[:, :1]
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UsageError, match=r"triton scan runs on cuda, not on cpu.*'torch'"):
        selective_scan(*arguments, backend="triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "hear_models.layers.selective_scan_triton", raising=False)
    room._missing.cache_clear()
    with pytest.raises(UsageError, match=r"triton is not installed.*'torch'"):
        selective_scan(*arguments, backend="triton")
    assert room._choose("auto", torch.device("cuda"), torch.float32) == "torch"
    room._missing.cache_clear()
