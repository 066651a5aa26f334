"""`evaluate`: what is finished stays as it is, what fails stays alone, and nothing of other inputs is ever mixed in."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tone_tasks import write_module, write_task

from hear_models.errors import UsageError
from hear_models.evaluation.board.leaderboard import build
from hear_models.evaluation.board.results import gather
from hear_models.evaluation.runs.predictions import read_predictions
from hear_models.evaluation.runs.record import read_record
from hear_models.evaluation.runs.run import evaluate
from hear_models.evaluation.runs.settings import Request, parse_only, parse_seeds
from hear_models.files import whole_file
from hear_models.rereading.check import check
from hear_models.subjects.naming import name_of

FOLDS, SPLITS = "folds-v1-full", "splits-v1-full"
OLDER = Path(__file__).parent / "older_results"  # two records as version 0.1.0 wrote them in November 2026


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Two tasks, four modules, and their embeddings: shared, as nobody changes them."""
    place = tmp_path_factory.mktemp("run")
    write_task(place / "tasks", FOLDS, {"fold00": 8, "fold01": 8, "fold02": 8})
    write_task(place / "tasks", SPLITS, {"train": 16, "valid": 8, "test": 8})
    for name in ("bands", "noise", "broken", "undefined"):
        write_module(place, name)
    return place


@pytest.fixture
def request_of(place, tmp_path):
    """Arguments of a quick request, with results of its own."""

    def make(*names: str, **changes) -> Request:
        request = Request(
            [str(place / f"heard_{name}.py") for name in names or ("bands",)],
            place / "tasks",
            protocol=None,
            judge="probe-knn",
            seeds=[0, 1],
            jobs=1,
            results=tmp_path / "results",
            embeddings_dir=place / "embeddings",
            command=("hear-models", "evaluate", "x"),
        )
        return replace(request, **changes)

    return make


def files_in(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file with its digest and its time of change."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def records_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.json"))


# ------------------------------------------------------------------------------------------------------ the whole path
def test_every_job_is_one_record_that_says_where_its_number_is_from(request_of, place):
    request = request_of("bands", seeds=[3], judge="builtin", protocol="paper", only=["splits"])
    summary = evaluate(request)
    (path,) = records_in(Path(request.results))
    assert path.relative_to(request.results) == Path("heard_bands", SPLITS, "paper.builtin.seed-03.json")
    record = read_record(path)
    assert summary.rows[0].scores == {3: record.score} and summary.done == 1
    assert record.score == record.scores["top1_acc"] > 0.9
    assert record.task.name == SPLITS and record.task.origin == "synthetic"
    assert record.task.counts == {"train": 16, "valid": 8, "test": 8}
    assert len(record.task.data_sha256) == len(record.code_sha256) == len(record.embeddings.sha256) == 64
    assert (record.protocol, record.judge.name, record.judge.threads, record.seed) == ("paper", "builtin", 1, 3)
    assert (record.model.name, record.model.module, record.model.trained) == ("heard_bands", "heard_bands", True)
    assert record.embeddings.dim == 24 and record.embeddings.batches == "kit" and record.embeddings.device == "cpu"
    assert record.command == ["hear-models", "evaluate", "x"]
    assert record.versions.torch and record.versions.numpy and record.versions.python and record.versions.hear_models
    assert record.wall_s > 0 and record.cpu_s > 0 and record.finished.endswith("Z")
    assert record.hyper_parameters["dropout"] in (0.1, 0.25) and record.folds[0].epoch is not None
    stored = read_predictions(path.parent / record.predictions).splits["test"]
    assert sorted(stored.files) == sorted(json.loads((place / "tasks" / SPLITS / "test.json").read_text()))
    assert (stored.prediction.argmax(1) == stored.target.argmax(1)).mean() == record.score
    assert stored.logit is not None


