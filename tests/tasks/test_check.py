"""`hear-models tasks check` finds what would break an evaluation, before hours are spent on it."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_models.errors import UsageError
from hear_models.tasks.check import check_task, check_tasks, training_rows
from hear_models.tasks.make_small import make_small
from hear_models.tasks.resample_task import resample_task
from hear_models.tasks.task import TaskError, read_task
from hear_models.tasks.task_writing import wav_bytes, write_task_files
from hear_models.tasks.wav_header import read_header

STROKE, TAGS = "mridangam_stroke-v1.5-full", "fsd50k-v1.0-full"


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tasks")
    make_small(out, only=[STROKE, TAGS])
    return out


@pytest.fixture
def tasks_dir(originals, tmp_path) -> Path:
    return shutil.copytree(originals, tmp_path / "tasks")


@pytest.fixture
def stroke(tasks_dir) -> Path:
    return tasks_dir / STROKE


def first_clip(folder: Path) -> Path:
    split = "fold00" if (folder / "fold00.json").exists() else "train"
    return folder / "16000" / split / next(iter(json.loads((folder / f"{split}.json").read_text())))


def texts(folder: Path, level: str = "error", **options) -> str:
    return "\n".join(finding.text for finding in check_task(folder, **options).findings if finding.level == level)


def test_whole_tasks_have_no_findings(tasks_dir):
    for full in (False, True):
        reports = check_tasks(tasks_dir, full=full)
        assert [(report.name, report.ok, report.findings) for report in reports] == [
            (TAGS, True, []),
            (STROKE, True, []),
        ]


def test_a_missing_and_an_extra_clip_are_named(stroke):
    clip = first_clip(stroke)
    clip.rename(clip.with_name("other.wav"))
    report = check_task(stroke)
    missing, extra = report.findings
    assert missing.level == "error" and missing.files == (f"16000/fold00/{clip.name}",)
    assert extra.level == "warning" and extra.files == ("16000/fold00/other.wav",)


def samples_of(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32")[0]


WRONG_AUDIO = {
    "empty file": (lambda p: p.write_bytes(b""), "broken"),
    "no audio": (lambda p: p.write_bytes(b"RIFF, they said" * 50), "broken"),
    "header only": (lambda p: p.write_bytes(p.read_bytes()[:60]), "broken"),
    "cut off": (lambda p: p.write_bytes(p.read_bytes()[:-1000]), "cut off"),
    "stereo": (lambda p: soundfile.write(p, np.stack([samples_of(p)] * 2, 1), 16000), "2 channels"),
    "another rate": (lambda p: soundfile.write(p, samples_of(p), 44100), "at 44100 Hz in the folder 16000"),
    "longer": (lambda p: soundfile.write(p, np.zeros(16000), 16000), "another length"),
    "a sample less": (lambda p: p.write_bytes(wav_bytes(samples_of(p)[:-1], 16000)), "lengths differ"),
}


@pytest.mark.parametrize("name", WRONG_AUDIO)
def test_a_clip_that_cannot_be_used_is_an_error(stroke, name):
    spoil, said = WRONG_AUDIO[name]
    spoil(first_clip(stroke))
    assert said in texts(stroke)


def test_a_clip_cut_off_is_found_where_clips_have_any_length(tasks_dir):
    clip = first_clip(tasks_dir / TAGS)
    clip.write_bytes(clip.read_bytes()[:-1000])
    assert "cut off" in texts(tasks_dir / TAGS)


def test_samples_that_are_not_16_bit_are_a_warning(stroke):
    soundfile.write(first_clip(stroke), samples_of(first_clip(stroke)), 16000, subtype="FLOAT")
    assert "FLOAT" in texts(stroke, "warning") and not texts(stroke)


def test_only_decoding_finds_nan(stroke):
    clip = first_clip(stroke)
    samples = samples_of(clip)
    samples[7] = np.nan
    soundfile.write(clip, samples, 16000, subtype="FLOAT")
    assert not texts(stroke) and "NaN" in texts(stroke, full=True)


def change(path: Path, edit) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


WRONG_FILES = {
    "unknown label": (lambda f: change(f / "fold01.json", lambda c: c.update({min(c): ["moo"]})), "'moo' is not in"),
    "two labels": (lambda f: change(f / "fold01.json", lambda c: c.update({min(c): ["ta", "thi"]})), "exactly one"),
    "empty split": (lambda f: (f / "fold02.json").write_text("{}"), "split without clips"),
    "missing split": (lambda f: (f / "fold02.json").unlink(), "fold02.json cannot be read: it is missing"),
    "no JSON": (lambda f: (f / "fold02.json").write_text("hello"), "fold02.json is not JSON"),
    "vocabulary": (lambda f: (f / "labelvocabulary.csv").write_text("idx,label\n0,ta\n2,thi\n"), "idx has gaps"),
    "no task_name": (lambda f: change(f / "task_metadata.json", lambda c: c.pop("task_name")), "no task_name"),
    "metadata": (lambda f: change(f / "task_metadata.json", lambda c: c.pop("splits")), "splits is None"),
    "no audio": (lambda f: shutil.rmtree(f / "16000"), "no audio"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_broken_file_is_an_error(stroke, name):
    spoil, said = WRONG_FILES[name]
    spoil(stroke)
    assert said in texts(stroke)


def test_a_clip_in_two_splits_is_an_error(stroke):
    clip = first_clip(stroke).name
    change(stroke / "fold01.json", lambda content: content.update({clip: ["ta"]}))
    assert f"'{clip}' stands in fold00.json and in fold01.json" in texts(stroke)


def test_every_mistake_is_reported_not_only_the_first(stroke):
    (stroke / "labelvocabulary.csv").unlink()
    (stroke / "fold03.json").write_text("{}")
    first_clip(stroke).write_bytes(b"")
    assert len(texts(stroke).splitlines()) == 3


def test_what_is_no_task_is_reported_because_the_kit_takes_it_for_one(tasks_dir):
    (tasks_dir / "notes.txt").write_text("")
    (tasks_dir / "old").mkdir()
    (tasks_dir / ".DS_Store").write_text("")
    stray = check_tasks(tasks_dir)[0]
    assert stray.findings[0].files == (".DS_Store", "notes.txt", "old") and not stray.ok and not stray.is_task
    assert all(report.is_task for report in check_tasks(tasks_dir, [STROKE]))


def one_task(folder: Path, splits: dict[str, int], **metadata) -> Path:
    """A task of silent clips of 10 ms."""
    kfold = "train" not in splits
    written = {
        "task_name": folder.name.split("-")[0],
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "new_split_kfold" if kfold else "trainvaltest",
        "splits": list(splits),
        "sample_duration": 0.01,
        "evaluation": ["top1_acc"],
        **metadata,
    }
    items = {}
    for split, count in splits.items():
        (folder / "16000" / split).mkdir(parents=True)
        items[split] = {f"{split}{i}.wav": ["ab"[i % 2]] for i in range(count)}
        for name in items[split]:
            (folder / "16000" / split / name).write_bytes(wav_bytes(np.zeros(160), 16000))
    write_task_files(folder, written, ["a", "b"], items)
    return folder


@pytest.mark.parametrize(("rows", "ok"), [(1024, True), (1025, False), (1026, True)])
def test_a_last_batch_of_one_is_found_before_the_kit_crashes_on_it(tmp_path, rows, ok):
    folder = one_task(tmp_path / "mine-v1-full", {"train": rows, "valid": 2, "test": 2})
    assert check_task(folder).ok is ok


def test_every_fold_is_left_out_in_turn():
    counts = {"fold00": 400, "fold01": 300, "fold02": 313, "fold03": 312}
    assert training_rows(counts) == {
        "without fold00 and fold01": 625,
        "without fold01 and fold02": 712,
        "without fold02 and fold03": 700,
        "without fold03 and fold00": 613,
    }
    assert training_rows({"train": 7, "valid": 1, "test": 1}) == {"train": 7}


def test_a_known_name_with_other_counts_is_unofficial_and_says_why(tmp_path):
    report = check_task(one_task(tmp_path / "esc50-v2.0.0-full", {f"fold{k:02d}": 4 for k in range(5)}))
    assert report.origin == "unofficial" and report.ok
    assert "clips: 20, published 2000" in "\n".join(finding.text for finding in report.findings)


def test_the_task_name_trap_is_told(tmp_path):
    counts = {"train": 4, "valid": 2, "test": 2}
    folder = one_task(tmp_path / "mine-v1-full", counts, task_name="dcase2016_task2")
    assert "the folder's name counts" in texts(folder, "note") and "every 10 epochs" in texts(folder, "warning")


def test_labels_without_clips_are_told(tmp_path):
    folder = one_task(tmp_path / "mine-v1-full", {"train": 4, "valid": 1, "test": 1})
    with open(folder / "labelvocabulary.csv", "a") as file:
        file.write("2,never\n")
    assert "1 of 3 labels occur in no clip: never" in texts(folder, "warning")


# ------------------------------------------------------------------------------------------------------ the header


def test_a_list_chunk_before_the_data_is_passed_over(tmp_path):
    """ffmpeg writes one: a reader that takes 44 bytes for the header hears it as a click."""
    path = tmp_path / "x.wav"
    path.write_bytes(wav_bytes(np.linspace(-1, 1, 100), 16000))
    header = read_header(path)
    assert (header.sample_rate, header.channels, header.frames, header.subtype) == (16000, 1, 100, "PCM_16")
    samples, rate = soundfile.read(path)
    assert rate == 16000 and len(samples) == 100 and b"LIST" in path.read_bytes()[:44]


def test_a_clip_written_again_is_the_same(tmp_path):
    path = tmp_path / "x.wav"
    path.write_bytes(wav_bytes(np.random.default_rng(0).uniform(-1.2, 1.2, 1000), 16000))
    samples, _ = soundfile.read(path, dtype="float32")
    assert wav_bytes(samples, 16000) == path.read_bytes()


def test_an_unknown_data_size_reaches_to_the_end(tmp_path):
    data = bytearray(wav_bytes(np.zeros(50), 16000))
    at = data.index(b"data")
    data[at + 4 : at + 8] = struct.pack("<I", 0xFFFFFFFF)
    (tmp_path / "x.wav").write_bytes(data)
    assert read_header(tmp_path / "x.wav").frames == 50


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "AIFF", "WAVEX", "RF64"])
def test_other_formats_are_asked_of_libsndfile(tmp_path, format):
    soundfile.write(tmp_path / "x", np.zeros((800, 2)), 22050, format=format)
    header = read_header(tmp_path / "x")
    assert (header.sample_rate, header.channels, header.frames) == (22050, 2, 800)


# ------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def run(monkeypatch, capsys):
    """Arguments of `hear-models` → (exit code, standard output, standard error)."""
    import sys

    from hear_models.cli.main import main

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hear-models", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            main()
        out, err = capsys.readouterr()
        return int(done.value.code or 0), out, err

    return call


def test_the_command_tells_by_its_exit_status(run, tasks_dir):
    code, out, _ = run("tasks", "check", tasks_dir)
    assert code == 0 and "2 tasks checked, 0 errors." in out
    first_clip(tasks_dir / STROKE).unlink()
    code, out, _ = run("tasks", "check", tasks_dir)
    assert code == 1 and "missing at 16000 Hz: 1 of 100 clips" in out
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = run("tasks", "check", tasks_dir, "--json")
    assert code == 1 and [report["ok"] for report in json.loads(out)] == [True, False]
    code, out, _ = run("tasks", "check", tasks_dir / TAGS)
    assert code == 0 and "1 task checked" in out, "a task itself may be given"
    code, _, err = run("tasks", "check", tasks_dir, "esc50")
    assert code == 2 and err.startswith("error: there is no task 'esc50'")


def test_the_list_marks_what_is_there(run, tasks_dir):
    code, out, _ = run("tasks", "list", "--tasks-dir", tasks_dir)
    assert code == 0 and f"{STROKE:<34}*Mri-S" in out and "synthetic, 94 clips, 16 kHz" in out
    assert max(map(len, out.replace(str(tasks_dir), "tasks").splitlines())) <= 80
    code, out, _ = run("tasks", "list", "ESC-50")
    assert code == 0 and "https://zenodo.org/record/6332517/files/hear2021-esc50-v2.0.0-full-48000.tar.gz" in out
    code, out, _ = run("tasks", "list", "--json")
    assert len(json.loads(out)) == 19
    assert run("tasks", "list", "nothing")[0] == 2


def test_a_folder_without_tasks_is_wrong_use(tmp_path):
    with pytest.raises(UsageError, match="holds no task"):
        check_tasks(tmp_path)


def test_what_killed_runs_left_is_named_as_that(tasks_dir, stroke):
    left = ".hear-models-0123456789abcdef.part"
    (tasks_dir / left).mkdir()
    (stroke / ".48000.part").mkdir()
    (stroke / "16000" / "fold00" / left).write_bytes(b"half")
    of_folder, _, report = sorted(check_tasks(tasks_dir), key=lambda report: (report.is_task, report.name))
    assert [finding.files for finding in of_folder.findings] == [(left,)]
    assert "left by a run that was killed" in of_folder.findings[0].text
    said = {finding.files: finding.text for finding in report.findings}
    assert "resampling to 48000 Hz was not finished" in said[(".48000.part",)]
    assert "left by a run that was killed" in said[(f"16000/fold00/{left}",)]


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_clip_that_is_no_plain_file_is_broken(stroke, kind):
    clip = first_clip(stroke)
    clip.unlink()
    os.mkfifo(clip) if kind == "pipe" else clip.symlink_to("/dev/zero")
    assert "broken at 16000 Hz: no plain file" in texts(stroke)


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["task_metadata.json", "labelvocabulary.csv", "fold00.json"])
def test_a_table_that_is_no_plain_file_is_not_waited_for(stroke, name, kind):
    (stroke / name).unlink()
    os.mkfifo(stroke / name) if kind == "pipe" else (stroke / name).symlink_to("/dev/zero")
    assert f"{name} is no plain file" in texts(stroke)


def test_resampling_goes_through_no_link_and_makes_clips_anew_that_were_cut(stroke, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (stroke / ".48000.part").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(TaskError, match="leads out"):
        resample_task(read_task(stroke), 48000)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (stroke / ".48000.part").unlink()
    resample_task(read_task(stroke), 48000)
    clip = next((stroke / "48000" / "fold00").iterdir())
    whole = clip.read_bytes()
    for damaged in (b"", whole[:-100]):
        clip.write_bytes(damaged)
        assert resample_task(read_task(stroke), 48000) == 1
        assert clip.read_bytes() == whole
