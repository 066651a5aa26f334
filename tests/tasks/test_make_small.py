"""The toy tasks: like the real ones in kind, learnable, the same for the same seed, and never taken for real."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hear_models import logmel_stats
from hear_models.errors import UsageError
from hear_models.tasks.check import check_tasks
from hear_models.tasks.known_tasks import known_tasks
from hear_models.tasks.make_small import TOYS, make_small
from hear_models.tasks.resample_task import resample_task
from hear_models.tasks.task import Task, TaskError, list_tasks, read_task

PITCH = "nsynth_pitch-v2.2.3-5h"
QUICK = ["beijing_opera", "nsynth_pitch", "fsd50k", "dcase2016_task2"]


@pytest.fixture(scope="module")
def toys(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("toys")
    make_small(out)
    return out


def test_the_ten_tasks_of_the_papers_and_an_event_task_are_made(toys):
    names = {task.name for task in list_tasks(toys)}
    assert names == {task.folder for task in known_tasks().values() if task.paper_name} | {
        "dcase2016_task2-hear2021-full"
    }
    assert len(list_tasks(toys, ["paper"])) == 10


def test_they_pass_the_check_and_are_never_taken_for_real(toys):
    for report in check_tasks(toys, full=True):
        assert report.ok and report.origin == "synthetic", report
        assert json.loads((toys / report.name / "task_metadata.json").read_text())["synthetic"] is True


def test_they_are_of_the_same_kind_as_the_real_ones(toys):
    for task in list_tasks(toys):
        known = known_tasks()[task.name]
        assert (task.embedding_type, task.prediction_type) == (known.embedding_type, known.prediction_type)
        assert (task.split_mode, task.splits, task.evaluation) == (known.split_mode, known.splits, known.evaluation)
        assert (task.sample_duration is None) == (known.clip_s is None)
        said = {type(label) for s in task.splits for entry in task.items(s).values() for label in entry}
        assert said == ({dict} if known.embedding_type == "event" else {int} if "integer" in kind(known) else {str})


def kind(known) -> str:
    return "integer" if known.folder.startswith(("nsynth", "libricount")) else "string"


def test_lengths_vary_where_the_real_ones_do(toys):
    lengths = [soundfile.info(path).duration for path in (toys / "fsd50k-v1.0-full").rglob("*.wav")]
    assert 0.3 <= min(lengths) < 0.4 and 1.6 < max(lengths) <= 2.0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        make_small(tmp_path / folder, seed, QUICK)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) > 200
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
    wavs = {folder: {path.read_bytes() for path in (tmp_path / folder).rglob("*.wav")} for folder in "ac"}
    assert not wavs["a"] & wavs["c"]


def test_clips_are_no_copies_of_each_other_and_are_heard(toys):
    for task in list_tasks(toys):
        clips = [path.read_bytes() for path in task.folder.rglob("*.wav")]
        assert len(set(clips)) == len(clips), task.name
        for path in task.folder.rglob("*.wav"):
            samples, _ = soundfile.read(path)
            assert 1e-4 < np.abs(samples).max() <= 1, path


def test_what_is_there_is_kept_and_other_arguments_are_refused(tmp_path):
    (folder,) = make_small(tmp_path, 0, ["nsynth_pitch"])
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    make_small(tmp_path, 0, ["nsynth_pitch"])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    with pytest.raises(UsageError, match="made with other arguments"):
        make_small(tmp_path, 1, ["nsynth_pitch"])
    (tmp_path / "beijing_opera-v1.0-hear2021-full").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        make_small(tmp_path, 0, ["beijing_opera"])
    with pytest.raises(UsageError, match="no toy task 'gtzan'"):
        make_small(tmp_path, 0, ["gtzan"])
    with pytest.raises(UsageError, match="8000 Hz"):
        make_small(tmp_path, 0, ["esc50"], [8000])


def embedded(task: Task, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Means of log-mel bands [clips, 80], and which labels each clip has [clips, labels]."""
    model = logmel_stats.load_model()
    items = task.items(split)
    clips = [torch.from_numpy(soundfile.read(task.audio(16000, split, f), dtype="float32")[0]) for f in items]
    means = torch.stack(model.embed_clips(clips)).numpy()[:, :80]
    return means, np.array([[name in map(str, said) for name in task.labels] for said in items.values()])