def test_the_same_again_changes_no_file_and_asks_for_no_embeddings(request_of, tmp_path):
    request = request_of("bands", "noise", embeddings_dir=tmp_path / "own")
    first = evaluate(request)
    assert (first.done, first.kept, first.jobs) == (8, 0, 8)
    before = files_in(tmp_path)
    again = evaluate(request)
    assert (again.done, again.kept) == (0, 8)
    assert [row.scores for row in again.rows] == [row.scores for row in first.rows]
    assert files_in(tmp_path) == before
    shutil.rmtree(tmp_path / "own")
    assert evaluate(request).kept == 8
    assert not (tmp_path / "own").exists(), "something was embedded that nobody needs"
    before = files_in(tmp_path / "results")
    more = evaluate(replace(request, seeds=[0, 1, 2]))
    assert (more.done, more.kept) == (4, 8)
    assert before.items() <= files_in(tmp_path / "results").items()


def test_predictions_that_were_lost_are_made_again_with_the_same_record(request_of):
    request = request_of(seeds=[0], only=["splits"])
    evaluate(request)
    (path,) = records_in(Path(request.results))
    record, predictions = read_record(path), path.with_suffix(".npz").read_bytes()
    path.with_suffix(".npz").unlink()
    assert evaluate(request).done == 1
    assert path.with_suffix(".npz").read_bytes() == predictions
    assert read_record(path).scores == record.scores


def test_judging_beside_embedding_gives_the_same_scores(request_of, tmp_path, monkeypatch):
    """What a GPU run does: jobs start as soon as their embeddings are there."""
    first = evaluate(request_of("bands", "noise", seeds=[0]))
    monkeypatch.setattr("hear_models.evaluation.runs.run.overlaps", lambda device: True)
    beside = evaluate(request_of("bands", "noise", seeds=[0], results=tmp_path / "b", embeddings_dir=tmp_path / "e"))
    assert beside.done == 4 and beside.failed == []
    assert [row.scores for row in beside.rows] == [row.scores for row in first.rows]


