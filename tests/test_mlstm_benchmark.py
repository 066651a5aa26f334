"""The mLSTM benchmark must time two forms of the same computation, and print what it measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hear_models.layers.mlstm import mlstm

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "mlstm.py"


def test_the_official_form_computes_the_same(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARK.parent)
    import mlstm as benchmark  # the file of that name in benchmarks/

    inputs = [x.double() for x in benchmark.example(60, 8)]
    torch.testing.assert_close(benchmark.official(*inputs), mlstm(*inputs, mode="sequential"), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("more", [[], ["--backward"], ["--forms"]])
def test_it_prints_a_row(more):
    command = [sys.executable, str(BENCHMARK), "--steps", "20", "--width", "8", "--repeats", "2", *more]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1].split()[:2] == ["20", "8"]
