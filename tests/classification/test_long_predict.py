"""`hear-models classify predict` on recordings beyond five minutes."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

pytest.importorskip("sklearn")

from hear_models.cli.classify import command

RATE = 16_000


def test_long_recordings_have_windows_beside_whole_short_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAR_MODELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("hear_models.corpus.options.LONG_S", 2.0)
    monkeypatch.setattr("hear_models.corpus.options.LONG_WINDOW_S", {"scene": 1.0})
    rng = np.random.default_rng(0)
    t = np.arange(RATE) / RATE
    for k in range(4):
        for kind, sound in (("tone", np.sin(2 * np.pi * (300 + k) * t)), ("noise", rng.standard_normal(RATE))):
            (tmp_path / "labelled" / kind).mkdir(parents=True, exist_ok=True)
            soundfile.write(tmp_path / "labelled" / kind / f"{k}.wav", 0.1 * sound, RATE)
    (tmp_path / "in").mkdir()
    long = np.concatenate([np.sin(2 * np.pi * 302 * np.arange(2 * RATE) / RATE), rng.standard_normal(3 * RATE // 2)])
    soundfile.write(tmp_path / "in/20240501_235958.WAV", 0.1 * long, RATE)
    soundfile.write(tmp_path / "in/short.wav", 0.1 * np.sin(2 * np.pi * 301 * t), RATE)

    def run(*arguments: object) -> tuple[list[dict[str, str]], str]:
        done = CliRunner().invoke(command, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        return list(csv.DictReader(io.StringIO(done.stdout))), done.stderr

    run("fit", tmp_path / "labelled", "-o", tmp_path / "c", "--no-baseline", "-m", "logmel-stats")
    rows, err = run("predict", tmp_path / "c", tmp_path / "in", "--clock")
    assert [(row["path"], row["start_ms"], row["end_ms"], row["label"], row["clock"]) for row in rows] == [
        ("20240501_235958.WAV", "0.0", "1000.0", "tone", "2024-05-01T23:59:58.000"),
        ("20240501_235958.WAV", "1000.0", "2000.0", "tone", "2024-05-01T23:59:59.000"),
        ("20240501_235958.WAV", "2000.0", "3000.0", "noise", "2024-05-02T00:00:00.000"),
        ("20240501_235958.WAV", "3000.0", "3500.0", "noise", "2024-05-02T00:00:01.000"),
        ("short.wav", "0.0", "1000.0", "tone", ""),
    ]
    assert "windows of 1 s" in err and "1 of 2 names tell no time" in err
    rows, err = run("predict", tmp_path / "c", tmp_path / "in", "--window", 0)
    assert [row["path"] for row in rows] == ["20240501_235958.WAV", "short.wav"] and not err
    assert "start_ms" not in rows[0]
