"""What `evaluate` looks at before it embeds: the task's clips and metrics, and somebody's module on two of them."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tone_tasks import RATE, write_task

from hear_models.evaluation.runs.record import read_record
from hear_models.evaluation.runs.run import evaluate
from hear_models.evaluation.runs.settings import Request

HEARS = """
    import torch

    class Model(torch.nn.Module):
        sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 8, 8
        def __init__(self):
            super().__init__()
            self.drop = torch.nn.Dropout(0.5)

    def load_model(model_file_path=""):
        return Model().eval()

    def get_timestamp_embeddings(audio, model):
        n = max(1, audio.shape[1] // 400)
        steps = audio[:, : 400 * n].reshape(len(audio), n, 8, 50).std(3)
        return steps, (torch.arange(n) * 25.0 + 12.5).expand(len(audio), n)

    def get_scene_embeddings(audio, model):
        return model.drop(get_timestamp_embeddings(audio, model)[0].mean(1))
"""


def asked(folder: Path, text: str = HEARS, **changes) -> Request:
    (folder / "my_ears.py").write_text(textwrap.dedent(text))
    options = {"protocol": None, "judge": "probe-knn", "seeds": [0], "jobs": 1, **changes}
    return Request(
        [str(folder / "my_ears.py")],
        folder / "tasks",
        results=folder / "results",
        embeddings_dir=folder / "embeddings",
        **options,
    )


@pytest.fixture
def scenes(tmp_path) -> Path:
    return write_task(tmp_path / "tasks", "tones-v1-full", {"train": 8, "valid": 4, "test": 4})


@pytest.fixture
def events(tmp_path) -> Path:
    """Bursts of noise in clips of 2 s."""
    folder = tmp_path / "tasks" / "bursts-v1-full"
    for split in ("train", "valid", "test"):
        (folder / str(RATE) / split).mkdir(parents=True)
        table = {}
        for k in range(3):
            samples = 0.01 * np.random.default_rng(k).standard_normal(2 * RATE)
            samples[8000 : 8000 + 4000 * (k + 1)] *= 50
            soundfile.write(folder / str(RATE) / split / f"{split}{k}.wav", samples, RATE)
            table[f"{split}{k}.wav"] = [{"label": "burst", "start": 500, "end": 500 + 250 * (k + 1)}]
        (folder / f"{split}.json").write_text(json.dumps(table))
    metadata = {
        "task_name": "bursts",
        "embedding_type": "event",
        "prediction_type": "multilabel",
        "split_mode": "trainvaltest",
        "sample_duration": 2.0,
        "evaluation": ["segment_1s_er"],
        "splits": ["train", "valid", "test"],
    }
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,burst\n")
    return folder


def failure(request: Request) -> str:
    """Why nothing was done; nothing was embedded either."""
    summary = evaluate(request)
    assert summary.done == 0 and summary.jobs_failed == summary.jobs
    assert not list(Path(request.embeddings_dir).rglob("*.npy"))
    return " ".join(failed.error for failed in summary.failed)


# ------------------------------------------------------------------------------------------------------- the task
def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


SPOILED = {
    "cut": (cut, "cut off"),
    "shorter": (lambda p: soundfile.write(p, np.ones(2000) / 9, RATE), "another length than sample_duration"),
    "longer": (lambda p: soundfile.write(p, np.ones(8000) / 9, RATE), "another length than sample_duration"),
    "a pointer": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid x\n"), "Git LFS"),
    "a web page": (lambda p: p.write_text("<html>404</html>"), "no audio"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_task_with_a_spoiled_clip_is_not_scored(scenes, tmp_path, name):
    spoil, words = SPOILED[name]
    spoil(scenes / str(RATE) / "test" / "test_001.wav")
    error = failure(asked(tmp_path))
    assert words in error and "test_001.wav" in error and "tasks check" in error


def test_a_spoiled_task_stops_no_other_and_an_unknown_metric_is_told_first(scenes, tmp_path):
    odd = write_task(tmp_path / "tasks", "odd-v1-full", {"train": 8, "valid": 4, "test": 4})
    metadata = json.loads((odd / "task_metadata.json").read_text())
    (odd / "task_metadata.json").write_text(json.dumps({**metadata, "evaluation": ["f1_macro"]}))
    summary = evaluate(asked(tmp_path))
    assert summary.done == 1 and summary.jobs_failed == 1
    assert "odd" in summary.failed[0].name and "'f1_macro' is no metric" in summary.failed[0].error
    assert not (tmp_path / "embeddings" / "my_ears" / odd.name).exists()


def test_what_stops_the_released_kit_only_does_not_stop_us(scenes, tmp_path):
    metadata = json.loads((scenes / "task_metadata.json").read_text())
    del metadata["task_name"]
    (scenes / "task_metadata.json").write_text(json.dumps(metadata))
    assert evaluate(asked(tmp_path)).done == 1


# ----------------------------------------------------------------------------------------------------- the module
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("(torch.arange(n) * 0.025)", "seconds"),
        ("(torch.arange(n) * 400.0)", "past the end"),
        ("(1000 - torch.arange(n) * 25.0)", "rising"),
        ("(torch.arange(n) * float('nan'))", "finite"),
    ],
)
def test_times_that_are_no_milliseconds_are_told_before_anything_is_embedded(events, tmp_path, wrong, words):
    text = HEARS.replace("(torch.arange(n) * 25.0 + 12.5)", wrong)
    error = failure(asked(tmp_path, text, judge="builtin", protocol="paper"))
    assert words in error and "milliseconds" in error


def test_training_mode_counts_where_something_asks_for_it(scenes, tmp_path):
    error = failure(asked(tmp_path, HEARS.replace("Model().eval()", "Model()")))
    assert "training mode" in error and "model.eval()" in error


def test_training_mode_is_nobodys_business_where_nothing_asks_for_it(scenes, tmp_path):
    text = HEARS.replace("Model().eval()", "Model()").replace("model.drop(", "(")
    assert evaluate(asked(tmp_path, text)).done == 1


@pytest.mark.parametrize(("heard", "part"), [("audio[:, :48000]", "last"), ("audio[:, -48000:]", "first")])
def test_a_part_of_a_clip_that_is_not_heard_is_told_and_recorded(tmp_path, heard, part, capsys):
    folder = write_task(tmp_path / "tasks", "tones-v1-full", {"train": 4, "valid": 4, "test": 4})
    metadata = json.loads((folder / "task_metadata.json").read_text())
    (folder / "task_metadata.json").write_text(json.dumps({**metadata, "sample_duration": 5.0}))
    for k, path in enumerate(sorted(folder.rglob("*.wav"))):
        soundfile.write(path, 0.1 * np.random.default_rng(k).standard_normal(5 * RATE), RATE)
    text = HEARS.replace("get_timestamp_embeddings(audio, model)[0]", f"get_timestamp_embeddings({heard}, model)[0]")
    evaluate(asked(tmp_path, text))
    (path,) = (tmp_path / "results").rglob("*.json")
    (warning,) = [text for text in read_record(path).warnings if "does not hear" in text]
    assert f"the {part} 1 s of a clip of 5 s" in warning
