"""Records: strict JSON in, strict JSON out, and nothing that a stranger wrote gets past the reader."""

from __future__ import annotations

import json
import math
import re
import zipfile
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_models.errors import HearModelsError
from hear_models.evaluation.judges.outcome import Fold, Predictions
from hear_models.evaluation.runs.jobs import inputs_of, record_file
from hear_models.evaluation.runs.predictions import read_predictions, write_predictions
from hear_models.evaluation.runs.record import (
    SCHEMA,
    EmbeddingFacts,
    JudgeFacts,
    ModelFacts,
    Record,
    RecordError,
    TaskFacts,
    Versions,
    Weights,
    is_record,
    parse_record,
    read_record,
    record_bytes,
    write_record,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "records.md"
SHA = "0" * 64


@pytest.fixture
def record() -> Record:
    return Record(
        model=ModelFacts(
            "mwmae-nano", "mwmae-nano", "hear_models.mwmae", True, "mwmae", {"dtype": "float32"}, SHA, Weights("a")
        ),
        task=TaskFacts(
            "esc50-v2.0.0-full",
            "synthetic",
            "scene",
            "multiclass",
            "presplit_kfold",
            "top1_acc",
            True,
            {"fold00": 3},
            SHA,
        ),
        protocol="paper",
        judge=JudgeFacts("builtin", [], 1),
        seed=3,
        score=0.25,
        scores={"top1_acc": 0.25, "d_prime": None},
        folds=[Fold("fold00", {"top1_acc": 0.25, "d_prime": None}, 0.5, 8, {"lr": 1e-4, "dropout": 0.1})],
        hyper_parameters={"lr": 1e-4},
        predictions="paper.builtin.seed-03.npz",
        embeddings=EmbeddingFacts(SHA, 192, "clips", "cpu", 1.5, 2.5),
        code_sha256=SHA,
        finished="2026-01-31T23:59:59Z",
        device="cpu",
        versions=Versions("0.1.0", "2.13.0", "2.4.0", "1.9.1", "3.11.1"),
        wall_s=4.0,
        cpu_s=3.5,
        command=["hear-models", "evaluate", "mwmae-nano"],
        warnings=["one row was left out"],
    )


@pytest.fixture
def written(record, tmp_path) -> dict:
    write_record(tmp_path / "r.json", record)
    return json.loads((tmp_path / "r.json").read_text())


def path_of(record: Record, results: str | Path = "r") -> Path:
    return record_file(results, record.model, record.task, inputs_of(record), record.seed)


def read_back(values: object, tmp_path) -> Record:
    text = values if isinstance(values, str) else json.dumps(values)
    (tmp_path / "changed.json").write_text(text)
    return read_record(tmp_path / "changed.json")


def changed(values: dict, dotted: str, value: object) -> dict:
    copy = json.loads(json.dumps(values))
    *path, last = dotted.split(".")
    place = copy
    for name in path:
        place = place[name]
    place[last] = value
    return copy


def test_a_record_comes_back_as_it_was_written(record, tmp_path):
    path = path_of(record, tmp_path)
    assert path == tmp_path / "mwmae-nano" / "esc50-v2.0.0-full" / "paper.builtin.seed-03.json"
    path.parent.mkdir(parents=True)
    write_record(path, record)
    assert read_record(path) == record
    assert is_record(path)


def test_the_same_record_gives_the_same_bytes(record, tmp_path):
    for name in "ab":
        write_record(tmp_path / name, record)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_infinite_and_undefined_scores_become_null_and_never_a_token(record, tmp_path):
    scores = {"d_prime": math.inf, "aucroc": math.nan, "numpy": np.float32(-np.inf), "top1_acc": np.float32(0.5)}
    folds = [Fold("fold00", scores)]
    task = replace(record.task, primary="aucroc")
    reasons = {"aucroc": "fold00: no clip is labelled dog"}
    write_record(
        tmp_path / "r.json", replace(record, task=task, scores=scores, folds=folds, score=math.nan, undefined=reasons)
    )
    text = (tmp_path / "r.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert read_record(tmp_path / "r.json").scores == {"d_prime": None, "aucroc": None, "numpy": None, "top1_acc": 0.5}
    assert read_record(tmp_path / "r.json").score is None
    assert read_record(tmp_path / "r.json").why_undefined == "fold00: no clip is labelled dog"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"score": 0.9}, "score is 0.9, but its folds give 0.25"),
        ({"score": None}, "score is None"),
        ({"score": 0.9, "scores": {"top1_acc": 0.9, "d_prime": None}}, "0.9"),
        ({"scores": {"top1_acc": 0.25, "d_prime": 1.0}}, "scores.d_prime is 1.0, but its folds give None"),
        ({"scores": {"top1_acc": 0.25, "mAP": 0.5}}, "a fold has no 'mAP'"),
        ({"scores": {"d_prime": None}}, "scores has no 'top1_acc'"),
        ({"folds": []}, "folds is empty"),
        ({"folds": [{"split": "fold00", "scores": {"top1_acc": 0.25, "d_prime": None}}] * 2}, "twice"),
        ({"undefined": {"top1_acc": "no reason"}}, "which has a score"),
        ({"model.sha256": SHA}, "model.sha256 does not follow"),
        ({"model.options": {"dtype": "bfloat16"}, "model.sha256": SHA}, "model.sha256 does not follow"),
    ],
)
def test_a_score_that_does_not_follow_from_its_folds_is_refused(written, tmp_path, change, words):
    values = written
    for name, value in change.items():
        if name == "folds":
            value = [{**written["folds"][0], **fold} for fold in value]
        values = changed(values, name, value)
    with pytest.raises(RecordError, match=re.escape(words)):
        read_back(json.dumps(values), tmp_path)


