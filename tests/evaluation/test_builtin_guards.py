"""A judge that is misused says so, leaks nothing, and leaves the caller's random numbers and threads alone."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_folder import write_folder

from hear_models.errors import HearModelsError, UsageError
from hear_models.evaluation.embeddings.folder import EmbeddingFolderError, read_embedding_folder
from hear_models.evaluation.judges.builtin import judge
from hear_models.evaluation.judges.protocols import GRIDS, PROTOCOLS, Protocol, protocol
from hear_models.evaluation.judges.rows import data_splits

QUICK = Protocol(
    "hear",
    {**PROTOCOLS["paper"].grid, "max_epochs": (60,), "hidden_dim": (128,), "lr": (3.2e-3,)},
    grid_points=1,
)
TVT = {"train": 160, "valid": 80, "test": 120}
FOLDS = {f"fold{index:02d}": 40 for index in range(4)}
CHANCE = 0.25  # four classes


def at_chance(score: float, clips: int) -> bool:
    """Within four standard deviations of guessing; labels are drawn with equal odds."""
    return abs(score - CHANCE) < 4 * (CHANCE * (1 - CHANCE) / clips) ** 0.5


def test_separable_classes_are_told_apart_and_shuffled_labels_are_not(tmp_path):
    folder = read_embedding_folder(write_folder(tmp_path / "task", TVT))
    assert judge(folder, QUICK, 0).score > 0.95
    assert at_chance(judge(folder, QUICK, 0, random_labels=True).score, TVT["test"])


def test_shuffled_labels_score_at_chance_over_folds_too(tmp_path):
    folder = read_embedding_folder(write_folder(tmp_path / "task", FOLDS))
    assert judge(folder, QUICK, 0).score > 0.95
    assert at_chance(judge(folder, QUICK, 0, random_labels=True).score, sum(FOLDS.values()))


def test_random_embeddings_score_at_chance(tmp_path):
    path = write_folder(tmp_path / "task", TVT)
    for split, rows in TVT.items():
        noise = np.random.default_rng(rows).normal(size=(rows, 16)).astype("<f4")
        (path / f"{split}.embeddings.npy").write_bytes(noise.tobytes())
    assert at_chance(judge(read_embedding_folder(path), QUICK, 0).score, TVT["test"])


def test_the_callers_random_numbers_and_threads_are_left_alone(tmp_path):
    folder = read_embedding_folder(write_folder(tmp_path / "task", TVT))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        states = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        first = judge(folder, QUICK, 5)
        assert torch.get_num_threads() == 2 and first.threads == 1
        assert torch.equal(torch.random.get_rng_state(), states[0])
        assert np.array_equal(np.random.get_state()[1], states[1])
        assert random.getstate() == states[2]
        torch.manual_seed(99)
        again = judge(folder, QUICK, 5)
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(first.predictions["test"].logit, again.predictions["test"].logit)
    other = judge(folder, QUICK, 6)
    assert not np.array_equal(first.predictions["test"].logit, other.predictions["test"].logit)


def test_a_training_split_that_stops_the_kit_is_judged_and_says_what_was_left_out(tmp_path):
    short = replace(QUICK, grid={**QUICK.grid, "max_epochs": (3,)})
    folder = read_embedding_folder(write_folder(tmp_path / "task", {"train": 1025, "valid": 40, "test": 40}))
    (warning,) = judge(folder, short, 0).warnings
    assert "1025 rows" in warning and folder.split("train").files[-1] in warning
    assert judge(read_embedding_folder(write_folder(tmp_path / "even", TVT)), short, 0).warnings == []


def test_an_outcome_says_who_was_predicted_and_how_the_number_came_about(tmp_path):
    folder = read_embedding_folder(write_folder(tmp_path / "task", FOLDS, evaluation=["top1_acc", "mAP", "d_prime"]))
    outcome = judge(folder, QUICK, 0)
    assert [fold.split for fold in outcome.folds] == list(FOLDS) == list(outcome.predictions)
    assert (
        outcome.score
        == outcome.scores["top1_acc"]
        == pytest.approx(np.mean([fold.scores["top1_acc"] for fold in outcome.folds]))
    )
    # a perfectly ranked class has no finite d': neither the fold nor the mean over folds may pretend to have one
    assert None in [fold.scores["d_prime"] for fold in outcome.folds] and outcome.scores["d_prime"] is None
    assert all(fold.hyper_parameters == outcome.hyper_parameters for fold in outcome.folds)
    assert all(fold.epoch % 3 == 2 for fold in outcome.folds)
    found = outcome.predictions["fold01"]
    assert found.files == folder.split("fold01").files
    assert found.prediction.shape == found.target.shape == found.logit.shape == (40, 4)
    assert np.allclose(found.prediction.sum(1), 1)
    assert (outcome.judge, outcome.shims) == ("builtin", []) and outcome.cpu_s > 0


def test_unusable_embeddings_are_refused_with_the_file_that_has_them(tmp_path):
    path = write_folder(tmp_path / "task", TVT)
    good = (path / "valid.embeddings.npy").read_bytes()
    values = np.frombuffer(good, "<f4").reshape(-1, 16).copy()
    values[7, 3] = np.nan
    (path / "valid.embeddings.npy").write_bytes(values.tobytes())
    file = read_embedding_folder(path).split("valid").files[7]
    with pytest.raises(EmbeddingFolderError, match=rf"valid\.embeddings.npy.*row 7 \({file}\)"):
        judge(read_embedding_folder(path), QUICK, 0)
    (path / "valid.embeddings.npy").write_bytes(good)
    (path / "valid.embedding-dimensions.json").write_text("[160, 8]", "utf-8")
    with pytest.raises(EmbeddingFolderError, match="160 rows, but there are 80 files"):
        judge(read_embedding_folder(path), QUICK, 0)
    (path / "valid.embedding-dimensions.json").write_text("[80, 8]", "utf-8")
    (path / "valid.embeddings.npy").write_bytes(good[: 80 * 8 * 4])
    with pytest.raises(EmbeddingFolderError, match="widths differ"):
        judge(read_embedding_folder(path), QUICK, 0)


def test_labels_that_make_no_sense_are_refused_with_the_clip(tmp_path):
    path = write_folder(tmp_path / "task", TVT)
    labels = json.loads((path / "test.json").read_text("utf-8"))
    (path / "test.json").write_text(json.dumps({**labels, "test-5.wav": [60, 61]}), "utf-8")
    with pytest.raises(EmbeddingFolderError, match=r"test-5.wav 2 labels"):
        judge(read_embedding_folder(path), QUICK, 0)
    (path / "test.json").write_text(json.dumps({**labels, "test-5.wav": ["drum"]}), "utf-8")
    with pytest.raises(EmbeddingFolderError, match=r"test-5.wav.*'drum'"):
        judge(read_embedding_folder(path), QUICK, 0)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"split_mode": "leave-one-out"}, "leave-one-out"),
        ({"evaluation": []}, "no metric"),
        ({"evaluation": ["top1_acc", "loudness"]}, "'loudness' is no metric of a scene task"),
        ({"evaluation": ["segment_1s_er"]}, "'segment_1s_er' is no metric of a scene task"),
        ({"prediction_type": "regression"}, "'regression'"),
        ({"split_mode": "new_split_kfold"}, "three or more|no split|cannot be read"),
        ({"evaluation_params": {"task_specific_param_grid": {"max_epochs": [2]}}}, "No epoch was validated"),
        ({"evaluation_params": {"task_specific_param_grid": {"depth": [2]}}}, "'depth'"),
    ],
)
def test_metadata_that_make_no_sense_are_refused_with_what_to_change(tmp_path, change, complaint):
    rows = {"train": 20, "valid": 8} if "kfold" in str(change) else {"train": 20, "valid": 8, "test": 8}
    folder = read_embedding_folder(write_folder(tmp_path / "task", rows, **change))
    with pytest.raises(HearModelsError, match=complaint):
        judge(folder, QUICK, 0)


def test_shuffled_training_is_a_deviation_that_has_to_be_asked_for(tmp_path):
    folder = read_embedding_folder(write_folder(tmp_path / "task", TVT))
    assert not any(known.shuffle_train for known in PROTOCOLS.values())
    kept, shuffled = judge(folder, QUICK, 0), judge(folder, replace(QUICK, shuffle_train=True), 0)
    assert not np.array_equal(kept.predictions["test"].logit, shuffled.predictions["test"].logit)
    assert shuffled.score > 0.95


def test_the_leaderboards_search_tries_the_points_that_the_kit_tries():
    points = PROTOCOLS["hear"].points({"task_name": "esc50"})
    assert len(points) == 16
    random.Random(42).shuffle(points)
    tried = [(p["hidden_layers"], p["initialization"][7:], p["lr"]) for p in points[: PROTOCOLS["hear"].grid_points]]
    assert tried == [
        (1, "normal", 1e-4),
        (2, "uniform", 1e-3),
        (1, "normal", 1e-3),
        (1, "normal", 3.2e-4),
        (2, "normal", 3.2e-4),
        (2, "uniform", 3.2e-4),
        (2, "normal", 3.2e-3),
        (2, "uniform", 3.2e-3),
    ]


def test_the_papers_search_tries_two_dropouts_in_the_seeds_order():
    firsts = {}
    for seed in PROTOCOLS["paper"].default_seeds:
        points = PROTOCOLS["paper"].points({})
        random.Random(seed).shuffle(points)
        assert len(points) == PROTOCOLS["paper"].grid_points == 2
        firsts[seed] = points[0]["dropout"]
    assert {seed for seed, first in firsts.items() if first == 0.1} == {0, 5, 7, 9}


def test_a_tasks_own_grid_replaces_the_protocols():
    hear = PROTOCOLS["hear"]
    assert hear.grid_for({"task_name": "dcase2016_task2"})["check_val_every_n_epoch"] == (10,)
    own = {"task_specific_param_grid": {"max_epochs": [50], "check_val_every_n_epoch": [1]}}
    maestro = hear.grid_for({"task_name": "maestro", "evaluation_params": own})
    assert (maestro["max_epochs"], maestro["check_val_every_n_epoch"]) == ((50,), (1,))
    assert hear.grid_for({"task_name": "esc50"})["check_val_every_n_epoch"] == (3,)
    assert len(replace(hear, grid=GRIDS["fast"]).points({})) == 64
    with pytest.raises(UsageError, match=r"'official'.*hear, paper"):
        protocol("official")


def test_every_fold_tests_once_and_is_never_trained_on_with_itself():
    splits = data_splits({"split_mode": "presplit_kfold", "splits": ["fold02", "fold00", "fold01"]})
    assert [(split.train, split.valid, split.test) for split in splits] == [
        (("fold02",), "fold01", "fold00"),
        (("fold00",), "fold02", "fold01"),
        (("fold01",), "fold00", "fold02"),
    ]
