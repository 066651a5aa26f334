"""Undefined is not zero: a metric without a finite value is null with its reason, for every judge of ours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_folder import write_folder
from tone_tasks import write_module, write_task

from hear_models.evaluation.embeddings.folder import read_embedding_folder
from hear_models.evaluation.judges.outcome import Outcome
from hear_models.evaluation.judges.protocols import protocol
from hear_models.evaluation.judges.table import JUDGES
from hear_models.evaluation.runs.run import evaluate
from hear_models.evaluation.runs.settings import Request
from hear_models.evaluation.runs.summary import table
from hear_models.metrics.clips import why_not_finite
from hear_models.metrics.events import why_not_a_number

ROWS = {"train": 40, "valid": 16, "test": 16}
OURS = ["builtin", "probe-linear", "probe-knn"]


def judged(folder: Path, judge: str) -> Outcome:
    return JUDGES[judge].judge(
        read_embedding_folder(folder), protocol("paper" if JUDGES[judge].comparable else "not-comparable"), 0
    )


@pytest.mark.parametrize("judge", OURS)
def test_an_infinite_score_is_none_with_its_reason(tmp_path, judge):
    folder = write_folder(tmp_path / "t", ROWS, noise=0.0, evaluation=["d_prime", "top1_acc"])
    outcome = judged(folder, judge)
    assert outcome.score is None and outcome.scores["d_prime"] is None and outcome.scores["top1_acc"] is not None
    assert list(outcome.undefined) == ["d_prime"]
    assert outcome.undefined["d_prime"].startswith("test: infinite, as every clip is ranked right for 6")
    assert not any("0.0 is given" in warning for warning in outcome.warnings)


@pytest.mark.parametrize("judge", OURS)
def test_a_class_without_test_clips_leaves_the_auc_undefined(tmp_path, judge):
    folder = write_folder(tmp_path / "t", ROWS, evaluation=["aucroc"])
    (folder / "labelvocabulary.csv").write_text("idx,label\n" + "".join(f"{k},{k + 60}\n" for k in range(5)))
    outcome = judged(folder, judge)
    assert outcome.score is None and outcome.undefined == {"aucroc": "test: no clip is labelled 64"}


@pytest.mark.parametrize("judge", OURS)
@pytest.mark.parametrize("always", [False, True])
def test_a_task_of_one_label_is_scored_by_every_judge(tmp_path, judge, always):
    """Present in some clips, or, of training clips, in all."""
    folder = write_folder(tmp_path / "t", ROWS, noise=0.1, evaluation=["mAP"], prediction_type="multilabel")
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,60\n")
    for split in ROWS:
        said = json.loads((folder / f"{split}.json").read_text())
        kept = {file: [60] if 60 in labels or (always and split != "test") else [] for file, labels in said.items()}
        (folder / f"{split}.json").write_text(json.dumps(kept))
    outcome = judged(folder, judge)
    assert outcome.score is not None and (always or outcome.score > 0.9)
    assert outcome.predictions["test"].prediction.shape == (16, 1)


def test_the_reasons_of_metrics():
    target = np.array([[1, 0, 1], [0, 0, 1]], np.float32)
    right, labels = np.array([[0.9, 0, 0], [0.1, 0, 0]], np.float32), ["a", "b", "c"]
    assert why_not_finite("aucroc", right, target, labels) == "no clip is labelled b"
    assert why_not_finite("aucroc", right[:, ::2], target[:, ::2], ["a", "c"]) == "every clip is labelled c"
    assert "ranked right for a" in why_not_finite("d_prime", right[:, :1], target[:, :1], ["a"])
    assert "ranked wrong for a" in why_not_finite("d_prime", -right[:, :1], target[:, :1], ["a"])
    event = {"label": "a", "start": 0.0, "end": 1.0}
    assert why_not_a_number({"x": []}, {"x": [event]}) == "no event was predicted"
    assert why_not_a_number({"x": [event]}, {}) == "there is no event to be found"


def test_a_quick_look_without_a_score_prints_json_and_a_table_that_says_why(tmp_path):
    folder = write_task(tmp_path / "tasks", "tones-v1-full", {"train": 16, "valid": 8, "test": 8})
    metadata = json.loads((folder / "task_metadata.json").read_text())
    (folder / "task_metadata.json").write_text(json.dumps({**metadata, "evaluation": ["d_prime"]}))
    request = Request(
        [str(write_module(tmp_path, "bands"))],
        tmp_path / "tasks",
        protocol=None,
        judge="probe-linear",
        seeds=[0],
        jobs=1,
        results=tmp_path / "results",
        embeddings_dir=tmp_path / "embeddings",
    )
    for summary in (evaluate(request), evaluate(request)):  # from the judge, and from the record that is there then
        assert json.loads(json.dumps(summary.as_dict(), allow_nan=False))["rows"][0]["mean"] is None
        said = " ".join(table(summary).split())
        assert "n.d." in said and "seed 0: d_prime (test: infinite" in said
