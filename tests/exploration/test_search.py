"""What sounds like a recording: found, kept between runs, told in words where it cannot be."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from hear_models.cli.search import command
from hear_models.errors import AudioFileError, FileError, UsageError
from hear_models.exploration import collection as collections
from hear_models.exploration.collection import Collection, collect, read_index
from hear_models.exploration.search import nearest
from hear_models.rereading.check import check
from hear_models.zoo import load_model

RATE = 16_000


def tone(hertz: float, seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    t = np.arange(int(RATE * seconds)) / RATE
    return 0.3 * np.sin(2 * np.pi * hertz * t) + np.random.default_rng(seed).normal(0, 0.01, len(t))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """`in/`: low and high tones, and a long recording that is high from 2 to 3 s; `query.wav` is high."""
    monkeypatch.setenv("HEAR_MODELS_CACHE", str(tmp_path / "cache"))
    inside = tmp_path / "in"
    (inside / "sub").mkdir(parents=True)
    for index in range(3):
        soundfile.write(inside / f"low{index}.wav", tone(300 + index, seed=index), RATE)
    soundfile.write(inside / "sub" / "high.wav", tone(3_000, seed=9), RATE)
    long = np.concatenate([tone(300, 2), tone(3_000, 1, seed=3), tone(300, 2)])
    soundfile.write(inside / "long.wav", long, RATE)
    soundfile.write(tmp_path / "query.wav", tone(3_000, seed=5), RATE)
    return tmp_path


def run(*arguments: object):
    return CliRunner().invoke(command, [str(a) for a in (*arguments, "-m", "logmel-stats")])


def test_the_likest_come_first_and_the_query_is_no_hit(folder):
    done = run(folder / "query.wav", folder / "in" / "low0.wav", "--in", folder / "in", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.output)
    first = {Path(row["query"]).name: Path(row["path"]).name for row in rows if row["rank"] == 1}
    assert first == {"query.wav": "high.wav", "low0.wav": "low1.wav"} or first["low0.wav"] == "low2.wav"
    of_low = [Path(row["path"]).name for row in rows if Path(row["query"]).name == "low0.wav"]
    assert "low0.wav" not in of_low and len(of_low) == 4
    assert [row["similarity"] for row in rows[:5]] == sorted((row["similarity"] for row in rows[:5]), reverse=True)


def test_times_inside_long_recordings(folder):
    done = run(folder / "query.wav", "--in", folder / "in", "--window", 1, "--top", 2, "-o", folder / "hits.csv")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO((folder / "hits.csv").read_text())))
    places = {(Path(row["path"]).name, float(row["start_ms"]), float(row["end_ms"])) for row in rows}
    assert places == {("high.wav", 0, 1_000), ("long.wav", 2_000, 3_000)}
    assert "0:02.0 to 0:03.0" in done.output and max(map(len, done.output.splitlines()[1:3])) <= 80
    part = run(folder / "in" / "long.wav", "--part", 2, 3, "--in", folder / "in", "--window", 1, "--once", "--json")
    names = [Path(row["path"]).name for row in json.loads(part.output)]
    assert names[0] == "high.wav" and len(names) == len(set(names)) == 5  # its own other windows may be hits


def test_long_recordings_have_windows_unless_it_is_said_how(folder, monkeypatch):
    monkeypatch.setattr("hear_models.corpus.options.LONG_S", 3.0)
    monkeypatch.setattr("hear_models.corpus.options.LONG_WINDOW_S", {"scene": 1.0})
    done = run(folder / "query.wav", "--in", folder / "in")
    assert done.exit_code == 0 and "0:02.0 to 0:03.0" in done.output, done.output
    (line,) = [line for line in done.output.splitlines() if line.endswith("high.wav")]
    assert " to " not in line  # a short one is compared as a whole
    assert " to " not in "".join(run(folder / "query.wav", "--in", folder / "in", "--window", 0).output.split("\n")[1:])


def test_only_what_is_new_is_embedded(folder, monkeypatch):
    model, embedded = load_model("logmel-stats"), []
    scenes_of = collections.scenes_of

    def watched(files, *arguments, **options):
        embedded.append(sorted(file.name for file in files))
        return scenes_of(files, *arguments, **options)

    monkeypatch.setattr(collections, "scenes_of", watched)
    whole, _ = collect([folder / "in"], model)
    again, _ = collect([folder / "in"], model)
    assert len(embedded) == 1
    np.testing.assert_array_equal(whole.vectors, again.vectors)
    soundfile.write(folder / "in" / "low1.wav", tone(2_900, 2, seed=1), RATE)
    soundfile.write(folder / "in" / "new.wav", tone(500), RATE)
    (folder / "in" / "low2.wav").unlink()
    changed, _ = collect([folder / "in"], model)
    assert embedded[1] == ["low1.wav", "new.wav"]
    assert sorted(changed.names) == ["long.wav", "low0.wav", "low1.wav", "new.wav", "sub/high.wav"]
    fresh, _ = collect([folder / "in"], model, root=folder / "elsewhere")
    order = [changed.names.index(name) for name in fresh.names]
    np.testing.assert_array_equal(changed.vectors[order], fresh.vectors)


def test_a_damaged_index_is_made_again(folder):
    model = load_model("logmel-stats")
    whole, _ = collect([folder / "in"], model, window_s=1)
    (file,) = (folder / "cache").rglob("*.index")
    assert {one.kind for one in check([folder / "cache"])} == {"embeddings", "index of embeddings"}
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert [one.path for one in check([folder / "cache"]) if one.problem] == [file]
    for content in (bytes(data), data[: len(data) // 2], b"", b"something else"):
        file.write_bytes(content)
        with pytest.raises(FileError):
            read_index(file)
        again, _ = collect([folder / "in"], model, window_s=1)
        np.testing.assert_array_equal(whole.vectors, again.vectors)
        np.testing.assert_array_equal(whole.parts_ms, again.parts_ms)
        read_index(file)


def test_the_order_is_that_of_all_cosines(monkeypatch):
    monkeypatch.setattr("hear_models.exploration.search.ROWS_AT_ONCE", 700)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4_000, 3)).astype(np.float32)
    vectors[5] = 0  # silence of some models
    n = len(vectors)
    files = tuple(Path(f"{i // 2}.wav") for i in range(0, n, 2))
    parts = np.stack([np.arange(n) % 2 * 1000.0, np.arange(n) % 2 * 1000.0 + 500], 1)
    many = Collection(files, tuple(map(str, files)), vectors, np.arange(n) // 2, parts)
    query = np.array([1.0, 2.0, 3.0], np.float32)
    cosines = vectors @ query / np.maximum(np.linalg.norm(vectors, axis=1), 1e-12) / np.linalg.norm(query)
    found = [hit.similarity for hit in nearest(many, query, 500)]
    np.testing.assert_allclose(found, np.sort(cosines)[::-1][:500], atol=1e-6)
    once = nearest(many, query, 500, once=True)
    assert len({hit.file for hit in once}) == len(once) == 500
    assert len(nearest(many, query, 10**6)) == n


def test_what_cannot_be_read_is_named_and_the_rest_is_searched(folder):
    (folder / "in" / "bad.wav").write_bytes(b"no sound")
    done = run(folder / "query.wav", "--in", folder / "in")
    assert done.exit_code == 1 and "bad.wav" in done.output and "high.wav" in done.output
    assert run(folder / "query.wav", "--in", folder / "in", "--skip-bad").exit_code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_names_of_any_bytes(folder):
    os.rename(folder / "in" / "low0.wav", os.fsencode(folder / "in") + b"/\xff\nlow.wav")
    done = run(folder / "query.wav", "--in", folder / "in", "-o", folder / "hits.csv")
    assert done.exit_code == 0, done.output
    assert "\\xff\\nlow.wav" in done.output
    assert len(list(csv.DictReader(io.StringIO((folder / "hits.csv").read_text())))) == 5


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        (("{}/absent.wav", "--in", "{}/in"), AudioFileError, "absent.wav"),
        (("{}/query.wav", "--in", "{}/absent"), UsageError, "does not exist"),
        (("{}/query.wav", "--in", "{}/empty"), UsageError, "No recordings in"),
        (("{}/in", "--in", "{}/in"), UsageError, "is a folder"),
        (("{}/query.wav", "--in", "{}/in", "--window", "1e9"), UsageError, "A window of"),
        (("{}/query.wav", "--in", "{}/in", "--part", "3", "2"), UsageError, "is no part"),
        (("{}/query.wav", "--in", "{}/in", "--part", "7", "8"), AudioFileError, "ends before 7"),
        (("{}/query.wav", "--in", "{}/in", "-o", "{}/no/x.csv"), UsageError, "cannot be written"),
    ],
)
def test_wrong_use_is_one_sentence_before_anything_is_embedded(folder, arguments, kind, sentence):
    (folder / "empty").mkdir()
    done = run(*(text.format(folder) for text in arguments))
    assert isinstance(done.exception, kind) and sentence in str(done.exception), done.output
    assert not (folder / "cache").exists()
