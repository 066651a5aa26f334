"""`hear-models evaluate` as a user meets it: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tone_tasks import write_module, write_task

from hear_models.evaluation.runs.record import read_record


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("evaluate")
    write_task(place / "tasks", "tones-v1-full", {"train": 16, "valid": 8, "test": 8})
    for name in ("bands", "broken"):
        write_module(place, name)
    return place


@pytest.fixture
def evaluate(run, place, tmp_path, monkeypatch):
    """Further arguments → (exit code, standard output, standard error), in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.syspath_prepend(str(place))
    return lambda *arguments: run("evaluate", "--tasks-dir", place / "tasks", "--no-floors", *arguments)


def test_a_quick_look_prints_a_table_and_marks_it_and_its_files(evaluate, tmp_path):
    code, out, err = evaluate("heard_bands", "--probe", "knn")
    assert code == 0, err
    lines = out.splitlines()
    assert "not comparable" in lines[0] and lines[0] == lines[-1]
    assert all(len(line) <= 80 for line in [*lines, *err.splitlines()])
    assert "tones-v1-full" in out and "hear-models leaderboard" not in out
    (record,) = (tmp_path / "results").rglob("*.json")
    assert record.name == "not-comparable.probe-knn.seed-00.json"
    assert read_record(record).command[:3] == ["hear-models", "evaluate", "--tasks-dir"]
    assert (tmp_path / "task-embeddings" / "heard_bands" / "tones-v1-full" / ".done.embeddings").exists()
    assert evaluate("heard_bands", "--probe", "knn")[1].splitlines()[1].endswith("0 done, 1 kept, 0 failed")


def test_the_real_judge_ends_with_the_line_that_makes_the_table(evaluate, tmp_path):
    code, out, _ = evaluate("heard_bands", "--protocol", "paper", "--seeds", "7,", "--results", "mine", "--jobs", "1")
    assert code == 0
    assert out.splitlines()[0] == "protocol paper, builtin, seed 7; 1 done, 0 kept, 0 failed"
    assert out.splitlines()[-1] == "table:   hear-models leaderboard mine"
    assert [path.name for path in (tmp_path / "mine").rglob("*.json")] == ["paper.builtin.seed-07.json"]


def test_json_is_all_of_standard_output_and_names_failures(evaluate):
    code, out, err = evaluate("heard_bands", "heard_broken", "--probe", "linear", "--json")
    assert code == 1
    told = json.loads(out)
    assert told["done"] == 1 and told["comparable"] is False
    assert [row["mean"] is None for row in told["rows"]] == [False, True]
    assert "boom" in told["failed"][0]["error"]
    assert "boom" in err and err.splitlines()[-1] == (
        "error: 1 of 2 jobs could not be done. The same command tries them again."
    )


def test_a_dry_run_lists_the_jobs_and_writes_nothing(evaluate, tmp_path):
    code, out, _ = evaluate("heard_bands", "--protocol", "paper", "--dry-run")
    assert code == 0
    assert out.splitlines()[0] == "10 jobs: 0 are done, 10 to do."
    assert out.splitlines()[1].split() == ["heard_bands", "tones-v1-full", "seeds", "0-9"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody_wrote_this"], "nobody_wrote_this"),
        (["heard_bands", "heard_bands"], "twice"),
        (["heard_bands", "--seeds", "many"], "--seeds"),
        (["heard_bands", "--tasks", "nothing"], "nothing"),
        (["heard_bands", "--tasks", ","], "--tasks"),
        (["heard_bands", "--probe", "knn", "--judge", "builtin"], "--probe"),
        (["heard_bands", "--probe", "knn", "--protocol", "paper"], "--probe"),
        (["heard_bands", "--judge", "heareval", "--random-labels"], "--random-labels"),
        (["heard_bands", "--device", "abacus"], "--device cpu"),
        (["heard_bands", "--jobs", "0"], "--jobs"),
        (["logmel-stats", "--set", "colour=red"], "colour"),
        (["mae-base-1l"], "--allow-untrained"),
        ([], "MODEL"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(evaluate, tmp_path, arguments, said):
    code, out, err = evaluate(*arguments)
    assert code == 2 and out == ""
    assert said in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_floors_are_scored_beside_every_model_and_once(run, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(place))
    tasks = ["--tasks-dir", place / "tasks", "--probe", "knn", "--json"]
    told = json.loads(run("evaluate", "heard_bands", *tasks)[1])
    assert [row["model"] for row in told["rows"]] == ["heard_bands", "logmel-stats", "random-projection"]
    told = json.loads(run("evaluate", "random-projection", *tasks)[1])
    assert (told["done"], told["kept"]) == (0, 2)


def test_the_help_fits_80_columns_and_says_what_a_quick_look_is_worth(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run("evaluate", "--help")
    assert code == 0 and all(len(line) <= 80 for line in out.splitlines())
    assert "NOT comparable" in out and "--judge" in out and "--protocol" in out
