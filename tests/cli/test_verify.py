"""`hear-models verify` and `eval-trials` as a user calls them: figures, files, and wrong use told before any work."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hear_models.speaker.metrics import equal_error_rate
from hear_models.speaker.trials import read_trials

DEMO = Path(__file__).parents[2] / "hear_models" / "_demo"
TRIALS = """1 speech_man_1.flac speech_man_2.flac
0 speech_man_1.flac speech_woman.flac
1 flute_1.flac flute_2.flac
0 flute_1.flac guitar_1.flac
1 guitar_1.flac guitar_2.flac
0 speech_man_2.flac guitar_2.flac
"""
MODEL = ("--model", "logmel-stats")


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEAR_MODELS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "trials.txt").write_text(TRIALS)
    (tmp_path / "unlabelled.txt").write_text("\n".join(line[2:] for line in TRIALS.splitlines()))
    return tmp_path


def test_two_recordings_are_compared(run, desk):
    pair = (DEMO / "speech_man_1.flac", DEMO / "speech_man_2.flac", *MODEL)
    code, out, err = run("verify", *pair)
    assert code == 0 and out.endswith("logmel-stats, cosine of scene embeddings\n") and "eval-trials" in err
    code, out, _ = run("verify", *pair, "--json", "--threshold", "-1")
    found = json.loads(out)
    assert code == 0 and found["same"] is True and found["trained"] is True
    assert run("verify", *pair, "--threshold", "1.5")[1].endswith("different speakers\n")
    code, out, _ = run("verify", pair[0], pair[0], *MODEL, "--json")
    assert json.loads(out)["score"] == pytest.approx(1.0, abs=1e-6)


def test_trials_give_figures_scores_and_a_cache(run, desk):
    code, out, err = run("eval-trials", "trials.txt", "--audio", DEMO, *MODEL, "--scores", "scores.txt", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["trials"], found["same"], found["recordings"], found["scoring"]) == (
        6,
        3,
        7,
        "cosine of whole recordings",
    )
    rows = [line.split() for line in (desk / "scores.txt").read_text().splitlines()]
    assert [row[1:] for row in rows] == [line.split() for line in TRIALS.splitlines()]
    rate, threshold = equal_error_rate(np.array([float(row[0]) for row in rows]), [int(row[1]) for row in rows])
    eer = found["figures"][0]
    assert eer["name"] == "EER" and eer["value"] == rate and eer["threshold"] == pytest.approx(threshold)
    assert eer["interval"][0] <= rate <= eer["interval"][1]
    assert len(list((desk / "cache" / "voices").rglob("*.flac.npz"))) == 7
    code, out, _ = run("eval-trials", "trials.txt", "--audio", DEMO, *MODEL, "--bootstrap", "0", "--p-target", "0.1")
    assert (
        code == 0 and out.splitlines()[0] == "logmel-stats on trials.txt: 6 trials, 3 of the same speaker, 7 recordings"
    )
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["EER", "minDCF"] and "minDCF 0.1" in out


def test_crops_and_normalisation(run, desk):
    crops = ("--ten-crop", "--crop-frames", "50", "--bootstrap", "0", "--json")
    code, out, err = run("eval-trials", "trials.txt", "--audio", DEMO, *MODEL, *crops)
    assert code == 0 and json.loads(out)["scoring"] == "mean_cosine of ten crops of 50 frames", err
    for kind in ("a", "b", "c"):
        (desk / "others" / kind).mkdir(parents=True)
        (desk / "others" / kind / "1.flac").write_bytes(
            (DEMO / {"a": "rain", "b": "siren", "c": "drums"}[kind]).with_suffix(".flac").read_bytes()
        )
    normalised = ("--norm", "asnorm", "--top", "2", "--cohort", "others", "--bootstrap", "0", "--json")
    code, out, err = run("eval-trials", "trials.txt", "--audio", DEMO, *MODEL, *normalised)
    assert code == 0 and json.loads(out)["normalisation"] == "asnorm", err


def test_error_rates_with_bins_and_frames_dropped(run, desk):
    code, out, err = run(
        "eval-trials", "trials.txt", "--audio", DEMO, *MODEL, "--bootstrap", "0", "--drop", "0", "--drop", "0.5"
    )
    lines = out.splitlines()
    assert code == 0 and [line.split()[2] for line in lines[-3:]] == ["bins", "frames", "both"], err
    own = lines[2].split()[1]
    assert all(f"0: {own} %" in line for line in lines[-3:])
    assert run("eval-trials", "trials.txt", "--audio", DEMO, *MODEL, "--drop-plot", "a.png")[0] == 2
    code, _, err = run("eval-trials", "unlabelled.txt", "--audio", DEMO, *MODEL, "--drop", "0.1", "--scores", "s.txt")
    assert code == 2 and "no EER for --drop" in err


def test_a_list_without_labels_gives_scores_only(run, desk):
    code, _, err = run("eval-trials", "unlabelled.txt", "--audio", DEMO, *MODEL)
    assert code == 2 and "--scores FILE" in err
    code, out, _ = run("eval-trials", "unlabelled.txt", "--audio", DEMO, *MODEL, "--scores", "scores.txt")
    assert code == 0 and out == "6 scores -> scores.txt\n"
    assert (desk / "scores.txt").read_text().splitlines()[0].split()[1] == "-"
    assert read_trials("unlabelled.txt")[0].label is None


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("1 a.flac b.flac c.flac\n", 2, "trials.txt, line 1: 4 columns"),
        ("1 rain.flac drums.flac\n", 2, "all trials are of one kind"),
        ("1 ../rain.flac drums.flac\n0 rain.flac drums.flac\n", 2, "leaves the folder"),
        ("1 rain.flac snow.flac\n0 rain.flac drums.flac\n", 1, "1 of 3 recordings"),
    ],
)
def test_a_bad_list_is_told(run, desk, text, code, said):
    (desk / "trials.txt").write_text(text)
    found, _, err = run("eval-trials", "trials.txt", "--audio", DEMO, *MODEL)
    assert found == code and said in err and "Traceback" not in err
    assert not (desk / "cache").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--audio", "nowhere"), "there is no folder"),
        (("--audio", DEMO, "--norm", "snorm"), "belong together"),
        (("--audio", DEMO, "--norm", "snorm", "--cohort", DEMO, "--ten-crop"), "for whole recordings"),
        (("--audio", DEMO, "--model", "ftcbam-nano-2"), "neither a model's name"),
        (("--audio", DEMO, "--model", "ftcbam-resnet34-ft"), "random weights"),
        (("--audio", DEMO, "--p-target", "2", *MODEL), "is not in the range 0<x<1"),
        (("--audio", DEMO, "--bootstrap", "5", "--level", "1", *MODEL), "is not in the range 0<x<1"),
    ],
)
def test_wrong_use_is_told(run, desk, arguments, said):
    code, _, err = run("eval-trials", "trials.txt", *arguments)
    assert code == 2 and said in err and "Traceback" not in err


def test_a_recording_that_is_not_there_is_told(run, desk):
    code, _, err = run("verify", DEMO / "rain.flac", "snow.flac", *MODEL)
    assert code == 1 and "snow.flac does not exist" in err