def test_a_dry_run_writes_nothing_and_says_what_is_left(request_of, tmp_path):
    request = request_of(embeddings_dir=tmp_path / "own")
    summary = evaluate(request, dry_run=True)
    assert [row.to_do for row in summary.rows] == [[0, 1], [0, 1]]
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------- stopping
def start(request: Request) -> subprocess.Popen:
    """The command itself, in a process group of its own, ten seeds of the real judge."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "hear_models.cli.main", "evaluate", "--no-floors", *request.models),
            *("--tasks-dir", str(request.tasks_dir), "--results", str(request.results)),
            *("--embeddings-dir", str(request.embeddings_dir), "--protocol", "paper", "--seeds", "4", "--jobs", "2"),
        ],
        start_new_session=True,
        # a background job is started with SIGINT ignored, and hands that down
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_records(process: subprocess.Popen, results: Path, count: int) -> None:
    until = time.monotonic() + 300
    while len(records_in(results)) < count:
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.02)


def group_is_gone(group: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of_group) == group and state != "Z":
            return False
    return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_after_kill_9_and_after_ctrl_c_the_same_command_finishes_the_rest_and_changes_nothing(request_of):
    request = request_of()
    results = Path(request.results)
    for number, stop in ((1, signal.SIGKILL), (3, signal.SIGINT)):
        process = start(request)
        wait_for_records(process, results, number)
        os.killpg(process.pid, stop)
        _, errors = process.communicate(timeout=60)
        if stop == signal.SIGINT:
            assert process.returncode == 130
            assert errors.splitlines()[-1].startswith("stopped: finished jobs are kept")
            assert "Traceback" not in errors
        until = time.monotonic() + 30
        while not group_is_gone(process.pid):
            assert time.monotonic() < until, "a worker outlived the run"
            time.sleep(0.05)
        before = {name: state for name, state in files_in(results).items() if not Path(name).name.startswith(".")}
        complete = [name for name in before if name.endswith(".json")]
        assert number <= len(complete) < 8
        kept = {name: before[name] for json_name in complete for name in (json_name, f"{json_name[:-5]}.npz")}
    process = start(request)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    after = files_in(results)
    assert kept.items() <= after.items(), "a finished record changed"
    assert len(records_in(results)) == 8
    assert f"{8 - len(complete)} done, {len(complete)} kept" in out
    for path in records_in(results):
        assert len(read_predictions(path.with_suffix(".npz")).splits) == (3 if FOLDS in str(path) else 1)
        assert read_record(path).seed < 4


def test_what_a_killed_run_left_half_written_is_cleared_and_what_another_works_on_is_not(request_of):
    request = request_of(seeds=[0], only=["splits"])
    folder = Path(request.results) / "heard_bands" / SPLITS
    folder.mkdir(parents=True)
    (folder / ".hear-models-0123.part").write_bytes(b"half")
    with whole_file(folder / "theirs") as theirs:
        evaluate(request)
        assert [path for path in folder.iterdir() if path.name.startswith(".")] == [theirs]


# ------------------------------------------------------------------------------------------------------------ failing
def test_a_module_that_raises_and_one_that_gives_nan_stop_nobody_else(request_of):
    summary = evaluate(request_of("broken", "bands", "undefined", seeds=[0]))
    assert summary.done == 2 and summary.jobs == 6 and summary.jobs_failed == 4
    said = [failure.error for failure in summary.failed]
    assert sum("boom" in error for error in said) == 2 and sum("NaN" in error for error in said) == 2
    assert all(f"heard_{name}" in " ".join(f.name for f in summary.failed) for name in ("broken", "undefined"))


def test_a_judge_that_fails_on_one_task_is_listed_with_the_others_done(request_of, place, tmp_path):
    tasks = tmp_path / "tasks"
    write_task(tasks, "good-v1-full", {"train": 8, "valid": 4, "test": 4})
    folder = write_task(tasks, "odd-v1-full", {"train": 8, "valid": 4, "test": 4})
    metadata = json.loads((folder / "task_metadata.json").read_text())
    grid = {"task_specific_param_grid": {"beauty": [1]}}
    (folder / "task_metadata.json").write_text(json.dumps({**metadata, "evaluation_params": grid}))
    judge = {"judge": "builtin", "protocol": "paper"}
    summary = evaluate(request_of(tasks_dir=tasks, embeddings_dir=tmp_path / "own", seeds=[0], **judge))
    assert summary.done == 1
    ((name, error),) = [(failure.name, failure.error) for failure in summary.failed]
    assert "odd" in name and "seed 0" in name and "beauty" in error


def test_a_task_without_audio_at_the_models_rate_is_listed_and_the_others_are_done(request_of, tmp_path):
    tasks = tmp_path / "tasks"
    write_task(tasks, "good-v1-full", {"train": 8, "valid": 4, "test": 4})
    (write_task(tasks, "far-v1-full", {"train": 8, "valid": 4, "test": 4}) / "16000").rename(
        tasks / "far-v1-full" / "48000"
    )
    summary = evaluate(request_of(tasks_dir=tasks, embeddings_dir=tmp_path / "own", seeds=[0]))
    assert summary.done == 1 and summary.jobs_failed == 1
    assert "16000 Hz" in summary.failed[0].error


# ------------------------------------------------------------------------------------------------------- other inputs
@pytest.fixture
def older(request_of, tmp_path):
    """A finished request with the judge of record's stand-in, and then another label in the task."""
    tasks = tmp_path / "tasks"
    folder = write_task(tasks, "good-v1-full", {"train": 8, "valid": 4, "test": 4})
    request = request_of(tasks_dir=tasks, embeddings_dir=tmp_path / "own", judge="builtin", protocol="paper")
    evaluate(request)
    labels = json.loads((folder / "test.json").read_text())
    first, second = list(labels)[:2]
    labels[first], labels[second] = labels[second], labels[first]
    (folder / "test.json").write_text(json.dumps(labels, indent=1))
    return request


def test_records_of_other_data_are_refused_and_only_put_aside_when_told_so(older):
    results = Path(older.results)
    before = files_in(results)
    assert len(before) == 4
    for request in (older, replace(older, seeds=[5])):  # even if the seed asked for is new: one mean, one set of inputs
        with pytest.raises(UsageError, match=r"(?s)2 records.*seed-00\.json.*task data.*--overwrite"):
            evaluate(request)
        assert files_in(results) == before
    summary = evaluate(replace(older, seeds=[0], overwrite=True))
    assert len(summary.put_aside) == 4 and summary.done == 1
    after = files_in(results)
    aside = {name.rpartition(".superseded-")[0]: state for name, state in after.items() if ".superseded-" in name}
    assert aside == before, "an old record was lost or changed"
    assert [path.name for path in records_in(results)] == ["paper.builtin.seed-00.json"]