def test_a_record_of_the_version_before_is_read_and_its_invented_zero_is_not(written, tmp_path):
    older = json.loads(json.dumps(written))
    older["schema"] = "hear-models/record/1"
    del older["undefined"], older["digest"]
    for name in ("weights_sha256", "code_sha256", "sha256"):
        del older["model"][name]
    back = read_back(json.dumps(older), tmp_path)
    assert back.score == 0.25 and back.model.sha256 is None
    older["task"]["primary"], older["score"] = "d_prime", 0.0  # as older judges wrote what was infinite
    back = read_back(json.dumps(older), tmp_path)
    assert back.score is None and "older version" in back.why_undefined


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_record_with_a_number_that_is_none_is_refused(written, tmp_path, token):
    text = json.dumps(written).replace('"score": 0.25', f'"score": {token}')
    assert token in text
    with pytest.raises(RecordError, match=r"changed\.json"):
        read_back(text, tmp_path)


WRONG = [
    ("schema", "hear-models/record/3", "record/3"),
    ("schema", None, "schema"),
    ("score", "0.5", "score"),
    ("score", True, "score"),
    ("seed", 1.0, "seed"),
    ("seed", -1, "seed"),
    ("seed", True, "seed"),
    ("scores", [], "scores"),
    ("scores.top1_acc", "x", "scores.top1_acc"),
    ("folds", {}, "folds"),
    ("folds", [1], r"folds\[0\]"),
    ("model.trained", 1, "model.trained"),
    ("model.extra", 1, "model.extra"),
    ("model.slug", "../up", "model.slug"),
    ("model.slug", "", "model.slug"),
    ("model.slug", ".hidden", "model.slug"),
    ("model.name", "two\nlines", "model.name"),
    ("model.name", "\x1b[2J", "model.name"),
    ("model.name", "\ud800", "model.name"),
    ("task.name", "a/b", "task.name"),
    ("task.origin", "real", "task.origin"),
    ("task.counts.fold00", -1, "counts"),
    ("predictions", "/etc/passwd", "predictions"),
    ("predictions", "..", "predictions"),
    ("protocol", "mine", "protocol"),
    ("protocol", "not-comparable", "not-comparable"),
    ("judge.name", "probe-linear", "not-comparable"),
    ("finished", "yesterday", "finished"),
    ("embeddings", None, "embeddings"),
    ("code_sha256", None, "code_sha256"),
    ("warnings", ["\x00"], "warnings"),
]


