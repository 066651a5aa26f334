"""The judge of record, for real: the released kit, in the environment that a user's first run builds.

`pytest -m kit`; the environment comes from a package index once. Everything here runs the unmodified wheel.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_models.evaluation.embeddings.folder import EmbeddingFolderError, read_embedding_folder
from hear_models.evaluation.judges import agreement, equality, heareval
from hear_models.evaluation.judges.heareval_environment import REQUIREMENTS, JudgeError, ensure_environment
from hear_models.evaluation.judges.protocols import GRIDS, PROTOCOLS, Protocol

pytestmark = [pytest.mark.kit, pytest.mark.skipif(sys.platform == "win32", reason="the kit is not pinned for Windows")]

GOLDEN = Path(__file__).parent.parent / "golden" / "hear_scores" / "hear_seed42"
QUICK = Protocol("hear", GRIDS["faster"], grid_points=1)  # the kit's own smallest grid: a few epochs
GOLDEN_TORCH = "2.13.0"


@pytest.fixture(scope="module")
def environment() -> Path:
    return ensure_environment()


@pytest.fixture
def folds(tmp_path) -> Path:
    return equality.write_case(equality.CASES[0], tmp_path / "folds")


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """Where the judge's temporary folders go, to see that none stays."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_both_judges_give_the_same_bits_and_the_committed_verdict_is_of_this_code(environment, capsys):
    """What allows a table to mix them. If the second half fails: `python -m hear_models.evaluation.judges.equality`."""
    proof = equality.prove(say=print)
    assert set(proof.max_difference.values()) == {0.0} and len(proof.max_difference) == len(equality.CASES)
    committed = [entry for entry in agreement.read_proofs(agreement.COMMITTED) if agreement.is_current(entry)]
    assert [entry for entry in committed if entry.max_difference.keys() == proof.max_difference.keys()], (
        "agreement.json is of other code: run python -m hear_models.evaluation.judges.equality "
        "hear_models/evaluation/judges/agreement.json and commit it"
    )


@pytest.mark.parametrize(
    ("task", "points"), [("mridangam_tonic-v1.5-full", 8), ("dcase2016_task2-hear2021-full", 1)], ids=["folds", "event"]
)
def test_scores_that_the_kit_gave_elsewhere_come_out_again(task, points, environment):
    """Epochs, choices and scores of the goldens; their logits only where the processor multiplies in the same order."""
    import torch

    if torch.__version__.partition("+")[0] != GOLDEN_TORCH:
        pytest.skip(f"the goldens were made with torch {GOLDEN_TORCH}, this is {torch.__version__}")
    from dataclasses import replace

    before = snapshot(GOLDEN / task)
    outcome = heareval.judge(read_embedding_folder(GOLDEN / task), replace(PROTOCOLS["hear"], grid_points=points), 42)
    expected = json.loads((GOLDEN / task / "test.predicted-scores.json").read_text())
    for fold in outcome.folds:
        theirs = expected[fold.split]
        assert (fold.epoch, fold.validation_score) == (theirs["epoch"], theirs["validation_score"])
        for name, score in fold.scores.items():
            # d' of a perfectly separated class is infinite, which a record calls null
            assert score == (theirs[f"test_{name}"] if np.isfinite(theirs[f"test_{name}"]) else None), name
    kept = {"hidden_layers", "lr", "dropout", "check_val_every_n_epoch"}
    assert {key: outcome.hyper_parameters[key] for key in kept} == {key: expected["hparams"][key] for key in kept}
    assert outcome.postprocessing == dict(expected["postprocessing"])
    with np.load(GOLDEN / task / "predictions.npz") as stored:
        for split, rows in outcome.predictions.items():
            assert np.array_equal(rows.target, stored[f"{split}/target"])
            assert rows.logit is not None
            np.testing.assert_allclose(rows.logit, stored[f"{split}/prediction_logit"], atol=0.05)
    if outcome.events:
        assert (
            outcome.events["test"] == json.loads((GOLDEN / task / "test.events.json").read_text())["predicted_events"]
        )
    assert snapshot(GOLDEN / task) == before, "the judge wrote into the embedding folder"


