"""`hear-models changes` finds where made-up recordings change, under noise too, and nothing where they do not."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from hear_models.analysis.novelty import novelty, peaks
from hear_models.cli.changes import command
from hear_models.errors import UsageError

RATE = 8000
SECTIONS = (("quiet", 100), ("hum", 80), ("rain", 90), ("quiet", 110), ("crickets", 100))
CHANGES_S = (100, 180, 270, 380)


def section(kind: str, seconds: int, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(seconds * RATE) / RATE
    ground = np.convolve(rng.standard_normal(len(t)), np.ones(8) / 8, "same")
    if kind == "hum":
        ground += 0.3 * sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 6))
    elif kind == "rain":
        ground += 0.4 * rng.standard_normal(len(t))
    elif kind == "crickets":
        ground += 0.4 * np.sin(2 * np.pi * 3000 * t) * (np.sin(2 * np.pi * 5 * t) > 0)
    return ground


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plain.wav and noisy.wav change at `CHANGES_S`, same.wav does not, short.wav is of 3 s."""
    folder, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    x = np.concatenate([section(kind, seconds, rng) for kind, seconds in SECTIONS])
    for name, samples in (
        ("plain.wav", x),
        ("noisy.wav", x + rng.standard_normal(len(x))),
        ("same.wav", section("crickets", 480, rng) + rng.standard_normal(480 * RATE)),
        ("short.wav", x[: 3 * RATE]),
        ("silence.wav", np.zeros(60 * RATE)),
    ):
        soundfile.write(folder / name, np.clip(0.05 * samples, -1, 1), RATE, "PCM_16")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAR_MODELS_CACHE", str(tmp_path_factory.getbasetemp() / "cache-of-changes"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("name", ["plain.wav", "noisy.wav"])
def test_changes_are_found_where_they_are(recordings: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    done = run(recordings / name, "-o", tmp_path / "t.csv", "--plot", tmp_path / "p.png", "--scale", 40)
    assert done.exit_code == 0, done.output
    rows = table((tmp_path / "t.csv").read_text())
    starts = [float(row["start_ms"]) / 1000 for row in rows]
    assert len(starts) == 5 and starts[0] == 0
    np.testing.assert_allclose(starts[1:], CHANGES_S, atol=6)
    assert [row["end_ms"] for row in rows] == [*(row["start_ms"] for row in rows[1:]), "480000.0"]
    assert rows[0]["strength"] == "" and min(float(row["strength"]) for row in rows[1:]) >= 2
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert len(done.stdout.splitlines()) == 7


@pytest.mark.parametrize("name", ["same.wav", "short.wav", "silence.wav"])
@pytest.mark.parametrize("scale", [20, 60])
def test_what_does_not_change_is_one_stretch(recordings: Path, name: str, scale: int) -> None:
    done = run(recordings / name, "--scale", scale, "--json")
    assert done.exit_code == 0, done.output
    [row] = json.loads(done.stdout)
    assert (row["path"], row["start_ms"], row["strength"]) == (name, 0.0, None) and row["end_ms"] > 0


def test_several_recordings_share_a_table_and_bad_ones_are_told(recordings: Path, tmp_path: Path) -> None:
    for name in ("20240501_040000.WAV", "b.wav"):
        (tmp_path / name).symlink_to(recordings / "short.wav")
    (tmp_path / "bad.wav").write_text("words")
    done = run(tmp_path, "--clock", "--json", "--plot", tmp_path / "p.svg")
    assert done.exit_code == 1 and "bad.wav" in done.stderr and "1 of 2 names tell no time" in done.stderr
    assert [(row["path"], row["clock"]) for row in json.loads(done.stdout)] == [
        ("20240501_040000.WAV", "2024-05-01T04:00:00.000"),
        ("b.wav", ""),
    ]
    assert run(tmp_path, "--skip-bad").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scale", "3"], "less than two windows"),
        (["--window", "100"], "less than two windows"),
        (["--plot", "a.txt"], "is no picture's name"),
        (["-o", "there/is/none.csv"], "cannot be written"),
        (["-m", "no-such-model"], "no-such-model"),
    ],
)
def test_wrong_use_is_told(recordings: Path, arguments: list[str], said: str) -> None:
    done = run(recordings / "short.wav", *arguments)
    assert isinstance(done.exception, UsageError) and said in str(done.exception)


def test_novelty_is_that_of_the_checkerboard() -> None:
    """Foote's kernel on the matrix of inner products, for embeddings whose noise is white already."""
    rng = np.random.default_rng(0)
    n, width = 60, 8
    x = rng.standard_normal((n, 4))
    x[30:] += 3
    found = novelty(x, width)
    reach = np.arange(width) + 0.5
    taper = np.exp(-0.5 * (reach / (0.5 * width)) ** 2)
    side = np.concatenate([-taper[::-1], taper])
    kernel = np.outer(side, side)
    similarity = (x - x.mean(0)) @ (x - x.mean(0)).T
    board = np.array([(kernel * similarity[i - width : i + width, i - width : i + width]).sum() for i in range(8, 52)])
    assert found[8:52].argmax() == board.argmax() == 22
    assert np.corrcoef(found[8:52], board)[0, 1] > 0.99


def test_chance_alone_gives_one() -> None:
    found = novelty(np.random.default_rng(1).standard_normal((4000, 64)).astype(np.float32), 20)
    assert found[100:-100].mean() == pytest.approx(1, abs=0.1)
    assert peaks(found, 20, 2.0) == []


def test_wide_embeddings_and_equal_ones_pass() -> None:
    wide = np.random.default_rng(2).standard_normal((50, 700)).astype(np.float32)
    wide[25:] += 1
    assert novelty(wide, 8).argmax() == 25
    assert not novelty(np.ones((20, 3)), 4).any() and len(novelty(np.ones((1, 3)), 4)) == 1
    step = np.zeros((40, 3))
    step[20:] = 1
    assert [peak.index for peak in peaks(novelty(step, 5), 5, 2.0)] == [20]