@pytest.mark.parametrize(("field", "value", "named"), WRONG, ids=[f"{f}={v!r}" for f, v, _ in WRONG])
def test_a_wrong_value_is_refused_with_the_names_of_file_and_field(written, tmp_path, field, value, named):
    with pytest.raises(RecordError, match=rf"(?s)changed\.json.*{named}"):
        read_back(changed(written, field, value), tmp_path)


def test_every_missing_field_is_refused_by_its_name(written, tmp_path):
    for name in written:
        rest = {key: value for key, value in written.items() if key not in (name, "digest")}
        if name in ("digest", "predictions_sha256"):  # which older versions did not write
            read_back(rest, tmp_path)
            continue
        with pytest.raises(RecordError, match=name):
            read_back(rest, tmp_path)


def test_a_record_that_was_altered_is_refused(written, tmp_path):
    with pytest.raises(RecordError, match="does not match its digest"):
        read_back({**written, "seed": written["seed"] + 1}, tmp_path)


def test_a_field_that_stands_twice_is_refused(written, tmp_path):
    text = json.dumps(written)
    with pytest.raises(RecordError, match="twice"):
        read_back(text[:-1] + ', "score": 0.99}', tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "[" * 100_000, '{"schema": ' + "[" * 900 + "]" * 900 + "}", "1" * 5000]
)
def test_what_is_no_record_is_refused_in_one_sentence(tmp_path, text):
    with pytest.raises(RecordError, match=r"changed\.json"):
        read_back(text, tmp_path)


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "r.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match=r"r\.json"):
        read_record(tmp_path / "r.json")
    with pytest.raises(RecordError, match=r"none\.json"):
        read_record(tmp_path / "none.json")
    with pytest.raises(RecordError):
        read_record(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = [
    "schema",
    "score",
    "seed",
    "scores",
    "folds",
    "model",
    "model.options",
    "task.counts",
    "versions.torch",
    "command",
]


@settings(max_examples=150, deadline=None)
@given(field=st.sampled_from(FIELDS), value=json_values)
def test_whatever_a_field_holds_the_reader_gives_a_record_or_a_sentence(field, value):
    record = Record(
        model=ModelFacts("a", "a", "a", True),
        task=TaskFacts("t", "user", "scene", "multiclass", "trainvaltest", "top1_acc", True, {}),
        protocol="hear",
        judge=JudgeFacts("imported"),
        seed=0,
        score=None,
        scores={},
    )
    values = changed(json.loads(record_bytes(record)), field, value)
    try:
        parse_record(json.dumps(values), "r.json")
    except RecordError as error:
        assert "r.json" in str(error)


def test_nothing_half_written_stays_when_a_record_cannot_be_written(record, tmp_path):
    with pytest.raises(HearModelsError):
        write_record(tmp_path / "none" / "r.json", record)
    with pytest.raises(RecordError):
        write_record(tmp_path / "r.json", replace(record, hyper_parameters={"x": object()}))
    with pytest.raises(RecordError, match="protocol"):
        write_record(tmp_path / "r.json", replace(record, protocol="mine"))
    assert list(tmp_path.iterdir()) == []


def test_a_quick_look_and_shuffled_labels_can_be_told_from_the_name_of_the_file(record):
    quick = replace(record, protocol="not-comparable", judge=JudgeFacts("probe-knn"))
    assert path_of(quick).name == "not-comparable.probe-knn.seed-03.json"
    shuffled = replace(record, random_labels=True)
    assert path_of(shuffled).name == "paper.builtin.random-labels.seed-03.json"
    assert record.comparable and not quick.comparable and not shuffled.comparable


def every_field(kind: type = Record, prefix: str = "") -> set[str]:
    """Dotted names of all fields; `folds[].split` for what is in a list."""
    names = set()
    hints = get_type_hints(kind)
    for field in fields(kind):
        inner = next((t for t in (hints[field.name], *get_args(hints[field.name])) if is_dataclass(t)), None)
        name = f"{prefix}{field.name}"
        if inner is None:
            names.add(name)
        else:
            listed = "[]" if "list" in str(hints[field.name]) else ""
            names |= every_field(inner, f"{name}{listed}.")
    return names


def test_the_documented_schema_is_the_schema():
    text = DOCUMENT.read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([\w.\[\]]+)` \|", text, re.MULTILINE))
    assert documented == every_field()
    assert f'"{SCHEMA}"' in text or f"`{SCHEMA}`" in text


# -------------------------------------------------------------------------------------------------------- predictions
@pytest.fixture
def predictions() -> dict[str, Predictions]:
    values = np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2)
    times = np.array([0.0, 50.0, 100.0])
    return {
        "test": Predictions(["a.wav", "ä b.wav", "c.wav"], values.round(), values, values - 0.5),
        "fold00": Predictions(["a.wav"] * 3, values.round(), values, None, times),
    }


EVENTS = {
    "fold00": {"a.wav": [{"label": "dog", "start": 0.0, "end": 100.0}, {"label": "cat", "start": 5.0, "end": 9.5}]}
}


def test_predictions_come_back_bit_for_bit_and_give_the_same_bytes(predictions, tmp_path):
    first = write_predictions(tmp_path / "p.npz", predictions, EVENTS)
    assert write_predictions(tmp_path / "q.npz", predictions, EVENTS) == first
    stored = read_predictions(tmp_path / "p.npz")
    assert stored.events == EVENTS
    assert list(stored.splits) == ["test", "fold00"]
    for name, rows in predictions.items():
        back = stored.splits[name]
        assert back.files == rows.files
        for matrix in ("target", "prediction", "logit", "timestamps_ms"):
            np.testing.assert_array_equal(getattr(back, matrix), getattr(rows, matrix))


def test_a_pickle_among_the_predictions_is_refused_and_not_opened(predictions, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (Path(tmp_path / "opened").write_text, ("x",))

    np.savez(tmp_path / "p.npz", **{"test/files": np.array([Hostile()], dtype=object)})
    with pytest.raises(RecordError, match=r"p\.npz"):
        read_predictions(tmp_path / "p.npz")
    assert not (tmp_path / "opened").exists()


def test_predictions_that_do_not_fit_each_other_are_refused(tmp_path):
    files, matrix = np.array(["a", "b"]), np.zeros((2, 3), np.float32)
    good = {"test/files": files, "test/target": matrix, "test/prediction": matrix}
    np.savez(tmp_path / "p.npz", **good)
    assert len(read_predictions(tmp_path / "p.npz").splits["test"].files) == 2
    for change in (
        {"test/target": matrix[:1]},
        {"test/prediction": matrix.astype(np.float64)},
        {"test/files": np.array([1, 2])},
        {"test/timestamps_ms": np.zeros(5)},
        {"other/target": matrix},
        {"test/events_file": files, "test/events_label": files},
    ):
        np.savez(tmp_path / "p.npz", **{**good, **change})
        with pytest.raises(RecordError, match=r"p\.npz"):
            read_predictions(tmp_path / "p.npz")


def test_a_file_of_predictions_that_unfolds_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("hear_models.foreign.SMALL_ARRAYS", 10_000)
    with zipfile.ZipFile(tmp_path / "p.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("test/files.npy", b"\0" * 10_000_000)
    with pytest.raises(RecordError, match="would unfold"):
        read_predictions(tmp_path / "p.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "p.npz").read_bytes()[:50])
    with pytest.raises(RecordError, match=r"cut\.npz"):
        read_predictions(tmp_path / "cut.npz")
