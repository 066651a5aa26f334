"""A judge is a file and a row: everything else reads the table, down to the records and the leaderboard."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from tone_tasks import write_module, write_task

import hear_models
from hear_models.errors import UsageError
from hear_models.evaluation.embeddings.folder import read_embedding_folder
from hear_models.evaluation.judges import table
from hear_models.evaluation.judges.table import JUDGES, code_of
from hear_models.evaluation.runs import planning
from hear_models.evaluation.runs.settings import Request

PACKAGE = Path(hear_models.__file__).parent

MAJORITY = '''
"""Says of every clip what is most frequent in training."""

from __future__ import annotations

import numpy as np

from hear_models.evaluation.judges.outcome import Fold, Outcome, Predictions
from hear_models.evaluation.judges.probe import target_matrix, tested_splits
from hear_models.metrics.clips import score_clips


def judge(folder, protocol, seed, *, random_labels=False):
    targets = {name: target_matrix(folder.split(name), folder.labels) for name in folder.splits}
    folds, predictions = [], {}
    for test in tested_splits(folder):
        seen = sum(targets[name].sum(0) for name in targets if name != test)
        output = np.tile(seen / seen.sum(), (len(targets[test]), 1)).astype(np.float32)
        scores = {metric: score_clips(metric, output, targets[test]) for metric in folder.metadata["evaluation"]}
        folds.append(Fold(test, scores))
        predictions[test] = Predictions(folder.split(test).files, targets[test], output)
    primary = float(np.mean([fold.scores[folder.metadata["evaluation"][0]] for fold in folds]))
    scores = {name: float(np.mean([fold.scores[name] for fold in folds])) for name in folds[0].scores}
    return Outcome(primary, scores, folds, {}, predictions, "majority", [], 1, 0.001, 0.001)
'''
ROW = """
    Judge(
        name="majority",
        about="what is most frequent",
        entrance="majority:judge",
        kinds=(SCENE,),
        shuffles=False,
        needs_torch=False,
    ),"""


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A copy of the package in which two files were touched: a judge's own, and the table."""
    house = tmp_path_factory.mktemp("house")
    shutil.copytree(PACKAGE, house / "hear_models", ignore=shutil.ignore_patterns("__pycache__"))
    for data in ("weights", "benchmarks"):
        if (PACKAGE.parent / data).exists():
            (house / data).symlink_to(PACKAGE.parent / data)
    room = house / "hear_models" / "evaluation" / "judges"
    (room / "majority.py").write_text(MAJORITY)
    rows = (room / "table.py").read_text()
    assert rows.count("_ROWS = (") == 1
    (room / "table.py").write_text(rows.replace("_ROWS = (", f"_ROWS = ({ROW}"))
    write_task(house / "tasks", "folds-v1-full", {"fold00": 8, "fold01": 8, "fold02": 8})
    write_task(house / "tasks", "splits-v1-full", {"train": 16, "valid": 8, "test": 8})
    write_module(house, "bands")
    return house


def run(house: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hear_models.cli.main", *arguments],
        cwd=house,
        env={**os.environ, "PYTHONPATH": str(house), "COLUMNS": "80"},
        capture_output=True,
        text=True,
    )


