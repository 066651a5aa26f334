"""`hear-models synthesise` as a person calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

PROGRAM = [sys.executable, "-m", "hear_models.cli.main", "synthesise"]


def call(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)


def flacs(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.flac")}


def test_a_few_seconds_of_scenes_are_written_and_the_same_again(tmp_path):
    for name in "ab":
        done = call(tmp_path / name, "--hours", 8 / 3600, "--seed", 4, "--seconds", 2)
        assert done.returncode == 0, done.stderr
        assert "4 files" in done.stdout and max(map(len, done.stdout.splitlines())) <= 200
    assert flacs(tmp_path / "a") == flacs(tmp_path / "b")
    assert len(flacs(tmp_path / "a")) == 4
    for path in (tmp_path / "a").rglob("*.flac"):
        audio, rate = soundfile.read(path)
        assert rate == 16_000 and audio.shape == (32_000,) and np.abs(audio).max() > 0.01
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_killed_run_goes_on_and_ends_like_one_that_was_not(tmp_path):
    arguments = ["--hours", str(200 / 3600), "--seed", "1", "--seconds", "5"]
    running = subprocess.Popen([*PROGRAM, str(tmp_path / "a"), *arguments], start_new_session=True)
    deadline = time.monotonic() + 30
    while len(list((tmp_path / "a").rglob("*.flac"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert len(flacs(tmp_path / "a")) >= 3
    for path in (tmp_path / "a").rglob("*.flac"):
        if not path.name.startswith("."):
            assert soundfile.info(path).frames == 80_000
    assert call(tmp_path / "a", *arguments).returncode == 0
    assert call(tmp_path / "b", *arguments).returncode == 0
    assert flacs(tmp_path / "a") == flacs(tmp_path / "b")


def test_a_folder_with_another_corpus_is_refused_and_left_alone(tmp_path):
    assert call(tmp_path / "a", "--hours", 1 / 3600, "--seed", 1, "--seconds", 1).returncode == 0
    before = flacs(tmp_path / "a")
    done = call(tmp_path / "a", "--hours", 1 / 3600, "--seed", 2, "--seconds", 1)
    assert done.returncode == 2 and "other settings" in done.stderr and "Traceback" not in done.stderr
    assert flacs(tmp_path / "a") == before
    assert json.loads((tmp_path / "a" / "corpus.json").read_text())["seed"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--hours", "0", "--seed", "1"],
        ["--hours", "1"],
        ["--hours", "1", "--seed", "-1"],
        ["--hours", "nan", "--seed", "1"],
    ],
)
def test_wrong_use_makes_no_folder(tmp_path, arguments):
    done = call(tmp_path / "a", *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert not (tmp_path / "a").exists()


def test_speech_without_espeak_says_what_to_install_and_makes_no_folder(tmp_path):
    done = call(
        tmp_path / "a", "--hours", 1, "--seed", 1, "--kind", "speech", env={**os.environ, "PATH": str(tmp_path)}
    )
    assert done.returncode == 1 and "apt install espeak-ng" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "a").exists()
