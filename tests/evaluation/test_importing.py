"""Results that the real kit wrote elsewhere come in unchanged, or not at all."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from hear_models.errors import HearModelsError, UsageError
from hear_models.evaluation.board.importing import ImportedError, aggregate_folds, find_scores, import_folder
from hear_models.evaluation.board.statistics import interval
from hear_models.evaluation.runs.record import parse_record, record_bytes

GOLDEN = Path(__file__).parent.parent / "golden" / "hear_scores"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text("utf-8"))
TONIC, PITCH = "mridangam_tonic-v1.5-full", "nsynth_pitch-v2.2.3-5h"
SOURCE = GOLDEN / "seeds" / "hear_configs.logmel_r1_00"


@pytest.fixture(scope="module")
def imported():
    return import_folder(GOLDEN / "seeds")


def test_every_primary_score_is_the_kits(imported):
    found = {(r.model.name, r.task.name, f"{r.seed:02d}"): r.score for r in imported}
    expected = {
        (model, task, seed): score
        for model, tasks in EXPECTED["scores"].items()
        for task, seeds in tasks.items()
        for seed, score in seeds.items()
    }
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_table_is_what_the_papers_own_script_printed(imported):
    names = {"FSD50k": "fsd50k-v1.0-full", "Mridangam-T": TONIC, "NSynth-Pitch-5h": PITCH}
    for model, tasks in EXPECTED["official_stats_5_decimals"].items():
        for short, (mean, width) in tasks.items():
            ours = interval(r.score for r in imported if (r.model.name, r.task.name) == (model, names[short]))
            assert (f"{ours.mean:.5f}", f"{ours.half_width:.5f}") == (mean, width)


def test_aggregated_scores_follow_from_the_folds():
    files = list(GOLDEN.glob(f"seeds/*/{TONIC}/test.predicted-scores.json"))
    assert len(files) == 16
    for path in files:
        content = json.loads(path.read_text("utf-8"))
        computed = aggregate_folds({name: fold for name, fold in content.items() if name.startswith("fold")})
        assert computed == pytest.approx(content["aggregated_scores"], rel=1e-6, nan_ok=True)


def test_infinity_and_nan_become_null_in_a_strict_record(imported):
    record = next(r for r in imported if r.model.name == "meanmel" and r.task.name == TONIC and r.seed == 2)
    d_primes = [fold.scores["d_prime"] for fold in record.folds]
    assert d_primes == [None] * 5  # Infinity four times, NaN once
    assert record.scores["d_prime"] is None
    assert record.scores["top1_acc"] == pytest.approx(0.41666665971279143)
    assert parse_record(record_bytes(record).decode(), "here") == record


def test_what_the_kit_does_not_say_is_null(imported):
    record = imported[0]
    assert record.judge.name == "imported"
    assert record.judge.threads is None
    assert (record.device, record.finished, record.code_sha256, record.embeddings) == (None, None, None, None)
    assert (record.predictions, record.wall_s, record.task.data_sha256) == (None, None, None)
    assert record.versions.torch is None
    assert record.task.origin == "unofficial"  # a HEAR name without the data that would prove it
    assert "not known" in record.warnings[0]


def test_hyper_parameters_are_readable(imported):
    choice = imported[0].hyper_parameters
    assert (choice["initialization"], choice["hidden_norm"], choice["lr"]) == ("xavier_normal", "BatchNorm1d", 0.0001)


def copy(target: Path, name: str, edit=None) -> Path:
    """A result folder of the kit's own layout: EMBEDDINGS/MODULE/TASK."""
    shutil.copytree(SOURCE / TONIC, target / name / TONIC)
    path = target / name / TONIC / "test.predicted-scores.json"
    if edit:
        content = json.loads(path.read_text("utf-8"))
        edit(content)
        path.write_text(json.dumps(content))
    return path


def test_a_folder_of_the_kits_own_layout_is_named_by_its_module(tmp_path):
    def two_layers(content):
        content["hparams"]["hidden_layers"] = 2

    copy(tmp_path, "my_module-timestamps=official", two_layers)
    (record,) = import_folder(tmp_path)
    assert (record.model.name, record.protocol, record.seed) == ("my_module-timestamps=official", "hear", 42)
    assert "42 is assumed" in record.warnings[1]