def test_what_the_kit_imports_is_what_is_pinned(folds, environment, scratch):
    outcome = heareval.judge(read_embedding_folder(folds), QUICK, 42, environment=environment)
    pinned = dict(line.split(" ")[0].split("==") for line in REQUIREMENTS.read_text().splitlines() if line[0].isalnum())
    for name in ("heareval", "pytorch-lightning", "torchmetrics", "pandas", "click", "tqdm"):
        assert outcome.versions[name] == pinned[name]
    import torch

    assert outcome.versions["torch"] == str(torch.__version__)
    foreign = {"matplotlib", "pyarrow", "rich", "tensorboard", "hear-models", "tensorflow"} & outcome.versions.keys()
    assert not foreign, f"the judge saw {foreign} of the environment behind"
    assert outcome.threads == 1 and outcome.cpu_s > 0 and outcome.wall_s > 0
    assert [shim.split(":")[0] for shim in outcome.shims] == ["torch.load"]
    assert list(scratch.iterdir()) == []


def test_another_seed_and_the_papers_grid_are_named_as_replaced(folds, environment):
    quick = Protocol("paper", {**GRIDS["paper"], "max_epochs": (6,)}, grid_points=1)
    one = heareval.judge(read_embedding_folder(folds), quick, 3, environment=environment)
    other = heareval.judge(read_embedding_folder(folds), quick, 4, environment=environment)
    assert one.shims[1:] == ["grid replaced", "seed replaced (3 for 42)"]
    assert one.hyper_parameters["initialization"] == "xavier_normal" and one.hyper_parameters["lr"] == 1e-4
    a, b = one.predictions["fold00"].logit, other.predictions["fold00"].logit
    assert a is not None and b is not None and not np.array_equal(a, b)


def test_a_strangers_pickle_in_the_folder_is_never_opened(folds, environment, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "opened"),)

    honest = heareval.judge(read_embedding_folder(folds), QUICK, 42, environment=environment)
    for path in folds.glob("*.target-labels.pkl"):
        path.write_bytes(pickle.dumps(Hostile()))
    judged = heareval.judge(read_embedding_folder(folds), QUICK, 42, environment=environment)
    assert not (tmp_path / "opened").exists()
    assert judged.scores == honest.scores


