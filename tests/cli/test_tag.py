"""`hear-models tag` says what is heard and when, at 80 columns, and never passes a guess off as knowledge."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import hear_models
from hear_models import gise51
from hear_models.checkpoints.safetensors_file import write_checkpoint
from hear_models.cli import tag
from hear_models.corpus.tagging import Tags, tag_file
from hear_models.zoo import load_model

RECORDINGS = Path(hear_models.__file__).parent / "_demo"


def write_tagger(path: Path, classes: tuple[str, ...], notes: dict | None = None, trained: bool = True) -> Path:
    """A tagger whose classes fire on loud sound alone: the first one always, the second one never."""
    model = gise51.Model(gise51.Config(architecture="nano", classes=classes), seed=3)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.linspace(3, -6, len(classes)))
    config = {"architecture": "nano", "classes": list(classes)}
    write_checkpoint(path, family="gise51", config=config, tensors=model.state_dict(), notes=notes, trained=trained)
    return path


@pytest.fixture
def tagger(tmp_path) -> Path:
    return write_tagger(tmp_path / "tagger.safetensors", ("Rain", "A name that is far too long for its column", "Dog"))


def test_the_table_fits_80_columns_and_shows_what_is_likely(run, tagger):
    code, out, err = run("tag", RECORDINGS / "rain.flac", RECORDINGS / "siren.flac", "--model", tagger)
    assert code == 0 and not err
    rows = [line for line in out.splitlines() if "_demo" not in line]
    assert max(map(len, rows)) <= 80
    shown = [line for line in out.splitlines() if line.startswith("  ") and "whole" not in line]
    assert [line.split()[0] for line in shown] == ["Rain", "A", "Rain", "A"]
    assert shown[0].split()[1:3] == ["0.95", "0.95"] and shown[0].count("█") == tag.LINE_WIDTH
    assert "rain.flac  1.50 s" in out and "guess" not in out


def test_the_options_choose_what_is_shown(run, tagger):
    def classes(*options):
        code, out, _ = run("tag", RECORDINGS / "rain.flac", "--model", tagger, "--json", *options)
        assert code == 0
        return [entry["class"] for entry in json.loads(out)["files"][0]["tags"]]

    assert len(classes("--threshold", "0")) == 3
    assert classes("--top", "1", "--threshold", "0") == ["Rain"]
    assert classes("--threshold", "0.9") == ["Rain"]
    assert classes("--threshold", "1") == []
    code, out, _ = run("tag", RECORDINGS / "rain.flac", "--model", tagger, "--threshold", "1")
    assert code == 0 and "nothing with a probability of 1 or more" in out


def test_json_has_the_whole_time_line(run, tagger):
    code, out, _ = run("tag", RECORDINGS / "siren.flac", "--model", tagger, "--json")
    report = json.loads(out)
    assert code == 0 and report["trained"] and report["learned_from"] == "data" and report["failed"] == []
    (entry,) = report["files"]
    assert entry["duration_s"] == pytest.approx(soundfile.info(RECORDINGS / "siren.flac").duration, abs=1e-3)
    first = entry["tags"][0]
    assert len(first["windows"]) == len(entry["times_s"]) >= tag.LINE_WIDTH - 1
    assert first["peak"] == max(first["windows"])
    assert entry["times_s"][first["windows"].index(first["peak"])] == first["peak_s"]


def test_an_untrained_network_says_so(run, tmp_path):
    path = write_tagger(tmp_path / "random.safetensors", ("Dog", "Cat"), trained=False)
    code, out, _ = run("tag", RECORDINGS / "rain.flac", "--model", path)
    assert code == 0 and "UNTRAINED" in out.splitlines()[0]
    _, out, _ = run("tag", RECORDINGS / "rain.flac", "--model", path, "--json")
    assert json.loads(out)["trained"] is False


def test_a_network_that_heard_only_procedural_sounds_says_so(run, tmp_path):
    notes = {"recipe": {"data": {"procedural_hours": 2.0}}}
    path = write_tagger(tmp_path / "made.safetensors", ("Dog", "Cat"), notes)
    code, out, _ = run("tag", RECORDINGS / "rain.flac", "--model", path)
    assert code == 0 and "procedural sounds" in out.split("\n\n")[0].replace("\n", " ")
    _, out, _ = run("tag", RECORDINGS / "rain.flac", "--model", path, "--json")
    assert json.loads(out)["learned_from"] == "procedural sounds"


def test_what_cannot_be_read_is_named_and_the_rest_is_tagged(run, tagger, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_text("no audio")
    code, out, err = run("tag", broken, RECORDINGS / "rain.flac", tmp_path / "missing.wav", "--model", tagger)
    assert code == 1 and "rain.flac" in out
    assert "broken.wav" in err and "missing.wav" in err
    code, _, err = run("tag", tmp_path / "missing.wav", "--model", tagger)
    assert code == 2 and err.startswith("error: ") and "missing.wav" in err


def test_a_model_without_classes_is_refused(run):
    code, _, err = run("tag", RECORDINGS / "rain.flac", "--model", "logmel-stats")
    assert code == 2 and "knows no classes" in err


def test_two_files_of_one_name_and_a_folder_are_each_tagged_once(run, tagger, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "x.wav", np.zeros(3000), 8000)
    arguments = [tmp_path / "a" / "x.wav", tmp_path / "b", tmp_path / "a", "--model", tagger, "--json"]
    code, out, _ = run("tag", *arguments)
    files = [entry["file"] for entry in json.loads(out)["files"]]
    assert code == 0 and files == [str(tmp_path / "a" / "x.wav"), str(tmp_path / "b" / "x.wav")]


def test_ctrl_c_is_one_line(run, tagger, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hear_models.corpus.tagging.tag_file", interrupted)
    code, _, err = run("tag", RECORDINGS / "rain.flac", "--model", tagger)
    assert code == 130 and err.strip() == "stopped"


def test_a_terminal_without_block_characters_gets_plain_ones(monkeypatch, capsys):
    tags = Tags("x.wav", 2.0, ("Dog",), np.float32([0.5]), np.float32([[0.2], [0.99]]), np.array([0.0, 2.0]))
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    tag._show(tags, 5, 0.1)
    stream.flush()
    text = stream.buffer.getvalue().decode("ascii")
    assert text.splitlines()[-1].endswith("@")


def test_the_time_line_shows_an_event_where_it_is():
    times = np.arange(0, 10.01, 0.25)
    heard = np.where((times > 6) & (times < 7), 0.9, 0.1).astype(np.float32)[:, None]
    tags = Tags("x.wav", 10.0, ("Dog",), np.float32([0.5]), heard, times)
    assert np.flatnonzero(tags.cells(0, 10) > 0.5).tolist() == [6]
    assert np.flatnonzero(tags.cells(0, 100) > 0.5).min() == pytest.approx(62, abs=2)  # parts between two windows
    assert np.flatnonzero(tags.cells(0, 100) > 0.5).max() == pytest.approx(68, abs=2)


def test_no_second_of_a_long_recording_is_passed_over(tagger, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.zeros(60 * 8000), 8000)
    tags = tag_file(tmp_path / "long.wav", load_model(tagger), parts=20)
    assert np.diff(tags.times_s).max() <= 0.5 and tags.times_s[0] == 0 and tags.times_s[-1] > 59


def test_pieces_of_a_long_recording_say_what_the_whole_says(tmp_path, monkeypatch):
    """Chunks of 10 s are what a scene is made of; windows of 1 s differ where pieces meet alone."""
    rng = np.random.default_rng(0)
    quiet, loud = rng.normal(0, 0.01, 45 * 22050), rng.normal(0, 0.2, 15 * 22050)
    soundfile.write(tmp_path / "long.flac", np.clip(np.concatenate([quiet, loud, quiet]), -1, 1), 22050)
    model = load_model("gise51-nano")
    seen = []
    whole = tag_file(tmp_path / "long.flac", model, parts=41, piece_s=None)
    parts = tag_file(
        tmp_path / "long.flac", model, parts=41, piece_s=20.0, progress=lambda *shares: seen.append(shares)
    )
    assert [round(done, 3) for done, _ in seen] == [20, 40, 60, 80, 100, 105] and {of for _, of in seen} == {105.0}
    assert parts.duration_s == whole.duration_s
    np.testing.assert_allclose(parts.probability, whole.probability, atol=0.02)
    assert np.diff(parts.times_s).max() <= 0.51 and (np.diff(parts.times_s) > 0).all()
    assert parts.windows[(parts.times_s > 46) & (parts.times_s < 59)].max(0).argmax() == whole.windows.max(0).argmax()
    monkeypatch.setattr("hear_models.corpus.options.LONG_S", 100.0)
    monkeypatch.setattr("hear_models.corpus.options.LONG_WINDOW_S", {"timestamps": 20.0})
    by_default = tag_file(tmp_path / "long.flac", model, parts=41)
    np.testing.assert_array_equal(by_default.windows, parts.windows)


def test_long_recordings_are_told_of_and_clock_times_shown(run, tagger, tmp_path, monkeypatch):
    monkeypatch.setattr("hear_models.corpus.options.LONG_S", 2.0)
    soundfile.write(tmp_path / "20240501_040000.WAV", np.full(3 * 8000, 0.1), 8000)
    code, out, err = run("tag", tmp_path / "20240501_040000.WAV", "--model", tagger, "--clock")
    assert code == 0 and "3.00 s  from 2024-05-01 04:00:00" in out
    assert err.strip().startswith("recordings longer than") and err.count("\n") == 1
    code, out, err = run("tag", tmp_path / "20240501_040000.WAV", "--model", tagger, "--window", "0", "--json")
    assert code == 0 and not err and "clock" not in json.loads(out)["files"][0]


def test_bad_recordings_are_left_out_where_that_is_asked_for(run, tagger, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(8000, 0.1), 8000)
    (tmp_path / "b.wav").write_text("words")
    code, _, err = run("tag", tmp_path, "--model", tagger)
    assert code == 1 and "error: 1 file of 2 could not be tagged" in err
    code, _, err = run("tag", tmp_path, "--model", tagger, "--skip-bad")
    assert code == 0 and "failed: " in err and "left out: 1 file of 2 could not be tagged" in err
    code, _, err = run("tag", tmp_path / "b.wav", "--model", tagger, "--skip-bad")
    assert code == 1, "nothing could be tagged"


def test_classes_that_exclude_each_other_share_one_probability(tmp_path):
    names = gise51.class_names("esc50")
    model = load_model(write_tagger(tmp_path / "esc.safetensors", names))
    assert model.exclusive
    tags = tag_file(RECORDINGS / "rain.flac", model, parts=4)
    assert tags.probability.sum() == pytest.approx(1, abs=1e-5)
    fifty = load_model(write_tagger(tmp_path / "other.safetensors", tuple(f"class {i}" for i in range(50))))
    assert not fifty.exclusive