def test_a_new_judge_is_its_file_and_a_row(house):
    """Options, plan, worker, record and leaderboard: nothing else has to be told of it."""
    asked = ("evaluate", "heard_bands", "--no-floors", "--tasks-dir", "tasks", "--judge", "majority", "--seeds", "2")
    done = run(house, *asked, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["done"] == 4 and told["judge"] == "majority" and told["comparable"] is True
    assert [row["mean"] for row in told["rows"]] == [0.25, 0.25]  # four labels, one of them always said
    record = house / "results" / "heard_bands" / "splits-v1-full" / "hear.majority.seed-01.json"
    assert json.loads(record.read_text())["judge"] == {
        "name": "majority",
        "shims": [],
        "threads": 1,
        "cpu_capability": None,  # a row that needs no torch loads none
    }
    again = run(house, *asked)
    assert again.stdout.splitlines()[0] == "protocol hear, majority, seeds 0-1; 0 done, 4 kept, 0 failed"
    shown = run(house, "leaderboard", "results")
    assert shown.returncode == 0, shown.stderr
    assert "judge: majority" in shown.stdout and "25.0" in shown.stdout
    refused = run(house, *asked, "--random-labels")
    assert refused.returncode == 2 and "majority cannot shuffle labels" in refused.stderr
    assert "majority" in run(house, "evaluate", "--help").stdout


def test_a_new_row_outdates_no_record_of_another_judge(house):
    code = (
        "import json\nfrom hear_models.evaluation.judges.table import JUDGES, code_of\n"
        "print(json.dumps({name: code_of(name) for name in JUDGES}))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=house, capture_output=True, text=True, check=True)
    theirs, ours = json.loads(run.stdout), {name: code_of(name) for name in JUDGES}
    assert theirs == {**ours, "majority": theirs["majority"]}
    assert theirs["majority"] not in ours.values()


# ------------------------------------------------------------------------------------------------------------ the rows
@pytest.mark.parametrize("judge", JUDGES.values(), ids=list(JUDGES))
def test_every_judge_is_asked_in_the_same_way(judge):
    module, _, name = judge.entrance.partition(":")
    signature = inspect.signature(getattr(import_module(f"{table.ROOM}.{module}"), name))
    signature.bind("folder", "protocol", 0, random_labels=True)
    assert list(signature.parameters)[:3] == ["folder", "protocol", "seed"]
    assert signature.parameters["random_labels"].default is False
    assert all(path.is_file() for path in judge.files)
    if judge.preparation:
        module, _, name = judge.preparation.partition(":")
        inspect.signature(getattr(import_module(f"{table.ROOM}.{module}"), name)).bind(print)


def test_a_judge_that_cannot_shuffle_says_so_when_it_is_asked_to(tmp_path):
    from tiny_folder import write_folder

    from hear_models.evaluation.judges.protocols import PROTOCOLS

    folder = read_embedding_folder(write_folder(tmp_path / "task", {"train": 8, "valid": 4, "test": 4}))
    unable = [judge for judge in JUDGES.values() if not judge.shuffles]
    assert [judge.name for judge in unable] == ["heareval"]
    for judge in unable:
        with pytest.raises(UsageError, match="shuffle"):
            judge.judge(folder, PROTOCOLS["hear"], 42, random_labels=True)


def test_the_kits_recipe_is_a_part_of_its_judges_code(monkeypatch):
    before = code_of("heareval"), code_of("builtin")
    recipe = JUDGES["heareval"].files[0]
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"\nx==1" if path == recipe else b""))
    assert code_of("heareval") != before[0] and code_of("builtin") == before[1]


def test_tasks_that_a_judge_cannot_do_are_left_out_and_refused_where_nothing_is_left(monkeypatch):
    scene, event = (SimpleNamespace(name=kind, embedding_type=kind) for kind in ("scene", "event"))
    monkeypatch.setattr(planning, "list_tasks", lambda folder, only: there)
    quick, whole = Request(["x"], "tasks", judge="probe-knn", protocol=None), Request(["x"], "tasks")
    there = [scene, event]
    assert planning._tasks(quick) == ([scene], ["event"]) and planning._tasks(whole) == ([scene, event], [])
    there = [event]
    with pytest.raises(UsageError, match="probe-knn is for scene tasks, and there are none"):
        planning._tasks(quick)


def test_a_quick_look_has_a_protocol_and_a_seed_of_its_own():
    request = Request(["x"], "tasks", judge="probe-knn", protocol=None)
    assert request.is_quick_look and request.protocol_name == "not-comparable" and request.seed_list == [0]
    request = Request(["x"], "tasks", judge="heareval")
    assert not request.is_quick_look and request.protocol_name == "hear" and request.seed_list == [42]