def test_a_split_whose_name_leads_elsewhere_is_refused(folds, environment):
    metadata = json.loads((folds / "task_metadata.json").read_text())
    metadata["splits"][0] = "../fold00"
    (folds / "task_metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(EmbeddingFolderError, match="a split named"):
        heareval.judge(read_embedding_folder(folds), QUICK, 42, environment=environment)


def test_a_failure_quotes_the_kit_and_leaves_the_folder_alone(folds, environment, scratch, tmp_path, monkeypatch):
    monkeypatch.setenv("HEAR_MODELS_CACHE", str(tmp_path / "cache"))
    values = np.fromfile(folds / "fold03.embeddings.npy", "<f4")
    values[5] = np.nan
    values.tofile(folds / "fold03.embeddings.npy")
    before = snapshot(folds)
    with pytest.raises(JudgeError, match="nandim == 0") as error:
        heareval.judge(read_embedding_folder(folds), QUICK, 42, environment=environment)
    (log,) = (tmp_path / "cache" / "failed").iterdir()
    assert str(log) in str(error.value) and "AssertionError" in log.read_text()
    assert snapshot(folds) == before and list(scratch.iterdir()) == []


def test_a_kit_that_somebody_changed_is_no_judge_of_record(folds, environment, tmp_path):
    changed = tmp_path / "environment"
    changed.mkdir()
    for entry in environment.iterdir():
        if entry.name != "heareval":
            (changed / entry.name).symlink_to(entry)
    shutil.copytree(environment / "heareval", changed / "heareval")
    with (changed / "heareval" / "score.py").open("a") as file:
        file.write("\n# better scores\n")
    with pytest.raises(JudgeError, match="not the released"):
        heareval.judge(read_embedding_folder(folds), QUICK, 42, environment=changed)


RUN = (
    "import sys; from hear_models.evaluation.judges import heareval\n"
    "from hear_models.evaluation.embeddings.folder import read_embedding_folder\n"
    "from hear_models.evaluation.judges.protocols import PROTOCOLS\n"
    "heareval.judge(read_embedding_folder(sys.argv[1]), PROTOCOLS['hear'], 42)\n"
)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("wanted", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_runs_on_when_the_one_who_asked_is_gone(wanted, folds, environment, scratch):
    """Ctrl-C, a worker that is ended, and the system running out of memory."""
    # a background job is started with SIGINT ignored, and hands that down
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    asking = subprocess.Popen([sys.executable, "-c", RUN, str(folds)], stderr=subprocess.DEVNULL, preexec_fn=listen)
    try:
        wait_until(lambda: any(scratch.glob("*/logs")), "the kit never trained")
        assert kit_processes(scratch)
    finally:
        asking.send_signal(wanted)
        asking.wait(30)
    wait_until(lambda: not kit_processes(scratch), "the kit runs on")
    wait_until(lambda: not list(scratch.iterdir()), "its temporary folder is still there")


def kit_processes(scratch: Path) -> list[str]:
    """Command lines of processes that work below `scratch`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "heareval_launcher" in line and str(scratch) in line:
            found.append(line)
    return found


def wait_until(condition, complaint: str, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, complaint
        time.sleep(0.1)


MODULE = """
import resampy  # of the environment behind, which the judge itself does not see
import torch

class Model(torch.nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 3, 3
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

def load_model(model_file_path="", scale=1.0):
    return Model(scale).eval()

def get_scene_embeddings(audio, model):
    return model.scale * torch.stack([audio.mean(1), audio.std(1), audio.abs().amax(1)], 1)
"""


def test_the_kits_own_runner_embeds_with_a_module_of_ones_own(environment, tmp_path, monkeypatch):
    task = tmp_path / "tasks" / "tiny-v1-full"
    (task / "16000" / "train").mkdir(parents=True)
    rng = np.random.default_rng(0)
    clips = {f"clip{i}.wav": rng.uniform(-0.5, 0.5, 8000) for i in range(5)}
    for name, samples in clips.items():
        soundfile.write(task / "16000" / "train" / name, samples, 16000)
    (task / "train.json").write_text(json.dumps({name: ["a"] for name in clips}))
    (task / "labelvocabulary.csv").write_text("idx,label\n0,a\n")
    metadata = {"task_name": "tiny", "embedding_type": "scene", "prediction_type": "multiclass", "splits": ["train"]}
    (task / "task_metadata.json").write_text(json.dumps({**metadata, "sample_duration": 0.5}))
    (tmp_path / "my_code").mkdir()
    (tmp_path / "my_code" / "my_features.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path / "my_code"))

    out = tmp_path / "embeddings"
    report = heareval.run_embeddings("my_features", None, {"scale": 2.0}, tmp_path / "tasks", task.name, out)
    assert [shim.split(":")[0] for shim in report["shims"]] == ["torch.load", "tensorflow"]
    written = out / "my_features-scale=2-0" / task.name
    assert (written / ".done.embeddings").is_file()
    rows = read_embedding_folder(written).split("train")
    for file, row in zip(rows.files, rows.embeddings, strict=True):
        np.testing.assert_allclose(row[2], 2 * np.abs(clips[file]).max(), rtol=1e-3)


def test_evaluate_with_the_judge_of_record_from_toy_task_to_record(environment, tmp_path):
    """As a user meets it: make a toy task, evaluate a floor with the released kit, read the record."""
    program = [sys.executable, "-m", "hear_models.cli.main"]
    run = {"cwd": tmp_path, "check": True, "capture_output": True, "text": True, "timeout": 900}
    subprocess.run([*program, "tasks", "make-small", "toy", "--task", "beijing_opera"], **run)
    evaluate = [
        "evaluate",
        "logmel-stats",
        "--no-floors",
        "--tasks-dir",
        "toy",
        "--judge",
        "heareval",
        "--protocol",
        "paper",
    ]
    subprocess.run([*program, *evaluate, "--seeds", "3,", "--results", "results"], **run)
    (path,) = (tmp_path / "results").rglob("*.heareval.*.json")
    record = json.loads(path.read_text(), parse_constant=lambda token: pytest.fail(f"{token} in a record"))
    assert record["judge"]["name"] == "heareval" and record["judge"]["threads"] == 1
    assert record["judge"]["shims"][1:] == ["grid replaced", "seed replaced (3 for 42)"]
    assert record["versions"]["heareval"] == "2021.1.3"
    assert len(record["folds"]) == 5 and 0.3 < record["score"] <= 1.0
