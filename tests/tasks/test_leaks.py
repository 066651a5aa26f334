"""One recording in two splits, one label in two spellings, times in another unit: scores that are wrong in silence."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_models.errors import UsageError
from hear_models.evaluation.embeddings.folder import read_vocabulary as vocabulary_of_embeddings
from hear_models.tasks.check import check_task
from hear_models.tasks.new_task import TaskOptions, new_task
from hear_models.tasks.task import TaskError, list_tasks, read_task
from hear_models.tasks.task_writing import wav_bytes, write_task_files

RATE = 16000
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:c6f9\nsize 72862\n"


def sound(k: int, seconds: float = 0.05) -> np.ndarray:
    return 0.1 * np.random.default_rng(k).standard_normal(int(seconds * RATE))


@pytest.fixture
def recordings(tmp_path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for k in range(12):
        soundfile.write(folder / f"c{k:02d}.wav", sound(k), RATE)
    return folder


def build(recordings: Path, rows: list[str], header: str = "file,label", **options) -> Path:
    table = recordings.parent / "table.csv"
    table.write_text("\n".join([header, *rows]), encoding="utf-8")
    options = {"shares": (50, 25, 25), **options}
    return new_task(table, recordings, recordings.parent / "mine-v1-full", TaskOptions(**options)).folder


def labelled(recordings: Path, more: tuple[str, ...] = ()) -> list[str]:
    return [f"{name},{'ab'[k % 2]}" for k, name in enumerate([*sorted(os.listdir(recordings)), *more])]


def texts(folder: Path, level: str = "error", **options) -> str:
    return "\n".join(finding.text for finding in check_task(folder, **options).findings if finding.level == level)


# ------------------------------------------------------------------------------------------------------------- leaks
@pytest.mark.parametrize("spelling", ["c00", "./c00.wav", "sub/../c00.wav", "../recordings/c00.wav", ".//c00"])
def test_one_recording_under_two_spellings_is_refused(recordings, spelling):
    (recordings / "sub").mkdir()
    rows = [f"c{k:02d}.wav,{'ab'[k % 2]}" for k in range(12)]
    with pytest.raises(UsageError, match="one recording stands in the table under 2 names"):
        build(recordings, [*rows, f"{spelling},a"])
    assert not (recordings.parent / "mine-v1-full").exists()


@pytest.mark.parametrize("copy", ["bytes", "another header", "another container", "padded"])
def test_copies_in_several_splits_are_an_error_that_names_them(recordings, copy):
    for k in range(12):
        original, twin = recordings / f"c{k:02d}.wav", recordings / f"twin{k:02d}.wav"
        samples = soundfile.read(original, dtype="int16")[0]
        if copy == "bytes":
            shutil.copy(original, twin)
        elif copy == "another header":
            twin.write_bytes(wav_bytes(samples / 32768, RATE))
        elif copy == "another container":
            soundfile.write(twin.with_suffix(".flac"), samples, RATE)
        else:
            soundfile.write(twin, np.concatenate([samples, np.zeros(200, np.int16)]), RATE)
    folder = build(recordings, labelled(recordings), sample_duration=0.07)
    (finding,) = [f for f in check_task(folder, full=True).findings if f.level == "error"]
    assert "lie in several splits" in finding.text and any("c00.wav = " in files for files in finding.files)
    assert "same sound" not in texts(folder)  # headers do not show it


def test_copies_within_a_split_and_silence_are_warnings(recordings):
    shutil.copy(recordings / "c00.wav", recordings / "c12.wav")
    soundfile.write(recordings / "c13.wav", np.zeros(800), RATE)
    soundfile.write(recordings / "c14.wav", np.full(800, 0.25), RATE)
    column = ["train"] * 7 + ["valid"] * 2 + ["test"] * 3 + ["train"] * 3
    rows = [f"c{k:02d}.wav,{'ab'[k % 2]},{column[k]}" for k in range(15)]
    folder = build(recordings, rows, "file,label,split", shares=None)
    assert not texts(folder, full=True)
    said = texts(folder, "warning", full=True)
    assert "lie in one split" in said and "every sample of 2 clips is the same" in said


# ------------------------------------------------------------------------------------------------- labels and metrics
def task(folder: Path, items: dict[str, dict[str, list]], labels: list[str], seconds: float = 0.05, **changes) -> Path:
    metadata = {
        "task_name": folder.name.split("-")[0],
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest" if "train" in items else "new_split_kfold",
        "splits": list(items),
        "sample_duration": seconds,
        "evaluation": ["top1_acc"],
        **changes,
    }
    folder.mkdir(parents=True)
    write_task_files(folder, metadata, labels, items)
    for split, files in items.items():
        for k, file in enumerate(files):
            path = folder / str(RATE) / split / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wav_bytes(sound(k + sum(map(ord, split)), seconds), RATE))
    return folder


def clips(split: str, *labels: str) -> dict[str, list]:
    return {f"{split}{k}.wav": [label] for k, label in enumerate(labels)}


def test_classes_that_are_never_trained_on_or_tested_are_named(tmp_path):
    items = {"train": clips("train", "a", "b"), "valid": clips("valid", "a", "c"), "test": clips("test", "a", "c")}
    folder = task(tmp_path / "mine-v1-full", items, ["a", "b", "c"], evaluation=["top1_acc", "aucroc"])
    said = texts(folder, "warning")
    assert "1 label has no training clip, so nothing can learn them: c" in said
    assert "no test clip and leave aucroc not defined: b" in said


def test_a_fold_that_lacks_a_class_is_named(tmp_path):
    labels = ("ab", "aa", "ab", "ab")
    items = {f"fold{k:02d}": clips(f"f{k}", *said) for k, said in enumerate(labels)}
    assert "no test clip: b (fold01)" in texts(task(tmp_path / "mine-v1-full", items, ["a", "b"]), "warning")
    items = {f"fold{k:02d}": clips(f"g{k}", *said) for k, said in enumerate(("ab", "aa", "aa", "aa"))}
    said = texts(task(tmp_path / "other-v1-full", items, ["a", "b"]), "warning")
    assert "no training clip, so nothing can learn them: b (tested on fold00, fold03)" in said


@pytest.mark.parametrize(("metric", "kind"), [("f1_macro", "scene"), ("segment_1s_er", "scene"), ("mAP", "event")])
def test_a_metric_of_nobodys_is_an_error_before_anything_is_embedded(tmp_path, metric, kind):
    events = [{"label": "a", "start": 10, "end": 20}]
    items = {split: {f"{split}.wav": events if kind == "event" else ["a"]} for split in ("train", "valid", "test")}
    prediction = "multilabel" if kind == "event" else "multiclass"
    changes = {"embedding_type": kind, "prediction_type": prediction, "evaluation": [metric]}
    assert f"{metric!r} is no metric of {kind} tasks" in texts(task(tmp_path / "m-v1-full", items, ["a"], **changes))


def test_one_label_in_two_unicode_spellings_is_an_error_and_refused(recordings, tmp_path):
    composed, taken_apart = (unicodedata.normalize(form, "vögel") for form in ("NFC", "NFD"))
    both = [composed, taken_apart]
    items = {split: clips(split, *both) for split in ("train", "valid", "test")}
    assert "one label in 2 Unicode spellings" in texts(task(tmp_path / "both-v1-full", items, both))
    with pytest.raises(UsageError, match="written in 2 ways in Unicode"):
        build(recordings, [f"c{k:02d}.wav,{both[k % 2]}" for k in range(12)])
    similar = ["Dog", "dog "]
    items = {split: clips(split, *similar) for split in ("train", "valid", "test")}
    folder = task(tmp_path / "other-v1-full", items, similar)
    assert not texts(folder) and "differ in case, spaces or form only" in texts(folder, "warning")


def test_a_name_in_another_unicode_spelling_on_the_disk_is_told(tmp_path):
    items = {split: {unicodedata.normalize("NFC", f"{split}é.wav"): ["a"]} for split in ("train", "valid", "test")}
    folder = task(tmp_path / "mine-v1-full", items, ["a"])
    clip = folder / str(RATE) / "test" / next(iter(items["test"]))
    clip.rename(clip.with_name(unicodedata.normalize("NFD", clip.name)))
    assert "1 are there under another Unicode spelling" in texts(folder)


# -------------------------------------------------------------------------------------------------- times of events
SECONDS = [
    "start_s,end_s",
    "onset,offset",
    "start_seconds,end_seconds",
    "Onset_s,Offset_s",
    "start_time_seconds,end_time_seconds",
    "Begin Time (s),End Time (s)",
]


@pytest.mark.parametrize("names", [*SECONDS, "start_ms,end_ms", "onset_ms,offset_ms", "start (ms),end (ms)"])
def test_times_are_read_in_the_unit_that_their_names_say(recordings, names):
    factor = 1 if "ms" in names else 1000
    rows = [f"c{k:02d}.wav,{'ab'[k % 2]},{10 / factor:g},{20.5 / factor:g}" for k in range(12)]
    made = read_task(build(recordings, rows, f"filename,event_label,{names}"))
    events = [event for split in made.splits for found in made.items(split).values() for event in found]
    assert {(event["start"], event["end"]) for event in events} == {(10.0, 20.5)} and made.labels == ("a", "b")


@pytest.mark.parametrize("names", ["start,end", "start_time,end_time", "Begin,Stop", "start_ms,end", "start,offset"])
def test_times_without_a_unit_are_refused_with_the_choice(recordings, names):
    with pytest.raises(UsageError, match=r"do(es)? not say (its|their) unit.*start_s,end_s.*start_ms,end_ms"):
        build(recordings, ["c00.wav,a,0.5,1.25"], f"file,label,{names}")


def test_two_units_and_events_that_all_lie_behind_their_clip_are_refused(recordings):
    with pytest.raises(UsageError, match="Use one unit"):
        build(recordings, ["c00.wav,a,0.5,1250"], "file,label,start_s,end_ms")
    rows = [f"c{k:02d}.wav,a,10,20" for k in range(12)]
    with pytest.raises(UsageError, match=r"every event starts after the end.*Are the times milliseconds"):
        build(recordings, rows, "file,label,onset,offset")


@pytest.mark.parametrize(
    ("end", "level", "words"), [(1.25, "error", "look like seconds"), (9999, "warning", "end after")]
)
def test_times_of_a_finished_task_are_compared_with_its_clips(tmp_path, end, level, words):
    items = {s: {f"{s}.wav": [{"label": "a", "start": 0.5, "end": end}]} for s in ("train", "valid", "test")}
    changes = {"embedding_type": "event", "prediction_type": "multilabel", "evaluation": ["segment_1s_er"]}
    assert words in texts(task(tmp_path / "mine-v1-full", items, ["a"], seconds=2.0, **changes), level)


# ------------------------------------------------------------------------------ what other programs leave in folders
@pytest.fixture
def plain(tmp_path) -> Path:
    items = {split: clips(split, "a", "b") for split in ("train", "valid", "test")}
    return task(tmp_path / "tasks" / "mine-v1-full", items, ["a", "b"])


def test_leavings_of_a_mac_are_passed_over(plain):
    (plain.parent / "__MACOSX" / plain.name).mkdir(parents=True)
    (plain.parent / "__MACOSX" / plain.name / "._train.json").write_text("x")
    (plain / str(RATE) / "test" / "._test0.wav").write_text("x")
    assert [found.name for found in list_tasks(plain.parent)] == [plain.name]


def test_byte_order_marks_are_read_and_named_for_the_kit(plain):
    for name in ("task_metadata.json", "labelvocabulary.csv", "train.json"):
        (plain / name).write_bytes(b"\xef\xbb\xbf" + (plain / name).read_bytes())
    assert read_task(plain).labels == ("a", "b") == vocabulary_of_embeddings(plain / "labelvocabulary.csv")
    report = check_task(plain)
    (finding,) = [finding for finding in report.findings if finding.level == "error"]
    assert "byte order mark" in finding.text and len(finding.files) == 3 and finding.kit_only
    assert report.first_error(of_the_kit=False) is None and report.first_error(of_the_kit=True) is finding


@pytest.mark.parametrize("name", ["task_metadata.json", "labelvocabulary.csv", "test.json"])
def test_a_pointer_of_git_lfs_is_called_one(plain, name):
    (plain / name).write_text(POINTER)
    with pytest.raises(TaskError, match=r"pointer of Git LFS.*git lfs pull"):
        read_task(plain)
    assert "pointer of Git LFS" in texts(plain)


def test_a_clip_that_is_a_pointer_of_git_lfs_is_called_one(plain):
    (plain / str(RATE) / "test" / "test0.wav").write_text(POINTER)
    assert "pointer of Git LFS" in texts(plain)
    json.dumps([finding.files for finding in check_task(plain).findings])
