"""`hear-models reproduce`: first what it takes, then the run, the verdict, and a folder that can be checked in."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest
from tone_tasks import write_task

from hear_models.cli.main import main
from hear_models.evaluation.board import reproduce
from hear_models.evaluation.runs.settings import Request
from hear_models.fetching.download import Got
from hear_models.fetching.known import KnownFiles

TASK = "beijing_opera-v1.0-hear2021-full"
ROW = "mwmae / README / MW-MAE-B-4x16-4l / MW-MAE (released weights)"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Further arguments → (exit code, standard output, standard error), in an empty folder with one task."""
    write_task(tmp_path / "tasks", TASK, {"train": 16, "valid": 8, "test": 8})
    monkeypatch.setattr("hear_models.tasks.task.origin_of", lambda *_: "official")
    monkeypatch.setenv("HEAR_MODELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        given = ["reproduce", "logmel-stats", "--tasks-dir", "tasks", *arguments]
        monkeypatch.setattr(sys, "argv", ["hear-models", *given])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_first_it_says_what_it_takes_and_does_nothing(run, tmp_path):
    code, out, _ = run("--published", ROW)
    assert code == 0 and "10 jobs: 0 are done, 10 to do" in out and out.endswith("Add --yes to begin.\n")
    assert "measured now" in out and "esc50-v2.0.0-full" in out and "hear-models tasks download" in out
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"tasks"}  # there: digests of clips that rest


def test_a_row_without_a_key_or_a_model_without_weights_is_said(run):
    code, _, err = run()
    assert code == 2 and "no published scores are known for logmel-stats" in err and "--published KEY" in err
    assert run("--published", "nobody / knows")[0] == 2


def test_it_runs_goes_on_compares_and_leaves_a_folder(run, tmp_path):
    known = KnownFiles(tmp_path / "cache" / "fetch.lock.json")
    known.path.parent.mkdir()
    for name in ("logmel-stats", "another"):
        known.note(name, "https://example.org", {"a": Got(1, "", "0" * 64)}, "2026-01-31")
    own = ("--tasks-dir", str(tmp_path / "tasks"), f"--embeddings-dir={tmp_path / 'embeddings'}")
    code, out, err = run("--published", ROW, "--seeds", "2", "--jobs", "1", "--yes", *own)
    assert code == 0, err
    assert "published" in out and "2 of the 10 seeds of the published figure" in " ".join(out.split())
    assert "NOT THE WHOLE ROW: of 1 tasks 1 not comparable" in out
    folder = tmp_path / "reproduced" / "logmel-stats"
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "command.txt",
        "environment.txt",
        "fetch.lock.json",
        "records",
        "reproduction.json",
    ]
    facts = json.loads((folder / "reproduction.json").read_text())
    assert facts["key"] == ROW and facts["verdicts"][0]["word"] == "not comparable"
    assert list(json.loads((folder / "fetch.lock.json").read_text())["fetched"]) == ["logmel-stats"]
    for path in filter(Path.is_file, folder.rglob("*")):
        if path.suffix != ".npz":
            assert str(tmp_path) not in path.read_text(), path
        else:
            with zipfile.ZipFile(path) as archive:
                assert all(str(tmp_path).encode() not in archive.read(name) for name in archive.namelist())
    assert "--tasks-dir .../tasks --embeddings-dir=.../embeddings" in (folder / "command.txt").read_text()
    assert len(list((folder / "records").rglob("*.json"))) == 2
    code, out, _ = run("--published", ROW, "--seeds", "3", "--jobs", "1")
    assert "3 jobs: 2 are done, 1 to do" in out and "by the records that are there" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({}, "NO VERDICT"),
        ({"reproduced": 10}, "REPRODUCED: of 10 tasks 10 reproduced"),
        ({"reproduced": 9, "not reproduced": 1}, "NOT THE WHOLE ROW: of 10 tasks 9 reproduced, 1 not reproduced"),
    ],
)
def test_the_verdict_on_all_tasks_is_one_line(words, said):
    done = reproduce.Reproduction(None, None, words, [], "")  # type: ignore[arg-type]
    assert reproduce.verdict_line(done).startswith(said)


def test_the_environment_names_no_machine(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "a-name-of-a-machine")
    text = reproduce.environment_text()
    assert "torch==" in text and "a-name-of" not in text and "/" not in text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--tasks-dir=/home/eve/my tasks/", "--tasks-dir=.../my tasks"),
        ("/home/eve/a.safetensors", ".../a.safetensors"),
        ("my_module:/home/eve/w.pt", "my_module:.../w.pt"),
        ("~eve/x", ".../x"),
        ("~/x", ".../x"),
        ("C:\\Users\\eve\\x.pt", ".../x.pt"),
        ("\\Users\\eve", ".../eve"),
        ("checkpoint=/a/b,other=/c/d", "checkpoint=.../b,other=.../d"),
        ("/tmp", ".../tmp"),
        ("hf://org/repo@main", "hf://org/repo@main"),
        ("https://a.org/b", "https://a.org/b"),
        ("tasks/small", "tasks/small"),
        ("/", ".../"),
        ("", ""),
        ("mae / paper, table 2", "mae / paper, table 2"),
    ],
)
def test_a_command_is_told_without_folders_of_this_machine(given, told, tmp_path):
    request = Request(models=("m",), tasks_dir=tmp_path, command=("hear-models", given))
    assert request.told_command == ("hear-models", told)