def score(task: Task) -> tuple[float, float]:
    """Accuracy (multilabel: mAP) of ridge regression on mean log-mels, and chance."""
    splits = {split: embedded(task, split) for split in task.splits}
    tests = ["test"] if "test" in splits else list(splits)
    reached = []
    for test in tests:
        x = np.concatenate([splits[split][0] for split in splits if split != test])
        y = np.concatenate([splits[split][1] for split in splits if split != test]).astype(float)
        mean, spread = x.mean(0), x.std(0) + 1e-6
        x = (x - mean) / spread
        weights = np.linalg.solve(x.T @ x + 50 * np.eye(80), x.T @ (y - y.mean(0)))
        guess, truth = ((splits[test][0] - mean) / spread) @ weights + y.mean(0), splits[test][1]
        if task.prediction_type == "multiclass":
            reached.append(np.mean(guess.argmax(1) == truth.argmax(1)))
            continue
        ranked = np.take_along_axis(truth, np.argsort(-guess, axis=0), axis=0)
        precision = np.cumsum(ranked, axis=0) / np.arange(1, len(ranked) + 1)[:, None]
        reached.append(np.mean((precision * ranked).sum(0) / ranked.sum(0)))
    chance = 1 / len(task.labels) if task.prediction_type == "multiclass" else truth.mean()
    return float(np.mean(reached)), float(chance)


def test_mean_log_mels_learn_them_but_not_perfectly(toys):
    """What a judge is tried on must have something to learn, and something to lose."""
    scores = {task.name: score(task) for task in list_tasks(toys, ["paper"])}
    assert sum(reached > 2 * chance for reached, chance in scores.values()) >= 9, scores
    assert all(reached > 1.3 * chance for reached, chance in scores.values()), scores
    assert all(reached < 0.95 for reached, _ in scores.values()), scores


def test_every_toy_has_labels_of_the_published_task():
    for toy in TOYS:
        assert len(toy.labels) <= known_tasks()[toy.folder].n_classes


# ------------------------------------------------------------------------------------------------------- resampling


@pytest.fixture
def at_48_khz(tmp_path) -> Task:
    (folder,) = make_small(tmp_path / "tasks", 0, ["nsynth_pitch"], [48000])
    return read_task(folder)


def test_a_task_at_48_khz_gets_16_khz_beside_it(at_48_khz):
    assert resample_task(at_48_khz, 16000) == 120
    assert at_48_khz.rates() == [16000, 48000]
    (report,) = check_tasks(at_48_khz.folder.parent, full=True)
    assert report.ok and not report.findings and report.rates == (16000, 48000)
    file = next(iter(at_48_khz.items("test")))
    low, high = (soundfile.read(at_48_khz.audio(rate, "test", file))[0] for rate in (16000, 48000))
    direct = np.fft.irfft(np.fft.rfft(high)[: len(low) // 2 + 1], len(low)) / 3  # an ideal low-pass
    inner = slice(500, -500)
    assert np.corrcoef(low[inner], direct[inner])[0, 1] > 0.999


def test_a_stopped_resampling_goes_on_and_shows_no_half_folder(at_48_khz, monkeypatch):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resample_task(at_48_khz, 16000, progress=stop)
    assert not (at_48_khz.folder / "16000").exists()
    assert resample_task(at_48_khz, 16000) == 0, "the 120 clips of the first part were there"
    assert at_48_khz.rates() == [16000, 48000]


def test_only_clips_that_lack_are_made(at_48_khz):
    resample_task(at_48_khz, 16000)
    at_48_khz.audio(16000, "test", next(iter(at_48_khz.items("test")))).unlink()
    assert resample_task(at_48_khz, 16000) == 1
    assert resample_task(at_48_khz, 16000) == 0


def test_a_rate_that_cannot_be_made_is_said(at_48_khz):
    with pytest.raises(UsageError, match="8000 Hz is no rate"):
        resample_task(at_48_khz, 8000)
    with pytest.raises(UsageError, match="no 44100 Hz to resample from"):
        resample_task(at_48_khz, 16000, source_rate=44100)
    with pytest.raises(TaskError, match="no audio at another rate"):
        resample_task(at_48_khz, 48000)