def test_a_choice_that_either_protocol_may_have_made_asks_which(tmp_path):
    copy(tmp_path, "module")
    with pytest.raises(UsageError, match="--imported-protocol hear"):
        import_folder(tmp_path)
    assert [record.protocol for record in import_folder(tmp_path, "hear")] == ["hear"]


def test_a_protocol_that_cannot_have_made_it_is_refused(tmp_path):
    def own_grid(content):
        content["hparams"]["lr"] = 0.05

    copy(tmp_path, "module", own_grid)
    with pytest.raises(HearModelsError, match=r"lr=0.05"):
        import_folder(tmp_path, "paper")


def test_folders_with_the_data_beside_get_their_origin_from_them(tmp_path):
    path = copy(tmp_path, "hear_configs.m_r2_07")
    metadata = {
        "task_name": "mridangam_tonic",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "presplit_kfold",
        "splits": ["fold00", "fold01", "fold02"],
        "sample_duration": 1.0,
        "evaluation": ["top1_acc"],
        "synthetic": True,
        "version": "v1.5",
        "mode": "full",
    }
    (path.parent / "task_metadata.json").write_text(json.dumps(metadata))
    (path.parent / "labelvocabulary.csv").write_text("idx,label\n0,a\n1,b\n")
    for fold, clips in (("fold00", 2), ("fold01", 1), ("fold02", 1)):
        (path.parent / f"{fold}.json").write_text(json.dumps({f"{fold}_{i}.wav": ["a"] for i in range(clips)}))
    (record,) = import_folder(tmp_path)
    assert (record.task.origin, record.task.counts) == ("synthetic", {"fold00": 2, "fold01": 1, "fold02": 1})
    assert (record.model.name, record.seed) == ("m_r2", 7)


@pytest.mark.parametrize("what", ["mean", "fold", "text", "no folds", "no hparams", "a list", "cut", "boolean"])
def test_a_file_whose_numbers_contradict_each_other_is_refused(what, tmp_path):
    def edit(content):
        if what == "mean":
            content["aggregated_scores"]["test_score_mean"] = 0.99
        elif what == "fold":
            content["fold02"]["test_score"] = 0.99
        elif what == "text":
            content["fold02"]["test_score"] = "0.5"
        elif what == "boolean":
            content["fold02"]["test_score"] = True
        elif what == "no folds":
            for name in [name for name in content if name.startswith("fold")]:
                del content[name]
        elif what == "no hparams":
            del content["hparams"]

    path = copy(tmp_path, "hear_configs.m_r1_00", edit)
    if what == "a list":
        path.write_text("[]")
    elif what == "cut":
        path.write_text(path.read_text()[:300])
    with pytest.raises(ImportedError, match=r"test.predicted-scores.json"):
        import_folder(tmp_path)


def test_pickles_beside_the_scores_are_not_opened(tmp_path):
    """A pickle that would write a file when it is opened."""
    path = copy(tmp_path, "hear_configs.m_r1_00")
    bomb = b"cos\nsystem\n(S'touch " + str(tmp_path / "opened").encode() + b"'\ntR."
    for name in ("test.target-labels.pkl", "fold00.predictions.pkl"):
        (path.parent / name).write_bytes(bomb)
    import_folder(tmp_path)
    assert not (tmp_path / "opened").exists()


def test_linked_folders_are_followed_and_circles_end(tmp_path):
    """The papers' folders are links; a link to a folder above must not be walked for ever."""
    real = copy(tmp_path / "real", "hear_configs.m_r1_00")
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "hear_configs.m_r1_01").symlink_to(real.parent.parent, target_is_directory=True)
    (linked / "circle").symlink_to(linked, target_is_directory=True)
    found = list(find_scores(linked))
    assert linked / "hear_configs.m_r1_01" / TONIC / "test.predicted-scores.json" in found
    assert len(found) < 20


def test_folds_without_any_number_stay_nan():
    computed = aggregate_folds({"fold00": {"test_d_prime": math.nan}, "fold01": {"test_d_prime": math.nan}})
    assert all(math.isnan(value) for value in computed.values())
