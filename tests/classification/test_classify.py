"""From a folder of labelled recordings to a classifier and its answers, as a user does it."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from hear_models.classification.fitting import PROBES
from hear_models.classification.mlp import fit_mlp
from hear_models.classification.probe import check_groups, figures, fit_probe, held_out_chances, targets_of
from hear_models.classification.recordings import read_labelled
from hear_models.classification.store import Classifier, load_classifier, save_classifier
from hear_models.cli.classify import command
from hear_models.errors import FileError, UsageError
from hear_models.evaluation.runs.settings import Request

pytest.importorskip("sklearn")
RATE = 16_000
PITCHES = {"high": 2_500.0, "low": 300.0, "noise": 0.0}


def sound(kind: str, seed: int, seconds: float = 0.6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(int(RATE * seconds)) / RATE
    noise = rng.normal(0, 0.02 if PITCHES[kind] else 0.2, len(t))
    return 0.3 * np.sin(2 * np.pi * PITCHES[kind] * rng.uniform(0.95, 1.05) * t) + noise


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """CLASS/GROUP/n.wav: three classes, each recorded by three recorders."""
    folder = tmp_path_factory.mktemp("recordings")
    for number, kind in enumerate(PITCHES):
        for group in ("north", "south", "west"):
            (folder / kind / group).mkdir(parents=True)
            for index in range(2):
                samples = sound(kind, 100 * number + 10 * len(group) + index)
                soundfile.write(folder / kind / group / f"{index}.wav", samples, RATE)
    return folder


def run(*arguments: object):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_folder_of_classes_becomes_a_classifier_that_hears_them(recordings, tmp_path):
    file = tmp_path / "birds.classifier"
    done = run("fit", recordings, "-o", file)
    assert done.exit_code == 0, done.output
    assert "18 recordings in 3 groups, 3 classes; mwmae-nano" in done.output
    assert max(map(len, done.output.splitlines()[:-1])) <= 80
    found = load_classifier(file)
    assert found.probe.classes == ("high", "low", "noise") and not found.probe.multilabel
    assert found.figures["score"] == 1.0 and found.figures["floor"] == pytest.approx(1 / 3)
    assert found.figures["logmel"] is not None and found.figures["folds"] == 3
    assert found.figures["confusion"] == [[6, 0, 0], [0, 6, 0], [0, 0, 6]]
    assert len(found.settings["checkpoint_sha256"]) == 64

    for index, kind in enumerate(PITCHES):
        soundfile.write(tmp_path / f"new {kind}.wav", sound(kind, 900 + index), RATE)
    told = run("predict", file, *sorted(tmp_path.glob("new *.wav")))
    assert told.exit_code == 0, told.output
    answers = rows_of(told.output)
    assert [row["label"] for row in answers] == ["high", "low", "noise"]
    assert all(abs(sum(float(row[name]) for name in PITCHES) - 1) < 1e-3 for row in answers)
    again = json.loads(run("report", file, "--json").output)
    assert again["score"] == 1.0 and again["model"] == "mwmae-nano"


def test_windows_give_a_time_line(recordings, tmp_path):
    file = tmp_path / "a.classifier"
    assert run("fit", recordings, "-o", file, "--no-baseline").exit_code == 0
    soundfile.write(tmp_path / "long.wav", np.concatenate([sound("low", 1, 2.0), sound("noise", 2, 2.0)]), RATE)
    done = run("predict", file, tmp_path / "long.wav", "--window", 1.0, "-o", tmp_path / "line.csv")
    assert done.exit_code == 0, done.output
    line = rows_of((tmp_path / "line.csv").read_text())
    assert [(row["start_ms"], row["end_ms"]) for row in line] == [
        (f"{1000.0 * i}", f"{1000.0 * (i + 1)}") for i in range(4)
    ]
    assert [row["label"] for row in line] == ["low", "low", "noise", "noise"]


def test_a_table_may_have_several_labels(recordings, tmp_path):
    both = tmp_path / "both"
    both.mkdir()
    lines = ["path,label,group"]
    for index in range(6):
        soundfile.write(both / f"{index}.wav", sound("low", index) + sound("high", index), RATE)
        lines.append(f"both/{index}.wav,low;high,g{index}")
        soundfile.write(both / f"{index}l.wav", sound("low", 50 + index), RATE)
        lines.append(f"both/{index}l.wav,low,g{index}")
        soundfile.write(both / f"{index}n.wav", sound("noise", 50 + index), RATE)
        lines.append(f"both/{index}n.wav,,g{index}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    file = tmp_path / "m.classifier"
    done = run("fit", tmp_path / "labels.csv", "-o", file, "--no-baseline")
    assert done.exit_code == 0, done.output
    found = load_classifier(file)
    assert found.probe.multilabel and found.figures["metric"] == "mAP" and found.figures["score"] > 0.9
    answers = rows_of(run("predict", file, both / "0.wav", both / "0l.wav", both / "0n.wav").output)
    assert [row["label"] for row in answers] == ["high;low", "low", ""]
    assert isinstance(run("report", file, "--plot", tmp_path / "c.png").exception, UsageError)


def test_the_confusion_matrix_is_a_picture(recordings, tmp_path):
    pytest.importorskip("matplotlib")
    done = run("fit", recordings, "-o", tmp_path / "a.classifier", "--no-baseline", "--plot", tmp_path / "c.png")
    assert done.exit_code == 0 and (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_groups_are_never_in_training_and_test_at_once():
    """Embeddings that tell the group and nothing else: with leakage they would be perfect, without they are chance."""
    rng = np.random.default_rng(0)
    groups = [f"g{index // 4}" for index in range(80)]
    x = np.repeat(rng.normal(size=(20, 30)), 4, axis=0)
    targets = targets_of([("a",) if index // 4 % 2 else ("b",) for index in range(80)], ("a", "b"))
    folds = check_groups(targets, groups, ("a", "b"))
    chances = held_out_chances(x, targets, groups, ("a", "b"), False, folds)
    said = figures(chances, targets, groups, ("a", "b"), False, folds)
    assert folds == 5 and said.score < 0.75 and said.low < 0.5 < said.high
    probe = fit_probe(x, targets, groups, ("a", "b"), False)
    assert (probe.chances(x).argmax(1) == targets.argmax(1)).mean() > 0.9  # it can learn them by heart


def test_chances_are_those_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 5))
    for n in (2, 4):
        classes = tuple("abcd"[:n])
        y = rng.integers(0, n, 60)
        probe = fit_probe(x, np.eye(n, dtype=int)[y], [str(i) for i in range(60)], classes, False)
        scaled = (x - x.mean(0)) / x.std(0)
        theirs = [LogisticRegression(C=c, max_iter=1000).fit(scaled, y) for c in (1e-3, 1e-2, 1e-1, 1.0, 10.0)]
        assert min(np.abs(probe.chances(x) - fit.predict_proba(scaled)).max() for fit in theirs) < 1e-5


def test_another_model_than_the_fitted_one_is_refused(recordings, tmp_path):
    file = tmp_path / "a.classifier"
    assert run("fit", recordings, "-o", file, "--no-baseline").exit_code == 0
    done = run("predict", file, recordings, "--model", "mae-nano")
    assert isinstance(done.exception, UsageError) and "fitted on embeddings with model" in str(done.exception)


def test_a_file_that_was_altered_is_refused(recordings, tmp_path):
    file = tmp_path / "a.classifier"
    assert run("fit", recordings, "-o", file, "--no-baseline").exit_code == 0
    data = bytearray(file.read_bytes())
    data[-5] ^= 64
    (tmp_path / "bad.classifier").write_bytes(data)
    (tmp_path / "rubbish.classifier").write_bytes(b"no classifier" * 10)
    (tmp_path / "short.classifier").write_bytes(bytes(data[: len(data) // 2]))
    for name in ("bad", "rubbish", "short", "absent"):
        with pytest.raises(FileError):
            load_classifier(tmp_path / f"{name}.classifier")


@pytest.mark.parametrize(("old", "new"), [(b"mwmae", b"mwmaf"), (b"false", b"true "), (b"groups", b"gruups")])
def test_what_a_classifier_says_of_itself_is_as_it_was_written(old, new, tmp_path):
    x, targets = rings(40, 0)
    probe = fit_probe(x, targets, [str(i // 4) for i in range(40)], ("in", "out"), False)
    save_classifier(tmp_path / "a", Classifier(probe, {"model": "mwmae"}, {"groups": 3}))
    data = (tmp_path / "a").read_bytes()
    assert data.count(old) == 1
    (tmp_path / "a").write_bytes(data.replace(old, new))
    with pytest.raises(FileError, match="does not match its digest"):
        load_classifier(tmp_path / "a")


def test_a_classifier_without_figures_is_one_sentence(tmp_path):
    x, targets = rings(40, 0)
    probe = fit_probe(x, targets, [str(i // 4) for i in range(40)], ("in", "out"), False)
    save_classifier(tmp_path / "a", Classifier(probe, {"model": "mwmae"}, {}))
    done = run("report", tmp_path / "a")
    assert isinstance(done.exception, FileError) and "is no classifier" in str(done.exception)


def test_recordings_that_cannot_be_read_are_named(recordings, tmp_path):
    import shutil

    folder = shutil.copytree(recordings, tmp_path / "copy")
    (folder / "low" / "north" / "bad.wav").write_bytes(b"this is no sound")
    file = tmp_path / "a.classifier"
    done = run("fit", folder, "-o", file, "--no-baseline")
    assert done.exit_code == 1 and "bad.wav" in done.output and not file.exists()
    done = run("fit", folder, "-o", file, "--no-baseline", "--skip-bad")
    assert done.exit_code == 0 and load_classifier(file).figures["recordings"] == 18


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda f: (f / "a").mkdir(), "Every folder in .* stands for a class"),
        (lambda f: None, "no folders of recordings"),
        (lambda f: (f / "t.csv").write_text("path,label\nx.wav,a\n"), "no such recordings"),
        (lambda f: (f / "t.csv").write_text("path,label,start_ms,end_ms\nx.wav,a,0,1\n"), "times of events"),
    ],
)
def test_what_is_no_set_of_classes_is_told(tmp_path, make, sentence):
    make(tmp_path)
    table = tmp_path / "t.csv"
    with pytest.raises(UsageError, match=sentence):
        read_labelled(table if table.exists() else tmp_path)


def test_a_class_of_one_group_cannot_be_tested(recordings, tmp_path):
    lines = ["path,label,group"]
    for file in sorted(recordings.rglob("*.wav")):
        kind = file.relative_to(recordings).parts[0]
        lines.append(f"{file},{kind},{'only' if kind == 'low' else file.parent.name}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    done = run("fit", tmp_path / "t.csv", "-o", tmp_path / "a.classifier")
    assert isinstance(done.exception, UsageError) and "'low' has recordings of one group only" in str(done.exception)
    assert isinstance(run("fit", recordings, "-o", tmp_path / "no" / "a").exception, UsageError)


def test_scikit_learn_is_missed_before_anything_is_embedded_and_not_to_predict(recordings, tmp_path, monkeypatch):
    file = tmp_path / "a.classifier"
    assert run("fit", recordings, "-o", file, "--no-baseline").exit_code == 0
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = run("fit", recordings, "-o", file)
    assert isinstance(done.exception, UsageError) and "pip install 'hear-models[eval]'" in str(done.exception)
    with pytest.raises(UsageError, match="scikit-learn"):
        Request(models=("logmel-stats",), tasks_dir=tmp_path, judge="probe-linear").check()
    assert not (tmp_path / "cache").exists()
    assert run("predict", file, recordings / "low").exit_code == 0


def rings(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two classes, one around the other: no plane parts them."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = rng.normal(size=(n, 2))
    x *= (1 + 5 * y[:, None]) / np.linalg.norm(x, axis=1, keepdims=True)
    return x.astype(np.float32), np.eye(2, dtype=np.int64)[y]


def test_the_papers_probe_learns_what_a_linear_one_cannot_and_is_kept_as_it_is(tmp_path):
    x, targets = rings(160, 0)
    groups = [str(i // 4) for i in range(160)]
    probe = fit_mlp(x, targets, groups, ("in", "out"), False)
    new, said = rings(60, 1)
    assert (probe.chances(new).argmax(1) == said.argmax(1)).mean() > 0.9
    plane = fit_probe(x, targets, groups, ("in", "out"), False)
    assert (plane.chances(new).argmax(1) == said.argmax(1)).mean() < 0.75
    np.testing.assert_array_equal(fit_mlp(x, targets, groups, ("in", "out"), False).coef, probe.coef)
    save_classifier(tmp_path / "a", Classifier(probe, {"model": "a"}, {}))
    np.testing.assert_array_equal(load_classifier(tmp_path / "a").probe.chances(new), probe.chances(new))
    data = bytearray((tmp_path / "a").read_bytes())
    data[len(data) // 2] ^= 1  # in the hidden layer
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(FileError, match="digest"):
        load_classifier(tmp_path / "a")


def test_chances_of_the_papers_probe_are_those_of_its_network(monkeypatch):
    import torch

    from hear_models.classification import mlp
    from hear_models.evaluation.judges.network import activation

    x, targets = rings(60, 2)
    kept = []
    whole = mlp._as_probe
    monkeypatch.setattr(mlp, "_as_probe", lambda trained, *rest: kept.append(trained) or whole(trained, *rest))
    for multilabel in (False, True):
        probe = mlp.fit_mlp(x, targets, [str(i) for i in range(60)], ("in", "out"), multilabel)
        logits = kept[-1].logits(torch.from_numpy(x))
        np.testing.assert_allclose(probe.chances(x), activation(logits, multilabel).numpy(), atol=1e-5)


def test_the_papers_probe_on_the_command_line(recordings, tmp_path):
    file = tmp_path / "a.classifier"
    done = run("fit", recordings, "-o", file, "--no-baseline", "--probe", "mlp")
    assert done.exit_code == 0, done.output
    assert "mwmae-nano, probe mlp" in done.output and "probe mlp" in run("report", file).output
    rows = rows_of(run("predict", file, recordings / "low").output)
    assert {row["label"] for row in rows} == {"low"}


@pytest.mark.parametrize("probe", ["linear", "mlp"])
@pytest.mark.parametrize("several", [False, True])
def test_two_recordings_a_class_are_few_and_no_crash(probe, several):
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    targets = np.eye(2, dtype=np.int64)[[0, 0, 1, 1]]
    groups = list("abcd")
    folds = check_groups(targets, groups, ("a", "b"))
    chances = held_out_chances(x, targets, groups, ("a", "b"), several, folds, PROBES[probe])
    assert chances.shape == (4, 2) and np.isfinite(chances).all()
