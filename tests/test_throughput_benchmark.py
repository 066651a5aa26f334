"""The speed benchmark must time the same computation on both sides, and print what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hear_models
from hear_models import logmel_stats, mae, msm_mae, mwmae

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def plain_scene(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import yardstick

    return yardstick.plain_scene


@pytest.mark.parametrize("family", [mwmae, mae, msm_mae, logmel_stats])
def test_yardstick_computes_the_same_scene_embedding(family, plain_scene):
    small = {} if family is logmel_stats else {"encoder_width": 64, "encoder_depth": 2, "encoder_heads": 2}
    if family is msm_mae:
        small = {"width": 64, "depth": 2, "heads": 2, "frames_per_unit": 208, "tail": "trim"}
    model = family.Model(family.Config(**small)).eval()
    audio = torch.randn(2, 40_000, generator=torch.Generator().manual_seed(1)) * 0.1
    plain = plain_scene(model, audio)
    assert torch.allclose(plain, model.get_scene_embeddings(audio)[:, : plain.shape[1]], rtol=1e-4, atol=1e-5)


def test_throughput_prints_a_row_and_writes_the_figures(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "throughput.py"), "mwmae-nano", "--seconds", "1", "--batch", "2"]
    command += ["--repeats", "1", "--threads", "1", "--json", str(tmp_path / "a.json")]
    command += ["--markdown", str(tmp_path / "a.md")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert all(len(line) <= 80 for line in run.stdout.splitlines()[1:])  # the first names the machine
    (row,) = json.loads((tmp_path / "a.json").read_text())
    assert row["audio_s_per_s"] == pytest.approx(2 / row["wall_s"])
    assert row["times_plain"] > 0 and 0 < row["front_end_share"] < 1 and row["gb_peak"] >= row["gb_loaded"]
    assert "mwmae-nano" in (tmp_path / "a.md").read_text()


def test_flop_count_is_the_formula_of_the_transformer(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import throughput

    model = hear_models.load_model("mwmae-nano")
    c = model.config
    width, tokens = c.encoder_width, c.tokens
    per_token = c.encoder_depth * (width * width * (4 + 2 * c.mlp_ratio) + 2 * tokens * width)
    expected = 2 * tokens * (per_token + c.patch_frames * c.patch_bands * width)
    frontend = 2 * 101 * 201 * 80  # mel filters of one second; the FFT is not counted
    assert throughput.count_flop(model, 16_000) == pytest.approx(expected + frontend, rel=0.001)


def test_throughput_of_an_unknown_model_is_one_sentence_and_exit_2():
    command = [sys.executable, str(BENCHMARKS / "throughput.py"), "no-such-model"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2 and "no-such-model" in run.stderr and "Traceback" not in run.stderr
