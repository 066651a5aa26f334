"""Lists of VoxCeleb's kind: what is accepted, and that a bad line is named by file and number."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from golden_inputs import GOLDEN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from hear_models.speaker.trials import SPLITS, Trial, read_speakers, read_split, read_training_list, read_trials

LISTS = GOLDEN / "ftcbam" / "lists"
EXPECTED = json.loads((LISTS / "expected.json").read_text("utf-8"))


@pytest.mark.parametrize("name", ["veri_ok", "veri_no_final_newline_crlf", "veri_blank_and_spaces"])
def test_trials_are_read_whatever_ends_their_lines(name):
    assert [asdict(trial) for trial in read_trials(LISTS / f"{name}.txt")] == EXPECTED["trials"]


def test_a_list_without_labels_has_none():
    trials = read_trials(LISTS / "veri_without_labels.txt")
    assert {trial.label for trial in trials} == {None}
    assert [trial.enrol for trial in trials] == [trial["enrol"] for trial in EXPECTED["trials"]]


@pytest.mark.parametrize("name", ["veri_bad_label.txt", "veri_bad_columns.txt"])
def test_a_bad_line_of_the_golden_lists_is_named(name):
    with pytest.raises(ValueError, match=rf"{name}, line 1:"):
        read_trials(LISTS / name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 a b\n\n1 a b c\n", "line 3: 4 columns"),
        ("1 a b\na b\n", "line 2: some trials have labels"),
        ("1 a b\nx a b\n", "line 2: the label is 'x'"),
        ("1 a b\n0 a\n", "line 2: a label and one path"),
        ("\n \n", "holds no trials"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, said):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_trials(tmp_path / "list.txt")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_trials(tmp_path / "list.txt")


@pytest.mark.parametrize("name", ["vox1_meta", "vox2_meta"])
def test_speakers_are_read(name):
    speakers = [{k: v for k, v in asdict(s).items() if v is not None} for s in read_speakers(LISTS / f"{name}.csv")]
    assert speakers == EXPECTED[name]


def test_bad_lines_of_a_table_of_speakers_are_named(tmp_path):
    path = tmp_path / "meta.csv"
    path.write_text("VoxCeleb2 ID ,Gender ,Set\nid1 ,f\n")
    with pytest.raises(ValueError, match=r"meta\.csv, line 2: 2 columns instead of 3"):
        read_speakers(path)
    path.write_text("who,Gender\n")
    with pytest.raises(ValueError, match=r"meta\.csv, line 1: the columns are who"):
        read_speakers(path)


def test_splits_and_training_lists_are_read(tmp_path):
    found = read_split(LISTS / "iden_split.txt")
    assert [{"split": split, "file": file} for split, file in found] == EXPECTED["iden_split"]
    assert {str(key): value for key, value in SPLITS.items()} == EXPECTED["iden_split_meaning"]
    listed = [{"file": file, "class": number} for file, number in read_training_list(LISTS / "voxlb2_train.txt")]
    assert listed == EXPECTED["voxlb2_train"]
    (tmp_path / "list.txt").write_text("1 a\n4 b\n")
    with pytest.raises(ValueError, match="line 2: the split is '4'"):
        read_split(tmp_path / "list.txt")
    with pytest.raises(ValueError, match="line 1: the class is 'a'"):
        read_training_list(tmp_path / "list.txt")


words = some.sampled_from(["a", "id1/x_-y/00001.wav", "01", "1.wav", "a/b/c.flac"])


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    some.lists(some.tuples(some.sampled_from([0, 1]), words, words), min_size=1, max_size=6),
    some.sampled_from(["\n", "\r\n"]),
)
def test_a_list_comes_back_as_it_was_written(tmp_path_factory, rows, end):
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    path.write_bytes(end.join(f"{label}\t{a} {b}" for label, a, b in rows).encode())
    assert read_trials(path) == [Trial(*row) for row in rows]