@pytest.fixture
def outdated(request_of):
    """Three finished seeds, and `outdate(digests)`, which makes their records say that other code wrote them."""
    request = request_of(judge="builtin", protocol="paper", seeds=[0, 1, 2], only=["splits"])
    evaluate(request)

    def outdate(*digests: str) -> Request:
        for path in records_in(Path(request.results)):
            values = json.loads(path.read_text())
            del values["digest"]
            if "judge" in digests:
                values["code_sha256"] = "0" * 64
            if "embeddings" in digests:
                values["embeddings"]["sha256"] = "0" * 64
            path.write_text(json.dumps(values))
        return request

    return outdate


@pytest.mark.parametrize("digests", [["judge"], ["embeddings"], ["judge", "embeddings"]], ids="+".join)
def test_records_of_older_code_are_said_to_be_that_in_one_sentence_that_tells_what_to_do(outdated, digests):
    request = outdated(*digests)
    before = files_in(Path(request.results))
    with pytest.raises(UsageError) as refused:
        evaluate(request)
    said = str(refused.value)
    assert "\n" not in said and said.startswith("3 records (heard_bands/splits-v1-full/paper.builtin.seed-00.json")
    for part in ("older code", "--overwrite", "another --results", "`hear-models leaderboard`", "Nothing was changed"):
        assert part in said
    assert ("version of the judge" in said) == ("judge" in digests)
    assert ("behind the embeddings" in said) == ("embeddings" in digests)
    assert files_in(Path(request.results)) == before
    (table,) = build(gather([request.results])).tables
    assert table.cells["heard_bands", SPLITS].interval.n == 3, "what was made before can be read no more"
    assert evaluate(replace(request, overwrite=True)).done == 3
    assert evaluate(request).kept == 3


def test_records_of_older_code_and_of_other_weights_are_not_called_older_code(outdated):
    request = outdated("judge", "embeddings")
    path = records_in(Path(request.results))[1]
    values = json.loads(path.read_text())
    values["model"]["checkpoint_sha256"] = "1" * 64
    path.write_text(json.dumps(values))
    with pytest.raises(
        UsageError, match=r"(?s)3 records.*seed-01\.json\n +other weights, another version of the judge"
    ):
        evaluate(request)


def test_records_that_older_code_wrote_are_read_shown_and_never_taken_for_todays(request_of):
    shutil.copytree(OLDER, request_of().results)
    quick, record = (read_record(path) for path in records_in(OLDER))
    assert quick.judge.name == "probe-knn" and record.judge.name == "builtin"
    assert record.folds[0].epoch == 23 and record.folds[0].hyper_parameters["dropout"] == 0.1
    board = build(gather([OLDER]))
    assert [(table.protocol, table.judges) for table in board.tables] == [
        ("paper", ("builtin",)),
        ("not-comparable", ("probe-knn",)),
    ]
    assert all(table.cells["heard_bands", SPLITS].interval.mean == 1.0 for table in board.tables)
    with pytest.raises(UsageError, match="another version of the judge"):
        evaluate(request_of(judge="builtin", protocol="paper", seeds=[0], only=["splits"]))
    # a quick look is repeated after every change: the old one steps aside
    summary = evaluate(request_of(seeds=[0], only=["splits"]))
    assert summary.done == 1 and len(summary.put_aside) == 2


def test_a_changed_judge_makes_records_stale(request_of, monkeypatch):
    request = request_of(judge="builtin", protocol="paper", seeds=[0], only=["splits"])
    evaluate(request)
    monkeypatch.setattr("hear_models.evaluation.runs.planning.code_of", lambda judge: "f" * 64)
    with pytest.raises(UsageError, match="another version of the judge"):
        evaluate(request)


