"""`hear-models demo` is the first thing that a newcomer runs: it must work, be short, and make sense to an ear."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import hear_models
from hear_models.cli.demo import command
from hear_models.datasets.demo_clips import CLIPS, finish
from hear_models.errors import UsageError

RECORDINGS = Path(hear_models.__file__).parent / "_demo"
PROGRAM = [sys.executable, "-m", "hear_models.cli.main", "demo"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    """An empty folder in which the demo ran, offline and without any other program, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    nothing = tmp_path_factory.mktemp("no_programs")
    environment = {
        **os.environ,
        "PATH": str(nothing),
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run(PROGRAM, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_its_output_fits_80_columns_apart_from_the_path_of_the_package(demo):
    lines = [line for line in demo[1].splitlines() if not line.startswith("the recordings:")]
    assert len(lines) > 20 and max(map(len, lines)) <= 80


def test_it_leaves_an_embedding_of_every_recording_in_a_folder_below_the_current_one(demo):
    folder, _ = demo
    for clip in CLIPS:
        scene = np.load(folder / "hear-models-demo" / "scene" / f"{clip.name}.flac.npz")["embeddings"]
        steps = np.load(folder / "hear-models-demo" / "timestamps" / f"{clip.name}.flac.npz")
        assert scene.ndim == 1 and np.isfinite(scene).all() and scene.std() > 0
        assert len(steps["embeddings"]) == len(steps["timestamps_ms"])
        assert steps["timestamps_ms"][-1] <= 1000 * soundfile.info(RECORDINGS / f"{clip.name}.flac").duration
    assert [path.name for path in folder.iterdir()] == ["hear-models-demo"]


def test_what_sounds_alike_is_nearest(demo):
    """Speech next to speech, strings to strings, flute to flute."""
    nearest = dict(re.findall(r"^ *\d+ (\w+) .* (\w+)$", demo[1], flags=re.M))
    for name, other in nearest.items():
        kind = name.split("_")[0]
        if kind in ("speech", "guitar", "flute"):
            assert other.startswith(kind), f"{name} → {other}"
    assert len(nearest) == len(CLIPS)


def test_it_runs_again_in_the_same_folder_also_with_another_model(tmp_path):
    for name in ("logmel-stats", "logmel-stats", "mwmae-nano"):
        done = CliRunner().invoke(command, ["--output", str(tmp_path / "here"), "--model", name])
        assert done.exit_code == 0, done.output
        assert name in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_an_unknown_model_leaves_no_folder(tmp_path):
    done = CliRunner().invoke(command, ["--output", str(tmp_path / "here"), "--model", "no-such-model"])
    assert isinstance(done.exception, UsageError) and "no-such-model" in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_the_recordings_are_small_short_and_each_is_described_with_its_licence():
    files = sorted(RECORDINGS.glob("*.flac"))
    assert [file.stem for file in files] == sorted(clip.name for clip in CLIPS)
    assert sum(file.stat().st_size for file in files) < 400_000
    text = (RECORDINGS / "README.txt").read_text()
    assert "CC0" in text
    for file in files:
        info = soundfile.info(file)
        assert (info.samplerate, info.channels) == (16_000, 1) and 1 <= info.duration <= 3
        assert file.name in text


@pytest.mark.parametrize("clip", [clip for clip in CLIPS if not clip.name.startswith("speech")], ids=lambda c: c.name)
def test_the_script_still_makes_the_recordings_that_are_shipped(clip):
    """Speech is left out: it depends on the version of espeak-ng."""
    shipped, _ = soundfile.read(RECORDINGS / f"{clip.name}.flac", dtype="float32")
    np.testing.assert_allclose(finish(clip.make()), shipped, atol=3e-4)
