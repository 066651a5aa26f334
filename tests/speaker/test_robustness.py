"""Dropped bins and frames: nothing dropped is the model itself; all dropped is the model's answer to nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hear_models import ftcbam
from hear_models.errors import UsageError
from hear_models.speaker.robustness import eer_when_dropped, embed_dropped
from hear_models.speaker.trials import Trial
from hear_models.subjects.subject import resolve

DEMO = Path(__file__).parents[2] / "hear_models" / "_demo"
TRIALS = [
    Trial(1, "flute_1.flac", "flute_2.flac"),
    Trial(0, "flute_1.flac", "guitar_1.flac"),
    Trial(1, "guitar_1.flac", "guitar_2.flac"),
    Trial(0, "flute_2.flac", "guitar_2.flac"),
]


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    return torch.from_numpy(soundfile.read(DEMO / "flute_1.flac", dtype="float32")[0])


@pytest.fixture(scope="module")
def model() -> ftcbam.Model:
    return ftcbam.Model(ftcbam.Config(widths=(4, 6), depths=(1, 1), reduction=2, local_dim=8, embed_dim=8))


def test_nothing_dropped_is_the_model_itself(model, clip):
    whole = model.get_scene_embeddings(clip[None])[0]
    torch.testing.assert_close(embed_dropped(model, clip, 0.0, 0.0, 1), whole)
    floor = resolve("logmel-stats").load("cpu").model
    torch.testing.assert_close(embed_dropped(floor, clip, 0.0, 0.0, 1), floor.get_scene_embeddings(clip[None])[0])


def test_everything_dropped_is_the_answer_to_silence(model, clip):
    silence = model.get_scene_embeddings(torch.zeros(1, len(clip)))[0]
    torch.testing.assert_close(embed_dropped(model, clip, 1.0, 0.0, 1), silence)
    torch.testing.assert_close(embed_dropped(model, clip, 0.0, 1.0, 1), silence)


def test_what_is_dropped_depends_on_the_seed_alone(model, clip):
    once, again, other = (embed_dropped(model, clip, 0.3, 0.3, seed) for seed in (5, 5, 6))
    assert torch.equal(once, again) and not torch.equal(once, other)


def test_rates_are_given_for_each_share_and_begin_with_the_models_own():
    loaded = resolve("mwmae-nano").load("cpu")
    seen = []
    rates = eer_when_dropped(loaded, TRIALS, DEMO, [0.0, 0.9], progress=lambda done, total: seen.append((done, total)))
    assert list(rates) == ["bins", "frames", "both"] and seen[-1] == (4, 4)
    assert len({own for own, _ in rates.values()}) == 1
    assert all(0 <= rate <= 1 for pair in rates.values() for rate in pair)
    assert np.isfinite([rate for pair in rates.values() for rate in pair]).all()


def test_a_foreign_module_is_refused(tmp_path):
    (tmp_path / "other_module.py").write_text(
        "import torch\nclass M(torch.nn.Module):\n    sample_rate = 16000\ndef load_model(path=''):\n    return M()\n"
        "def get_scene_embeddings(audio, model):\n    return audio[:, :2]\n"
        "def get_timestamp_embeddings(audio, model):\n    return None\n"
    )
    with pytest.raises(UsageError, match="cannot be reached"):
        eer_when_dropped(resolve(str(tmp_path / "other_module.py")).load("cpu"), TRIALS, DEMO, [0.1])
