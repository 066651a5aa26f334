"""The quick look: right where scikit-learn alone would be right, on the task's own splits, and marked as what it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hear_models.errors import UsageError
from hear_models.evaluation.embeddings.folder import EmbeddingFolder, Split, read_embedding_folder
from hear_models.evaluation.judges import probe
from hear_models.evaluation.judges.outcome import Outcome
from hear_models.evaluation.judges.protocols import QUICK_LOOK
from hear_models.evaluation.judges.table import JUDGES
from hear_models.metrics.clips import mean_average_precision, top1_accuracy


def write_folder(
    path: Path, splits: dict[str, tuple[np.ndarray, list]], labels: list[str], **changes
) -> EmbeddingFolder:
    """An embedding folder as the kit lays it out; `splits`: name → (embeddings in packed order, labels a row)."""
    from hear_models.evaluation.embeddings.folder import packing_order

    path.mkdir()
    names = {split: [f"{split}{k}.wav" for k in range(len(x))] for split, (x, _) in splits.items()}
    packed = packing_order(names)
    for split, (x, of_rows) in splits.items():
        table = {file: of_rows[packed[split].index(file)] for file in names[split]}
        (path / f"{split}.json").write_text(json.dumps(table))
        (path / f"{split}.embedding-dimensions.json").write_text(json.dumps(list(x.shape)))
        x.astype("<f4").tofile(path / f"{split}.embeddings.npy")
    metadata = {
        "task_name": "t",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest" if "train" in splits else "new_split_kfold",
        "splits": list(splits),
        "evaluation": ["top1_acc"],
        **changes,
    }
    (path / "task_metadata.json").write_text(json.dumps(metadata))
    (path / "labelvocabulary.csv").write_text("idx,label\n" + "".join(f"{k},{v}\n" for k, v in enumerate(labels)))
    return read_embedding_folder(path)


def judged(folder: EmbeddingFolder, kind: str, seed: int = 0, random_labels: bool = False) -> Outcome:
    """A quick look as a run asks for it."""
    return JUDGES[f"probe-{kind}"].judge(folder, QUICK_LOOK, seed, random_labels=random_labels)


def clusters(generator: np.random.Generator, rows: int, classes: int = 3) -> tuple[np.ndarray, list]:
    """Rows around a centre of their class; class k is labelled with the integer 10 + k."""
    y = np.arange(rows) % classes
    x = 4.0 * np.eye(8)[y] + generator.standard_normal((rows, 8)) + 3.0
    return x, [[10 + int(k)] for k in y]


@pytest.fixture
def folds(tmp_path) -> EmbeddingFolder:
    generator = np.random.default_rng(0)
    return write_folder(
        tmp_path / "task", {f"fold{k:02d}": clusters(generator, 20 + k) for k in range(3)}, ["10", "11", "12"]
    )


@pytest.mark.parametrize("kind", probe.FITS)
def test_each_fold_is_tested_by_a_probe_that_never_saw_it(folds, kind, monkeypatch):
    seen: list[tuple[int, int]] = []
    fit = probe.FITS[kind]

    def spy(x, y, test, multiclass):
        assert not (x[:, None] == test[None]).all(-1).any(), "a test row was trained on"
        seen.append((len(x), len(test)))
        return fit(x, y, test, multiclass)

    monkeypatch.setitem(probe.FITS, kind, spy)
    outcome = judged(folds, kind)
    assert seen == [(43, 20), (42, 21), (41, 22)]
    assert [fold.split for fold in outcome.folds] == ["fold00", "fold01", "fold02"]
    assert outcome.judge == f"probe-{kind}"
    assert outcome.score == pytest.approx(np.mean([fold.scores["top1_acc"] for fold in outcome.folds]))
    assert outcome.score > 0.85
    for name, rows in outcome.predictions.items():
        assert rows.files == folds.split(name).files
        assert rows.prediction.dtype == np.float32 and rows.prediction.shape == rows.target.shape
        np.testing.assert_allclose(rows.prediction.sum(axis=1), 1.0, rtol=1e-5)


def test_linear_is_logistic_regression_on_standardised_features(folds):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train = [folds.split(name) for name in ("fold01", "fold02")]
    x = np.concatenate([split.embeddings for split in train])
    y = [labels[0] for split in train for labels in split.labels]
    expected = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(x, y)
    found = judged(folds, "linear").predictions["fold00"].prediction
    np.testing.assert_allclose(found, expected.predict_proba(folds.split("fold00").embeddings), rtol=1e-5, atol=1e-6)


def test_linear_on_several_labels_is_one_regression_per_label(tmp_path):
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(1)
    splits = {}
    for name, rows in (("train", 60), ("valid", 20), ("test", 30)):
        y = generator.random((rows, 3)) < 0.4
        x = (
            y @ generator.standard_normal((3, 8)) * 0
            + 2.0 * np.pad(y, ((0, 0), (0, 5)))
            + generator.standard_normal((rows, 8))
        )
        splits[name] = (x, [[label for label, there in zip("abc", row, strict=True) if there] for row in y])
    folder = write_folder(
        tmp_path / "task", splits, ["a", "b", "c"], prediction_type="multilabel", evaluation=["mAP", "top1_acc"]
    )
    outcome = judged(folder, "linear")
    train: list[Split] = [folder.split(name) for name in ("train", "valid")]
    x = np.concatenate([split.embeddings for split in train])
    y = np.concatenate([probe.target_matrix(split, folder.labels) for split in train])
    scaler = StandardScaler().fit(x)
    expected = OneVsRestClassifier(LogisticRegression(max_iter=500)).fit(scaler.transform(x), y)
    test = folder.split("test")
    target = probe.target_matrix(test, folder.labels)
    np.testing.assert_allclose(
        outcome.predictions["test"].prediction, expected.predict_proba(scaler.transform(test.embeddings)), atol=0.02
    )
    assert outcome.scores["mAP"] == pytest.approx(
        mean_average_precision(outcome.predictions["test"].prediction, target), abs=1e-6
    )
    assert outcome.score > 0.8


def test_knn_does_not_care_how_long_a_vector_is(folds, tmp_path):
    generator = np.random.default_rng(2)
    scaled = {
        name: (
            folds.split(name).embeddings * generator.uniform(0.1, 9, (len(folds.split(name).files), 1)),
            folds.split(name).labels,
        )
        for name in folds.splits
    }
    other = write_folder(tmp_path / "scaled", scaled, list(folds.labels))
    plain, long = (judged(folder, "knn").predictions["fold00"] for folder in (folds, other))
    np.testing.assert_array_equal(plain.prediction, long.prediction)
    assert set(np.unique((plain.prediction * probe.NEIGHBOURS).round(4))) <= set(range(11))
    assert top1_accuracy(plain.prediction, plain.target) > 0.85


def test_few_rows_one_class_and_a_class_without_rows_give_scores(tmp_path):
    x = np.random.default_rng(3).standard_normal((4, 5))
    one = [["a"]] * 4
    folder = write_folder(
        tmp_path / "one", {"train": (x, one), "valid": (x[:1], one[:1]), "test": (x, one)}, ["a", "b"]
    )
    for kind in probe.FITS:
        assert judged(folder, kind).score == 1.0


def test_a_shuffled_label_costs_the_score_and_the_seed_decides_which(folds):
    honest = judged(folds, "linear").score
    shuffled = [judged(folds, "linear", seed, random_labels=True) for seed in (0, 0, 1)]
    assert all(outcome.score < honest - 0.2 for outcome in shuffled)
    same, again, other = (outcome.predictions["fold00"].prediction for outcome in shuffled)
    assert np.array_equal(same, again) and not np.array_equal(same, other)


def test_event_tasks_and_unknown_metrics_are_refused(folds, tmp_path):
    x, y = clusters(np.random.default_rng(0), 12)
    splits = {name: (x, y) for name in ("train", "valid", "test")}
    event = write_folder(tmp_path / "event", splits, ["10", "11", "12"], embedding_type="event")
    with pytest.raises(UsageError, match="event"):
        judged(event, "knn")
    odd = write_folder(tmp_path / "odd", splits, ["10", "11", "12"], evaluation=["beauty"])
    with pytest.raises(UsageError, match="beauty"):
        judged(odd, "knn")
