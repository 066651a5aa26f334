"""A folder of embeddings from the kit, or from us, is read the same: rows, labels and files belong together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_folder import write_folder

from hear_models.evaluation.embeddings.folder import (
    EmbeddingFolderError,
    active_labels,
    packing_order,
    read_embedding_folder,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "hear_scores"
FOLDERS = sorted(path.parent for path in GOLDEN.glob("*_seed*/*/predictions.npz"))
EVENTS = GOLDEN / "hear_seed42" / "dcase2016_task2-hear2021-full"


@pytest.mark.parametrize("path", FOLDERS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_labels_of_every_row_are_the_kits_without_its_pickles(path):
    folder, stored = read_embedding_folder(path), np.load(path / "predictions.npz")
    tested = {name.split("/")[0] for name in stored}
    for name in tested:
        split, target = folder.split(name), stored[f"{name}/target"]
        assert split.embeddings.dtype == np.float32 and len(split.embeddings) == len(split.files) == len(target)
        for labels, row in zip(split.labels, target, strict=True):
            assert {str(label) for label in labels} == {folder.labels[index] for index in np.flatnonzero(row)}
    assert not list(path.glob("*.pkl"))


def test_rows_of_an_event_task_carry_file_and_time():
    split = read_embedding_folder(EVENTS).split("train")
    assert split.timestamps_ms is not None and split.timestamps_ms[:3].tolist() == [0.0, 20.0, 40.0]
    assert split.files[0] == "train_04.wav" and len(set(split.files)) == 6
    assert len(read_embedding_folder(EVENTS).events("test")["test_08.wav"]) > 3


def test_an_event_is_active_from_its_start_until_just_after_its_end():
    events = {"x": [{"label": 3, "start": 20.0, "end": 40.0}, {"label": "a", "start": 40.0, "end": 40.0}]}
    times = np.array([0.0, 20.0, 40.0, 40.0002])
    assert active_labels(events, ["x"] * 4, times) == [[], [3], [3, "a"], []]


def test_files_are_packed_in_the_order_that_the_kit_packs_them():
    """One generator for all splits: a split's order depends on those before it."""
    files = [f"{index}.wav" for index in range(5)]
    both = packing_order({"train": files, "valid": files})
    assert both["train"] == ["2.wav", "1.wav", "0.wav", "4.wav", "3.wav"] == packing_order({"train": files})["train"]
    assert both["valid"] != packing_order({"valid": files})["valid"]
    assert sorted(both["valid"]) == files


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("task_metadata.json", "{", r"task_metadata\.json is not JSON"),
        ("task_metadata.json", "[]", "must list `splits`"),
        ("task_metadata.json", None, r"task_metadata\.json cannot be read"),
        ("labelvocabulary.csv", "label\na\n", "columns idx and label"),
        ("labelvocabulary.csv", "idx,label\n0,a\n2,b\n", "without a gap"),
        ("labelvocabulary.csv", None, r"labelvocabulary\.csv cannot be read"),
        ("train.json", None, r"train\.json cannot be read"),
        ("train.json", "[]", "must map file names to lists of labels"),
        ("train.json", '{"a.wav": [60]}', "12 rows, but there are 1 files"),
        ("train.json", '{"a.wav": 60}', "must map file names to lists of labels"),
        ("train.embeddings.npy", "short", "has 5 bytes, its dimensions"),
        ("train.embeddings.npy", None, r"train\.embeddings\.npy cannot be read"),
        ("train.embedding-dimensions.json", "[12]", r"must be \[rows, width\]"),
        ("train.embedding-dimensions.json", '["12", 16]', r"must be \[rows, width\]"),
    ],
)
def test_a_broken_folder_is_refused_with_the_file_that_is_wrong(tmp_path, file, content, complaint):
    path = write_folder(tmp_path / "task", {"train": 12, "valid": 4, "test": 4})
    (path / file).unlink()
    if content is not None:
        (path / file).write_text(content, "utf-8")
    with pytest.raises(EmbeddingFolderError, match=complaint):
        read_embedding_folder(path).split("train")


def test_timestamps_that_do_not_fit_are_refused(tmp_path):
    for file in EVENTS.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "test.filename-timestamps.json"
    rows = json.loads(path.read_text("utf-8"))
    for broken, complaint in (
        (rows[:-1], "602 rows, but there are 601"),
        ([["x"]] * 602, "a list of"),
        ([["other.wav", 0.0]] * 602, r"other\.wav"),
    ):
        path.write_text(json.dumps(broken), "utf-8")
        with pytest.raises(EmbeddingFolderError, match=complaint):
            read_embedding_folder(tmp_path).split("test")


@pytest.mark.parametrize("broken", ["[]", '{"test_08.wav": 3}', '{"test_08.wav": [{"start": 0, "end": 1}]}'])
def test_events_that_are_none_are_refused(tmp_path, broken):
    for file in EVENTS.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "test.json").write_text(broken, "utf-8")
    with pytest.raises(EmbeddingFolderError, match=r"test\.json must map .* label, start and end"):
        read_embedding_folder(tmp_path).split("test")


def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path):
    folder = read_embedding_folder(write_folder(tmp_path / "task", {"train": 12, "valid": 4, "test": 4}))
    with pytest.raises(EmbeddingFolderError, match=r"'dev'.*train, valid, test"):
        folder.split("dev")
