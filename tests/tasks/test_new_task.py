"""`hear-models tasks new`: a user's recordings become a task, and no group is ever in two splits."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_models.classification.recordings import read_labelled
from hear_models.datasets.clip_table import read_table
from hear_models.datasets.gise51 import labelled_clips, labelled_list
from hear_models.datasets.labelled import class_folders, place_of
from hear_models.errors import UsageError
from hear_models.tasks.check import check_tasks
from hear_models.tasks.new_task import NewTask, TaskOptions, new_task
from hear_models.tasks.splitting import draw_splits
from hear_models.tasks.task import TaskError, read_task

FOLDS = {f"fold{k:02d}": 1.0 for k in range(5)}

# ------------------------------------------------------------------------------------------------------ the splitter

clips = st.lists(
    st.tuples(st.sets(st.sampled_from("abcdef"), max_size=3), st.sampled_from([f"g{i}" for i in range(12)])),
    min_size=1,
    max_size=80,
)
shares = st.dictionaries(
    st.sampled_from(["train", "valid", "test", "more"]), st.floats(0.05, 1), min_size=2, max_size=4
)


@settings(max_examples=200, deadline=None)
@given(clips=clips, shares=shares, seed=st.integers(0, 5))
def test_no_group_is_torn_no_split_is_empty_and_the_seed_decides(clips, shares, seed):
    labels, groups = [said for said, _ in clips], [group for _, group in clips]
    if len(set(groups)) < len(shares):
        with pytest.raises(UsageError, match="cannot fill"):
            draw_splits(labels, groups, shares, seed)
        return
    drawn = draw_splits(labels, groups, shares, seed)
    assert set(drawn) == set(shares)
    assert len(set(zip(groups, drawn, strict=True))) == len(set(groups)), "a group is in two splits"
    assert drawn == draw_splits(labels, groups, shares, seed)


@settings(max_examples=200, deadline=None)
@given(labels=st.lists(st.sampled_from("abcdef"), min_size=5, max_size=150), seed=st.integers(0, 5))
def test_every_label_is_spread_evenly_over_the_folds(labels, seed):
    drawn = draw_splits([{label} for label in labels], [str(i) for i in range(len(labels))], FOLDS, seed)
    for label in set(labels):
        counts = Counter(fold for fold, said in zip(drawn, labels, strict=True) if said == label)
        per_fold = [counts[fold] for fold in FOLDS]
        assert max(per_fold) - min(per_fold) <= 1, (label, per_fold)
    sizes = Counter(drawn)
    assert max(sizes.values()) - min(sizes[fold] for fold in FOLDS) <= len(set(labels))


def test_shares_are_kept_within_each_label():
    labels = [{"ab"[i % 2]} for i in range(200)]
    drawn = draw_splits(labels, [str(i) for i in range(200)], {"train": 0.6, "valid": 0.2, "test": 0.2}, 3)
    by_label = Counter((min(said), split) for said, split in zip(labels, drawn, strict=True))
    assert {key: by_label[key] for key in by_label} == {
        (label, split): count for label in "ab" for split, count in (("train", 60), ("valid", 20), ("test", 20))
    }


def test_another_seed_is_another_drawing():
    labels, groups = [{"a"}] * 50, [str(i) for i in range(50)]
    assert draw_splits(labels, groups, FOLDS, 0) != draw_splits(labels, groups, FOLDS, 1)


# ---------------------------------------------------------------------------------------------------------- the task


@pytest.fixture
def recordings(tmp_path) -> Path:
    """20 recordings of several formats, rates, lengths and channels, some in a folder."""
    folder = tmp_path / "recordings"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(20):
        kind = ("wav", "flac", "ogg")[i % 3]
        name = f"more/r {i}.{kind}" if i % 2 else f"r{i}.{kind}"
        sound = 0.1 * rng.standard_normal((4000 + 400 * i, 1 + i % 2))
        soundfile.write(folder / name, sound, (8000, 44100)[i % 2])
    return folder


def names_in(recordings: Path) -> list[str]:
    return sorted(path.relative_to(recordings).as_posix() for path in recordings.rglob("*.*"))


def build(tmp_path: Path, recordings: Path, rows: list[str], header: str = "file,label", **options) -> NewTask:
    (tmp_path / "t.csv").write_text("\n".join([header, *rows]))
    return new_task(tmp_path / "t.csv", recordings, tmp_path / "mine" / "birds-v1-full", TaskOptions(**options))


def labelled(recordings: Path, *columns) -> list[str]:
    """A row a recording; a column is a function of its number."""
    return [",".join([name, *(str(c(i)) for c in columns)]) for i, name in enumerate(names_in(recordings))]


def letter(i: int) -> str:
    return "ab"[i % 2]


def test_recordings_of_any_kind_become_a_task_that_passes_the_check(tmp_path, recordings):
    made = build(tmp_path, recordings, labelled(recordings, letter), sample_duration=0.3, sample_rates=(16000, 48000))
    task = read_task(made.folder)
    assert (task.origin, task.split_mode, task.prediction_type) == ("user", "new_split_kfold", "multiclass")
    assert task.counts == {f"fold{k:02d}": 4 for k in range(5)} and task.labels == ("a", "b")
    assert [report.findings for report in check_tasks(tmp_path / "mine", full=True)] == [[]]
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["birds-v1-full"], "nothing half-made is left"
    for rate in (16000, 48000):
        lengths = {soundfile.info(path).frames for path in (made.folder / str(rate)).rglob("*.wav")}
        assert lengths == {round(0.3 * rate)}


def test_without_a_duration_clips_keep_their_length(tmp_path, recordings):
    task = read_task(build(tmp_path, recordings, labelled(recordings, letter)).folder)
    assert task.sample_duration is None
    assert len({soundfile.info(path).frames for path in task.folder.rglob("*.wav")}) == 20


def test_clips_that_are_equally_long_anyway_say_so(tmp_path):
    for i in range(6):
        soundfile.write(tmp_path / f"{i}.wav", np.zeros(8000), 16000)
    made = build(tmp_path, tmp_path, [f"{i}.wav,{letter(i)}" for i in range(6)], folds=3)
    assert read_task(made.folder).sample_duration == 0.5


def test_the_same_csv_and_seed_give_the_same_task(tmp_path, recordings):
    rows, drawn = labelled(recordings, letter), []
    for run, seed in enumerate((7, 7, 8)):
        task = read_task(build(tmp_path, recordings, rows, seed=seed).folder)
        drawn.append([task.items(split) for split in task.splits])
        task.folder.rename(tmp_path / f"run {run}")
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_speaker_is_never_in_two_splits(tmp_path, recordings):
    rows = labelled(recordings, letter, lambda i: f"speaker{i % 6}")
    made = build(tmp_path, recordings, rows, "file,label,group", shares=(60, 20, 20))
    task = read_task(made.folder)
    speaker = {name.rsplit(".", 1)[0].replace("/", "__") + ".wav": i % 6 for i, name in enumerate(names_in(recordings))}
    of_split = [{speaker[file] for file in task.items(split)} for split in task.splits]
    assert sum(map(len, of_split)) == 6 and all(of_split)


def test_several_labels_make_a_multilabel_task(tmp_path, recordings):
    made = build(tmp_path, recordings, labelled(recordings, lambda i: ";".join("xyz"[: i % 4])))
    task = read_task(made.folder)
    said = [tuple(labels) for split in task.splits for labels in task.items(split).values()]
    assert task.prediction_type == "multilabel" and task.evaluation[0] == "mAP"
    assert Counter(said) == Counter({(): 5, ("x",): 5, ("x", "y"): 5, ("x", "y", "z"): 5})


def test_numbers_stay_numbers_and_are_in_order(tmp_path, recordings):
    task = read_task(build(tmp_path, recordings, labelled(recordings, lambda i: i % 11)).folder)
    assert task.labels == tuple(map(str, range(11)))
    assert all(isinstance(labels[0], int) for split in task.splits for labels in task.items(split).values())


def test_leading_zeros_are_not_lost(tmp_path, recordings):
    assert read_task(build(tmp_path, recordings, labelled(recordings, lambda i: f"0{i % 2}")).folder).labels == (
        "00",
        "01",
    )


def test_rows_with_times_make_an_event_task(tmp_path, recordings):
    name, *others = names_in(recordings)
    rows = [f'{name},"dog, big",10.5,100', f"{name},cat,50,99999", f"{name},cat,99999,99999"]
    made = build(tmp_path, recordings, [*rows, *(f"{other},,," for other in others)], "file,label,start_ms,end_ms")
    task = read_task(made.folder)
    (events,) = [e for split in task.splits for e in task.items(split).values() if e]
    assert task.embedding_type == "event" and task.labels == ("cat", "dog, big")
    assert [(event["label"], event["start"]) for event in events] == [("dog, big", 10.5), ("cat", 50.0)]
    assert events[1]["end"] <= 1000, "cut at the clip's end"
    assert any("1 events start after" in note for note in made.notes)


def test_given_splits_and_folds_are_kept(tmp_path, recordings):
    column = ("train", "validation", "TEST", "train")
    made = build(tmp_path, recordings, labelled(recordings, letter, lambda i: column[i % 4]), "file,label,split")
    assert made.counts == {"train": 10, "valid": 5, "test": 5}
    made.folder.rename(tmp_path / "other")
    made = build(tmp_path, recordings, labelled(recordings, letter, lambda i: i % 4 + 9), "file,label,fold")
    assert made.counts == {f"fold0{k}": 5 for k in range(4)}
    assert read_task(made.folder).split_mode == "presplit_kfold"


def test_a_missing_valid_split_is_drawn_from_train_only(tmp_path, recordings):
    rows = labelled(recordings, letter, lambda i: "test" if i < 6 else "train")
    made = build(tmp_path, recordings, rows, "file,label,split")
    assert made.counts["test"] == 6 and made.counts["valid"] >= 1 and sum(made.counts.values()) == 20
    assert any("drawn from train" in note for note in made.notes)


def test_names_without_ending_and_names_that_collide_are_kept_apart(tmp_path):
    for name in ("a/x.wav", "a__x.wav", "A/x.wav", "ü ß.wav", "b.wav", ".hidden.wav"):
        (tmp_path / "r" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "r" / name, np.zeros(800), 16000)
    rows = ["a/x.wav,1", "a__x.wav,2", "A/x.wav,1", "ü ß.wav,2", "b,1", ".hidden.wav,2"]
    task = read_task(build(tmp_path, tmp_path / "r", rows, folds=3).folder)
    files = [file for split in task.splits for file in task.items(split)]
    assert len({file.casefold() for file in files}) == 6 and not any(file.startswith(".") for file in files)


REFUSED = {
    "no such column": ("name;kind", ["x;a"], "no column 'file'"),
    "one time only": ("file,label,start_ms", ["x,a,1"], "only one of start_ms"),
    "split and fold": ("file,label,split,fold", ["x,a,train,1"], "a column split and a column fold"),
    "a field too many": ("file,label", ["r0.wav,a,b"], "line 2: 3 fields"),
    "unknown split": ("file,label,split", ["r0.wav,a,foo"], "line 2: the split 'foo'"),
    "no rows": ("file,label", [], "no rows"),
    "no label": ("file,label", ["r0.wav,"], "no label for 'r0.wav'"),
    "backwards": ("file,label,start_ms,end_ms", ["r0.wav,a,5,1"], "an event from 5 to 1"),
    "no number": ("file,label,start_ms,end_ms", ["r0.wav,a,now,1"], "must be numbers"),
    "two splits": ("file,label,split", ["r0.wav,a,train", "r0.wav,b,test"], "had another split"),
    "out of the folder": ("file,label", ["../t.csv,a"], "leads out of"),
    "too few clips": ("file,label", ["r0.wav,a", "r12.wav,b"], "2 clips cannot fill 5 splits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_cannot_be_used_says_where(tmp_path, recordings, name):
    header, rows, said = REFUSED[name]
    with pytest.raises(UsageError, match=said):
        build(tmp_path, recordings, rows, header)
    assert not (tmp_path / "mine").exists()


DIALECTS = {  # a table, and what its first row says
    "ours": ("file,label\n{}r0.wav,a\n", ["a"]),
    "a byte order mark and CRLF": ("\ufefffile,label\r\n{}r0.wav,a\r\n", ["a"]),
    "path, label": ("path,label\n{}r0.wav,a;b\n", ["a", "b"]),
    "Excel's": ("file;label\n{}r0.wav;a\n", ["a"]),
    "Excel's, several": ('file;label\n{}r0.wav;"a;b"\n', ["a", "b"]),
    "Excel's hint": ("sep=;\nfile;label\n{}r0.wav;x, y\n", ["x, y"]),
    "tabs": ("file\tlabel\n{}r0.wav\ta, b\n", ["a, b"]),
    "ESC-50": ("filename,fold,target,category,esc10,src_file,take\n{}r0.wav,1,0,dog,True,100032,A\n", ["dog"]),
    "UrbanSound8K": ("slice_file_name,fsID,salience,fold,classID,class\n{}r0.wav,9,1,5,3,dog_bark\n", ["dog_bark"]),
    "FSD50K": ('fname,labels,mids,split\n{}r0,"Guitar,Music","/m/1,/m/2",val\n', ["Guitar", "Music"]),
    "GISE-51": ('files,labels\n{}r0.wav,"Dog,Cough"\n', ["Dog", "Cough"]),
    "AudioSet": ('files,labels\n{}r0.wav,"Male speech, man speaking;Dog"\n', ["Male speech, man speaking", "Dog"]),
    "AudioSet, one": ('files,labels\n{}r0.wav,"Male speech, man speaking"\n', ["Male speech, man speaking"]),
    "BirdCLEF": ("primary_label,filename,author\nabe,{}r0.wav,x\n", ["abe"]),
    "no header": ("{}r0.wav,a\n{}r3.wav,b\n", ["a"]),
    "back slashes": ("file,label\n.\\{}r0.wav,a\n", ["a"]),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_tables_as_people_have_them_are_read_by_every_command_alike(tmp_path, recordings, name):
    text, labels = DIALECTS[name]
    (recordings / "t.csv").write_text(text.replace("{}", ""), newline="")
    (clip, *_) = read_table(recordings / "t.csv").clips
    assert clip.labels == labels
    assert place_of(clip, recordings).resolve() == recordings / "r0.wav"
    for_training = labelled_list(recordings / "t.csv")[0]
    assert for_training.labels == tuple(labels) and len(for_training.read(8_000)) == 4000
    (recordings / "t.csv").write_text(text.replace("{}", "").replace("r0", "r99"), newline="")
    with pytest.raises(UsageError, match="r99"):  # `classify` looks for the same recordings
        read_labelled(recordings / "t.csv")


def test_utf_16_of_excel_and_other_encodings(tmp_path, recordings):
    (tmp_path / "t.txt").write_bytes("file\tlabel\r\nr0.wav\tKäuzchen\r\n".encode("utf-16"))
    assert read_table(tmp_path / "t.txt").clips[0].labels == ["Käuzchen"]
    (tmp_path / "t.csv").write_bytes("file;label\r\nr0.wav;Käuzchen\r\n".encode("cp1252"))
    with pytest.raises(UsageError, match="save as CSV UTF-8"):
        read_table(tmp_path / "t.csv")


def in_folders(folder: Path, names: list[str]) -> Path:
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.full(800, 0.1 + index / 1000), 16000)
    return folder


def test_a_folder_for_each_class_becomes_a_task(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from hear_models.cli.tasks import command

    sounds = in_folders(tmp_path / "s", [f"{c}/{g}/{i}.wav" for c in ("dog", "cat") for g in "abc" for i in range(2)])
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(command, ["new", "s", "mine/x-v1-full", "--folds", "3"])
    assert done.exit_code == 0, done.output
    task = read_task(tmp_path / "mine" / "x-v1-full")
    assert set(task.labels) == {"dog", "cat"} and sum(task.counts.values()) == 12
    for split in task.splits:  # a group, whatever its class, is in one of them
        assert len({name.split("__")[1] for name in task.items(split)}) == 1
    done = CliRunner().invoke(command, ["new", "s", "elsewhere", "mine/y-v1-full"])
    assert isinstance(done.exception, UsageError) and "needs no other folder" in str(done.exception)
    done = CliRunner().invoke(command, ["new", "s", "a", "b", "mine/y-v1-full"])
    assert isinstance(done.exception, UsageError) and "too many" in str(done.exception)
    assert sorted({clip.labels for clip in labelled_clips(sounds)}) == [("cat",), ("dog",)]  # as `pretrain` reads it


def test_folders_of_splits_of_classes(tmp_path):
    names = [f"{split}/{c}/{i}.wav" for split in ("train", "Val", "test") for c in ("dog", "cat") for i in range(2)]
    table = class_folders(in_folders(tmp_path, names))
    assert {clip.split for clip in table.clips} == {"train", "valid", "test"}
    assert {tuple(clip.labels) for clip in table.clips} == {("dog",), ("cat",)}
    soundfile.write(tmp_path / "train" / "loose.wav", np.zeros(800), 16000)
    with pytest.raises(UsageError, match=r"loose\.wav' lies in no folder of a class"):
        class_folders(tmp_path)


def test_a_recording_outside_of_the_classes_is_told(tmp_path):
    in_folders(tmp_path, ["dog/a.wav", "cat/b.wav", "c.wav"])
    with pytest.raises(UsageError, match=r"c\.wav' lies in no folder of a class"):
        class_folders(tmp_path)


def test_a_group_in_two_given_splits_is_refused(tmp_path, recordings):
    rows = labelled(recordings, letter, lambda i: ("train", "valid", "test")[i % 3], lambda i: f"speaker{i // 2}")
    with pytest.raises(UsageError, match="puts a group into several splits"):
        build(tmp_path, recordings, rows, "file,label,split,group")


def test_a_missing_or_broken_recording_leaves_nothing_behind(tmp_path, recordings):
    rows = labelled(recordings, letter)
    with pytest.raises(TaskError, match=r"1 of 21 recordings are not in .*'gone.wav'"):
        build(tmp_path, recordings, [*rows, "gone.wav,a"])
    (recordings / "r0.wav").write_bytes(b"no audio")
    with pytest.raises(TaskError, match=r"1 of 20 recordings cannot be used: .*r0\.wav"):
        build(tmp_path, recordings, rows)
    assert list((tmp_path / "mine").iterdir()) == []


def test_missing_and_broken_recordings_are_left_out_where_that_is_asked_for(tmp_path, recordings):
    rows = labelled(recordings, letter)
    (recordings / "r0.wav").write_bytes(b"no audio")
    made = build(tmp_path, recordings, [*rows, "gone.wav,a"], skip_bad=True)
    assert sum(made.counts.values()) == 19
    assert [failure.path for failure in made.failed] == ["gone.wav", "r0.wav"]
    assert [finding.text for finding in made.findings if finding.level == "error"] == []
    assert not list(made.folder.rglob("r0.wav"))
    for file in recordings.rglob("*.*"):
        file.write_bytes(b"no audio")
    with pytest.raises(TaskError, match="no recording can be used"):
        new_task(tmp_path / "t.csv", recordings, tmp_path / "all/mine", TaskOptions(skip_bad=True))
    assert not (tmp_path / "all/mine").exists()


def test_a_split_that_loses_all_its_recordings_is_told(tmp_path, recordings):
    rows = labelled(recordings, letter, lambda i: "test" if i == 0 else ("train", "valid")[i % 2])
    (recordings / names_in(recordings)[0]).write_bytes(b"no audio")
    with pytest.raises(TaskError, match="test: no recording is left there"):
        build(tmp_path, recordings, rows, "file,label,split", skip_bad=True)


def test_a_stopped_run_leaves_nothing_behind(tmp_path, recordings):
    (tmp_path / "t.csv").write_text("\n".join(["file,label", *labelled(recordings, letter)]))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        new_task(tmp_path / "t.csv", recordings, tmp_path / "mine" / "birds", progress=stop)
    assert list((tmp_path / "mine").iterdir()) == []


def test_what_exists_and_what_is_hear_s_own_is_not_taken(tmp_path, recordings):
    build(tmp_path, recordings, labelled(recordings, letter))
    with pytest.raises(UsageError, match="exists already"):
        build(tmp_path, recordings, labelled(recordings, letter))
    with pytest.raises(UsageError, match="is the name of a task of HEAR"):
        new_task(tmp_path / "t.csv", recordings, tmp_path / "mine" / "esc50-v2.0.0-full")


def test_a_task_that_the_kit_would_crash_on_is_built_and_said(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.zeros(160), 16000)
    for i in range(1029):
        (tmp_path / f"{i}.wav").symlink_to(tmp_path / "x.wav")
    rows = [f"{i}.wav,{letter(i)},{'train' if i < 1025 else 'valid' if i < 1027 else 'test'}" for i in range(1029)]
    made = build(tmp_path, tmp_path, rows, "file,label,split")
    assert any("a last batch of one" in finding.text for finding in made.findings)


def test_the_command_builds_a_task(tmp_path, recordings, monkeypatch, capsys):
    import sys

    from hear_models.cli.main import main

    (tmp_path / "t.csv").write_text("\n".join(["file,label", *labelled(recordings, letter)]))
    out = tmp_path / "mine" / "birds-v1-full"
    arguments = ["tasks", "new", tmp_path / "t.csv", recordings, out, "--split", "60/20/20", "--sample-duration", "0.2"]
    monkeypatch.setattr(sys, "argv", ["hear-models", *map(str, arguments)])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 0 and "train 12, valid 4, test 4" in capsys.readouterr().out
    metadata = json.loads((out / "task_metadata.json").read_text())
    assert metadata["task_name"] == "birds" and metadata["made_by"]["tool"] == "hear-models tasks new"