def test_a_broken_record_is_refused_and_not_overwritten_silently(request_of):
    request = request_of(judge="builtin", protocol="paper", seeds=[0], only=["splits"])
    folder = Path(request.results) / "heard_bands" / SPLITS
    folder.mkdir(parents=True)
    (folder / "paper.builtin.seed-00.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        evaluate(request)
    assert (folder / "paper.builtin.seed-00.json").read_text() == "{"


# ------------------------------------------------------------------------------------------------------------- asking
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": []}, "no model"),
        ({"models": ["a", "a"]}, "twice"),
        ({"judge": "me"}, "no judge"),
        ({"judge": "imported"}, "no judge"),
        ({"judge": "builtin", "protocol": "mine"}, "no protocol"),
        ({"seeds": []}, "Seeds"),
        ({"seeds": [-1]}, "Seeds"),
        ({"seeds": [2**32]}, "Seeds"),
        ({"judge": "heareval", "protocol": "hear", "random_labels": True}, "shuffle"),
        ({"tasks_dir": "nowhere"}, "no folder"),
        ({"device": "abacus"}, "abacus"),
        ({"only": ["nothing"]}, "nothing"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_done(request_of, tmp_path, changes, said):
    with pytest.raises(UsageError, match=said):
        evaluate(request_of(**changes))
    assert list(tmp_path.iterdir()) == []


def test_a_model_with_random_weights_is_refused(request_of, tmp_path):
    with pytest.raises(UsageError, match="--allow-untrained"):
        evaluate(request_of(models=["mae-base-1l"]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("mwmae-nano", "mwmae-nano"),
        ("runs/a.safetensors", "a"),
        ("my_package.hear", "my_package.hear"),
        ("dir/my.py:weights/best.pt", "my:best.pt"),
        ("hf://org/repo@main", "hf://org/repo@main"),
    ],
)
def test_a_table_shows_names_and_not_somebodys_folders(given, name):
    assert name_of(given) == name


def test_seeds_are_counted_or_listed():
    assert parse_seeds(None) is None
    assert parse_seeds("3") == [0, 1, 2]
    assert parse_seeds("42,") == [42] and parse_seeds("7, 1") == [7, 1]
    for text in ("", "x", "-1", "1.5", "0", ",", "1,,2", "9999", "1 2"):
        with pytest.raises(UsageError):
            parse_seeds(text)
    assert parse_only(["a,b", " c "]) == ("a", "b", "c")
    with pytest.raises(UsageError):
        parse_only([","])


def test_flipped_bits_of_records_predictions_and_embeddings_are_found(request_of, tmp_path):
    request = request_of(seeds=[0], only=["splits"], embeddings_dir=tmp_path / "embeddings")
    evaluate(request)
    assert {one.kind for one in check([tmp_path])} == {"record", "task embeddings"}
    assert not [one for one in check([tmp_path]) if one.problem]
    rng = np.random.default_rng(0)
    for pattern in ("results/**/*.json", "results/**/*.npz", "embeddings/**/test.embeddings.npy"):
        (path,) = tmp_path.glob(pattern)
        whole = path.read_bytes()
        for place in rng.integers(0, len(whole), 8).tolist():
            broken = bytearray(whole)
            broken[place] ^= 2
            path.write_bytes(broken)
            found = [one for one in check([tmp_path]) if one.problem]
            assert found or json.loads(broken) == json.loads(whole), (pattern, place)
        path.write_bytes(whole)


def test_a_second_run_on_the_same_results_waits_or_works_on_what_is_left(request_of, tmp_path):
    pytest.importorskip("fcntl")
    request = request_of(embeddings_dir=tmp_path / "embeddings")
    program = (
        "import pickle, sys; from hear_models.evaluation.runs.run import evaluate;"
        "done = evaluate(pickle.load(open(sys.argv[1], 'rb'))); print(len(done.failed), done.jobs)"
    )
    (tmp_path / "request").write_bytes(pickle.dumps(request))
    both = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "request")], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert [text.split()[0] for text in said] == ["0", "0"]
    assert len(records_in(Path(request.results))) == 4
    hidden = [path for path in tmp_path.rglob(".*") if path.name.endswith((".lock", ".part"))]
    assert hidden == []
