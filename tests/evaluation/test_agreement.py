"""When a table may mix the judges: only for code and a torch that were compared, and only if nothing differed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hear_models.evaluation.embeddings.folder import read_embedding_folder
from hear_models.evaluation.judges import agreement, equality
from hear_models.evaluation.judges.outcome import Fold, Outcome, Predictions


@pytest.fixture(autouse=True)
def away_from_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HEAR_MODELS_CACHE", str(tmp_path))


@pytest.fixture
def proof() -> agreement.Proof:
    codes = {"builtin_sha256": agreement.builtin_sha256(), "heareval_sha256": agreement.heareval_sha256()}
    return agreement.Proof(
        "9.9.9+own", "AVX2", "linux x86_64", "3.11.7", 1, **codes, max_difference={"a": 0.0}, date="-"
    )


def test_a_torch_that_nobody_compared_under_is_not_trusted():
    assert not agreement.judges_agree("9.9.9+own")


def test_ones_own_comparison_counts_for_its_torch_and_processor(proof):
    equality.write_proof(proof, agreement.own_file())
    assert agreement.judges_agree("9.9.9+own") and agreement.judges_agree("9.9.9+own", "AVX2")
    assert not agreement.judges_agree("9.9.9+own", "AVX512") and not agreement.judges_agree("9.9.9+cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"builtin_sha256": "0" * 64},
        {"heareval_sha256": "0" * 64},
        {"max_difference": {"a": 0.0, "b": 1e-7}},
        {"max_difference": {}},
    ],
    ids=["another builtin", "another kit", "one bit off", "nothing compared"],
)
def test_a_comparison_of_other_code_or_with_a_difference_counts_for_nothing(proof, change):
    path = agreement.own_file()
    path.write_text(json.dumps([replace(proof, **change).__dict__]))
    assert agreement.read_proofs(path) and not agreement.judges_agree("9.9.9+own")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"torch": "9.9.9+own"}]', "[[]]"])
def test_a_broken_file_of_comparisons_counts_for_nothing(text):
    agreement.own_file().write_text(text)
    assert not agreement.judges_agree("9.9.9+own")


def test_a_new_comparison_replaces_the_old_one_and_what_is_outdated(proof):
    path = agreement.own_file()
    equality.write_proof(replace(proof, torch="8.8.8", builtin_sha256="0" * 64), path)
    equality.write_proof(replace(proof, torch="7.7.7"), path)
    equality.write_proof(proof, path)
    equality.write_proof(replace(proof, date="later"), path)
    assert [(entry.torch, entry.date) for entry in agreement.read_proofs(path)] == [
        ("7.7.7", "-"),
        ("9.9.9+own", "later"),
    ]


def test_the_committed_comparisons_can_be_read():
    entries = agreement.read_proofs(agreement.COMMITTED)
    assert entries and len(entries) == len(json.loads(agreement.COMMITTED.read_text()))
    assert all(set(entry.max_difference.values()) == {0.0} for entry in entries)


def outcome() -> Outcome:
    rows = Predictions(["x.wav"], np.ones((1, 2), np.float32), np.ones((1, 2), np.float32), np.ones((1, 2), np.float32))
    fold = Fold("test", {"top1_acc": 0.5, "d_prime": None}, 0.5, 2, {"lr": 1e-3})
    return Outcome(0.5, fold.scores, [fold], fold.hyper_parameters, {"test": rows}, "builtin", [], 1, 1.0, 1.0)


def test_the_comparison_sees_every_kind_of_difference():
    one = outcome()
    assert equality.compare(one, outcome()) == (0.0, [])
    (fold,), rows = one.folds, one.predictions["test"]
    assert rows.logit is not None
    nearly = replace(rows, logit=np.nextafter(rows.logit, np.float32(2)))
    assert 0 < equality.compare(one, replace(one, predictions={"test": nearly}))[0] < 1e-6
    assert equality.compare(one, replace(one, predictions={}))[0] == float("inf")
    others = [
        replace(one, predictions={"test": replace(rows, files=["y.wav"])}),
        replace(one, predictions={"test": replace(rows, target=rows.target * 0)}),
        replace(one, folds=[replace(fold, epoch=5)]),
        replace(one, folds=[replace(fold, hyper_parameters={"lr": 1e-4})]),
        replace(one, folds=[replace(fold, scores={"top1_acc": 0.6, "d_prime": None})]),
        replace(one, folds=[replace(fold, scores={"top1_acc": 0.5, "d_prime": 3.0})]),
        replace(one, folds=[replace(fold, validation_score=0.4)]),
        replace(one, score=0.51),
        replace(one, postprocessing={"min_duration": 125}),
    ]
    assert all(equality.compare(one, other)[1] for other in others)


@pytest.mark.parametrize("case", equality.CASES, ids=lambda case: case.title)
def test_the_cases_are_folders_that_a_judge_can_read(case, tmp_path):
    folder = read_embedding_folder(equality.write_case(case, tmp_path / "case"))
    for name in folder.splits:
        split = folder.split(name)
        assert split.embeddings.shape == (case.clips * (equality.STEPS if case.event else 1), equality.DIM)
        active = {str(label) for row in split.labels for label in row}
        assert active == {str(label) for label in case.labels}, "a class without an example compares less"
        assert case.multilabel == any(len(row) != 1 for row in split.labels)
