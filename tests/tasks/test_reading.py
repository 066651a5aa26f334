"""Task folders are read as they are, named by their folder, and never trusted."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from hear_models.errors import UsageError
from hear_models.tasks import task_digest
from hear_models.tasks.known_tasks import known_tasks
from hear_models.tasks.make_small import make_small
from hear_models.tasks.task import TaskError, list_tasks, read_task

TONIC, PITCH = "mridangam_tonic-v1.5-full", "nsynth_pitch-v2.2.3-5h"


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tasks")
    make_small(out, only=[TONIC, PITCH, "fsd50k", "beijing_opera"])
    return out


@pytest.fixture
def tasks_dir(originals, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HEAR_MODELS_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(originals, tmp_path / "tasks")


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_task_is_what_its_files_say(tasks_dir):
    task = read_task(tasks_dir / PITCH)
    assert (task.name, task.embedding_type, task.prediction_type) == (PITCH, "scene", "multiclass")
    assert task.splits == ("train", "valid", "test") and task.evaluation == ("pitch_acc", "chroma_acc")
    assert task.labels == tuple(str(pitch) for pitch in range(45, 69)) and task.sample_duration == 0.5
    assert task.counts == {"train": 72, "valid": 24, "test": 24} and task.rates() == [16000]
    file, labels = next(iter(task.items("train").items()))
    assert isinstance(labels[0], int), "NSynth's labels are JSON integers"
    assert task.audio(16000, "train", file).is_file()
    assert list(task.items("train")) == list(json.loads((tasks_dir / PITCH / "train.json").read_text()))


def test_clips_of_any_length_have_no_sample_duration(tasks_dir):
    assert read_task(tasks_dir / "fsd50k-v1.0-full").sample_duration is None


def test_the_folder_names_a_task_even_where_the_metadata_name_another(tasks_dir):
    task = read_task(tasks_dir / TONIC)
    assert task.metadata["task_name"] == "mridangam_stroke", "the released file has this mistake too"
    assert task.name == TONIC
    (tasks_dir / "esc50-v2.0.0-full").symlink_to(tasks_dir / TONIC)
    assert read_task(tasks_dir / "esc50-v2.0.0-full").name == "esc50-v2.0.0-full"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([], 4),
        ([TONIC], 1),
        (["mridangam_tonic"], 1),
        (["Mri-T", "ns-5h"], 2),
        (["paper"], 4),
        (["fsd50k", "F50K"], 1),
    ],
)
def test_tasks_are_chosen_by_any_of_their_names(tasks_dir, wanted, found):
    (tasks_dir / "README").write_text("passed over")
    (tasks_dir / ".git").mkdir()
    assert len(list_tasks(tasks_dir, wanted)) == found


def test_a_task_that_is_not_there_is_said_with_those_that_are(tasks_dir):
    with pytest.raises(UsageError, match=r"no task 'esc'.*beijing_opera"):
        list_tasks(tasks_dir, ["esc"])
    with pytest.raises(UsageError, match="is a task itself"):
        list_tasks(tasks_dir / TONIC)
    with pytest.raises(UsageError, match="is no folder"):
        list_tasks(tasks_dir / "nothing")


BROKEN = {
    "no metadata": lambda f: (f / "task_metadata.json").unlink(),
    "metadata no object": lambda f: (f / "task_metadata.json").write_text("[]"),
    "metadata no JSON": lambda f: (f / "task_metadata.json").write_text("{"),
    "nested": lambda f: (f / "train.json").write_text("[" * 100_000),
    "splits elsewhere": lambda f: edit_json(f / "task_metadata.json", splits=["train", "valid", "../../test"]),
    "unknown type": lambda f: edit_json(f / "task_metadata.json", prediction_type="event"),
    "no metric": lambda f: edit_json(f / "task_metadata.json", evaluation=[]),
    "duration": lambda f: edit_json(f / "task_metadata.json", sample_duration="4"),
    "infinite": lambda f: edit_json(f / "task_metadata.json", sample_duration=float("inf")),
    "two folds": lambda f: edit_json(
        f / "task_metadata.json", split_mode="new_split_kfold", splits=["fold00", "fold01"]
    ),
    "no vocabulary": lambda f: (f / "labelvocabulary.csv").unlink(),
    "gap": lambda f: (f / "labelvocabulary.csv").write_text("idx,label\n0,60\n2,61\n"),
    "far idx": lambda f: (f / "labelvocabulary.csv").write_text("idx,label\n0,60\n999999999,61\n"),
    "label twice": lambda f: (f / "labelvocabulary.csv").write_text("idx,label\n0,60\n1,60\n"),
    "no header": lambda f: (f / "labelvocabulary.csv").write_text("0,60\n"),
    "out of the folder": lambda f: (f / "train.json").write_text('{"../x.wav": [60]}'),
    "absolute": lambda f: (f / "train.json").write_text('{"/etc/passwd": [60]}'),
    "unknown label": lambda f: (f / "train.json").write_text('{"x.wav": [99]}'),
    "two labels": lambda f: (f / "train.json").write_text('{"x.wav": [60, 61]}'),
    "no list": lambda f: (f / "train.json").write_text('{"x.wav": 60}'),
    "true": lambda f: (f / "train.json").write_text('{"x.wav": [true]}'),
    "file twice": lambda f: (f / "train.json").write_text('{"x.wav": [60], "x.wav": [61]}'),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_task_is_one_error_that_names_the_file(tasks_dir, name):
    folder = tasks_dir / PITCH
    BROKEN[name](folder)
    with pytest.raises(TaskError) as caught:
        read_task(folder)
    assert str(folder) in str(caught.value) and str(caught.value).endswith(".")


def test_events_with_impossible_times_are_refused(tmp_path):
    (folder,) = make_small(tmp_path, only=["dcase2016_task2"])
    task = read_task(folder)
    assert task.embedding_type == "event"
    file, events = next(iter(task.items("test").items()))
    assert {"label", "start", "end"} == set(events[0]) and events[0]["end"] > events[0]["start"]
    for wrong in ({"start": -1}, {"end": 0}, {"start": "1"}, {"label": "moo"}):
        (folder / "test.json").write_text(json.dumps({file: [{**events[0], **wrong}]}))
        with pytest.raises(TaskError):
            read_task(folder)


# ------------------------------------------------------------------------------------------------------ the digest


def age(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (1e9, 1e9))


def test_a_changed_clip_label_or_setting_changes_the_digest(tasks_dir):
    task = read_task(tasks_dir / PITCH)
    first = task.data_sha256(16000)
    assert first == read_task(tasks_dir / PITCH).data_sha256(16000)
    wav = task.audio(16000, "test", next(iter(task.items("test"))))
    data = wav.read_bytes()
    seen = {first}
    for path, new in ((wav, data[:-2] + b"\1\1"), (task.folder / "labelvocabulary.csv", b"idx,label\n")):
        old = path.read_bytes()
        path.write_bytes(new)
        seen.add(task.data_sha256(16000))
        path.write_bytes(old)
    assert len(seen) == 3 and task.data_sha256(16000) == first


def test_the_digest_is_the_same_wherever_the_task_lies(tasks_dir, tmp_path):
    shutil.copytree(tasks_dir / PITCH, tmp_path / "elsewhere" / PITCH)
    here, there = (read_task(folder / PITCH).data_sha256(16000) for folder in (tasks_dir, tmp_path / "elsewhere"))
    assert here == there


def test_a_second_digest_reads_no_audio(tasks_dir, monkeypatch):
    age(tasks_dir / PITCH)
    task = read_task(tasks_dir / PITCH)
    first = task.data_sha256(16000)
    read: list[Path] = []
    monkeypatch.setattr(task_digest, "file_sha256", lambda path: read.append(path) or "")
    assert task.data_sha256(16000) == first and not read


def test_a_broken_memory_of_digests_is_made_anew(tasks_dir):
    age(tasks_dir / PITCH)
    task = read_task(tasks_dir / PITCH)
    first = task.data_sha256(16000)
    (memory,) = (tasks_dir.parent / "cache").rglob("*.json")
    for nonsense in ("", "{", "[]", '{"train.json": [1]}', '{"train.json": 3}'):
        memory.write_text(nonsense)
        assert task.data_sha256(16000) == first


def test_a_missing_clip_is_no_digest(tasks_dir):
    task = read_task(tasks_dir / PITCH)
    with pytest.raises(TaskError, match="resample"):
        task.data_sha256(48000)
    next((task.folder / "16000" / "test").iterdir()).unlink()
    with pytest.raises(TaskError, match="is missing"):
        task.data_sha256(16000)


# ------------------------------------------------------------------------------------------------------ the origin


def test_the_ten_tasks_of_the_papers_are_marked():
    ten = {task.paper_name for task in known_tasks().values() if task.paper_name}
    assert ten == {"BO", "CD", "ESC-50", "LC", "Mri-S", "Mri-T", "NS-5h", "SC-5h", "F50K", "VL"}
    assert len(known_tasks()) == 19


def test_toys_stay_toys_even_at_the_real_size(tasks_dir):
    assert {task.origin for task in list_tasks(tasks_dir)} == {"synthetic"}
    edit_json(tasks_dir / PITCH / "task_metadata.json", synthetic=False)
    assert read_task(tasks_dir / PITCH).origin == "unofficial"
