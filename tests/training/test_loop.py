"""A run that is stopped, killed or resumed computes what an uninterrupted one does; bad recipes say why."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hear_models.checkpoints.licences import licence_note
from hear_models.checkpoints.safetensors_file import read_checkpoint, read_header, write_checkpoint
from hear_models.errors import CheckpointError, UsageError
from hear_models.training.crops import Crops
from hear_models.training.features import Source
from hear_models.training.loop import pretrain
from hear_models.training.recipe import Data, Optimiser, Recipe, read_recipe, recipe_names
from hear_models.training.run import Run
from hear_models.zoo import load_model

TINY = """
family = "mwmae"
seed = 3

[model]
encoder_width = 24
encoder_depth = 1
encoder_heads = 3
decoder_width = 16
decoder_depth = 1

[data]
alone = 0.3

[optimiser]
steps = 12
warmup_steps = 2
batch = 4
base_rate = 0.05
"""


@pytest.fixture
def recordings(tmp_path) -> Path:
    """Six recordings between 0.2 and 3 s, and a file that is none."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i, seconds in enumerate((0.2, 0.4, 0.7, 1.1, 2.3, 3.0)):
        soundfile.write(folder / f"{i}.wav", 0.1 * rng.standard_normal(int(16000 * seconds)), 16000)
    (folder / "notes.wav").write_text("no audio")
    return folder


@pytest.fixture
def recipe(tmp_path) -> Recipe:
    (tmp_path / "tiny.toml").write_text(TINY)
    return read_recipe(str(tmp_path / "tiny.toml"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder / "model.safetensors", decoder=True).state_dict()


def test_interrupted_run_ends_with_the_same_bits(recipe, recordings, tmp_path):
    said: list[str] = []
    whole = Run(tmp_path / "whole", (recordings,), log_every=4)
    assert pretrain(recipe, whole, said.append) == 12
    assert any("notes.wav" in line for line in said)
    parts = Run(tmp_path / "parts", (recordings,), log_every=4, stop_after=5)
    assert [pretrain(recipe, parts, said.append) for _ in range(3)] == [5, 10, 12]
    ours, theirs = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
    assert load_model(tmp_path / "whole" / "model.safetensors").checkpoint.trained
    steps = [json.loads(line)["step"] for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert steps == [4, 8, 12]


def test_killed_run_resumes_from_its_last_save(recipe, recordings, tmp_path):
    command = [sys.executable, "-m", "hear_models.cli.main", "pretrain", str(tmp_path / "tiny.toml"), "--data"]
    command += [
        str(recordings),
        "--output",
        str(tmp_path / "killed"),
        "--device",
        "cpu",
        "--save-every",
        "1",
        "--log-every",
    ]
    command += ["1", "--steps", "4000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    state = tmp_path / "killed" / "state.safetensors"
    deadline = time.monotonic() + 60
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state.exists()
    again = subprocess.run([*command, "--stop-after", "2"], capture_output=True, text=True, check=True)
    first = int(again.stdout.split("updates ")[1].split()[0])
    assert first > 0
    lines = [json.loads(line) for line in (tmp_path / "killed" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, first + 3))
    assert not [name for name in os.listdir(tmp_path / "killed") if "part" in name]


def test_weights_that_training_began_with_are_named_and_their_licence_stays(recipe, recordings, tmp_path):
    """Also when the run was stopped: somebody else's weights do not become one's own by training on."""
    pretrain(recipe, Run(tmp_path / "first", (recordings,), stop_after=1), lambda line: None)
    theirs = read_checkpoint(tmp_path / "first" / "model.safetensors", ("encoder", "decoder"))
    base = tmp_path / "theirs.safetensors"
    note, source = licence_note("NTT evaluation licence"), {"file": "checkpoint_5", "sha256": "ab" * 32}
    sha256 = write_checkpoint(
        base, family="mwmae", config=theirs.config, tensors=theirs.tensors, notes=note, source=source
    )
    for _ in range(2):
        pretrain(recipe, Run(tmp_path / "second", (recordings,), init=base, stop_after=1), lambda line: None)
    pretrain(recipe, Run(tmp_path / "second", (recordings,), stop_after=1), lambda line: None)  # without --init
    notes = read_header(tmp_path / "second" / "model.safetensors").notes
    assert notes["started_from"]["sha256"] == sha256 and notes["started_from"]["source"] == source
    assert notes["step"] == 3 and notes["licence"]["sharing"] == "forbidden"


def test_training_lowers_the_loss(recipe, recordings, tmp_path):
    longer = replace(recipe, optimiser=Optimiser(60, 5, 8, 0.1, precision="float32"))
    pretrain(longer, Run(tmp_path / "run", (recordings,), log_every=20), lambda line: None)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.9 * losses[0]


def test_run_of_another_recipe_is_refused(recipe, recordings, tmp_path):
    pretrain(recipe, Run(tmp_path / "run", (recordings,), stop_after=1), lambda line: None)
    other = replace(recipe, seed=4)
    with pytest.raises(UsageError, match="another recipe"):
        pretrain(other, Run(tmp_path / "run", (recordings,), stop_after=1), lambda line: None)


def test_damaged_state_is_refused(recipe, recordings, tmp_path):
    run = Run(tmp_path / "run", (recordings,), stop_after=1)
    pretrain(recipe, run, lambda line: None)
    state = tmp_path / "run" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        pretrain(recipe, run, lambda line: None)


@pytest.mark.parametrize(
    "text, what",
    [
        ("seed = 1", "family"),
        ('family = "mwmae"\nfoo = 1', "foo"),
        ('family = "mwmae"\n[optimiser]\nsteps = "many"', "steps"),
        ('family = "mwmae"\n[data]\ngap = 3', "gap"),
        ("family = ", "TOML"),
    ],
)
def test_wrong_recipe_is_one_sentence_that_names_the_field(text, what, tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=what):
        read_recipe(str(path))


def test_field_that_the_family_does_not_have_is_named(recipe, recordings, tmp_path):
    wrong = replace(recipe, model={"encoder_widht": 24})
    with pytest.raises(UsageError, match="encoder_widht"):
        pretrain(wrong, Run(tmp_path / "run", (recordings,)), lambda line: None)


@pytest.mark.parametrize("family", ["os", "logmel_stats", "pipeline.model"])
def test_family_without_an_objective_is_refused(family, recipe, recordings, tmp_path):
    with pytest.raises(UsageError, match="cannot be pretrained"):
        pretrain(Recipe(family), Run(tmp_path / "run", (recordings,)), lambda line: None)


def test_folder_without_audio_is_refused(recipe, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no audio"):
        pretrain(recipe, Run(tmp_path / "run", (tmp_path / "empty",)), lambda line: None)


def test_recipes_that_ship_can_be_read():
    assert "mwmae-nano" in recipe_names()
    for name in recipe_names():
        assert read_recipe(name).optimiser.steps > 0


def crops_of(lengths: list[int], data: Data, frames: int = 200) -> Crops:
    starts = np.concatenate([[0], np.cumsum(lengths)])
    rng = np.random.default_rng(0)
    features = rng.standard_normal((starts[-1], 80)).astype(np.float16)
    return Crops([(Source("x", features, starts), 1.0)], data, frames, lambda clip, rng: clip, seed=0)


def test_short_recordings_are_joined_with_gaps_until_a_crop_fits():
    crops = crops_of([30, 50, 80], Data(gap_ms=(100, 300)))
    rng = np.random.Generator(np.random.PCG64(0))
    for _ in range(20):
        clip = crops.clip(rng)
        assert len(clip) >= 200 and np.isfinite(clip).all()
        assert len(clip) not in (30, 50, 80)


def test_share_of_short_recordings_stays_alone():
    crops = crops_of([30, 50, 80], Data(alone=1.0))
    rng = np.random.Generator(np.random.PCG64(0))
    assert {len(crops.clip(rng)) for _ in range(50)} == {30, 50, 80}


def test_batch_depends_on_seed_and_step_only():
    crops = crops_of([250] * 40, Data())
    crops.view = lambda clip, rng: clip[:200]
    np.testing.assert_array_equal(crops.batch(7, 4), crops.batch(7, 4))
    assert not np.array_equal(crops.batch(7, 4), crops.batch(8, 4))
    streamed = list(crops.stream(6, 9, 4))
    np.testing.assert_array_equal(streamed[1].units, crops.batch(7, 4).units)


def test_error_in_the_data_thread_reaches_the_loop():
    crops = crops_of([250], Data())

    def broken(clip, rng):
        raise RuntimeError("broken view")

    crops.view = broken
    with pytest.raises(RuntimeError, match="broken view"):
        next(crops.stream(0, 3, 2))


def test_training_view_is_standardised_over_the_clip_and_reflected_when_short():
    from hear_models import mwmae

    model = mwmae.Model(mwmae.Config(encoder_width=24, encoder_depth=1, encoder_heads=3, statistics_ddof=0))
    rng = np.random.default_rng(0)
    clip = (3 + 2 * rng.standard_normal((120, 80))).astype(np.float32)
    view = model.training_view(clip, rng)
    assert view.shape == (200, 80) and view.dtype == np.float32
    normal = model.normalise(torch.from_numpy(clip)).numpy()
    np.testing.assert_allclose(view[:120], normal, atol=1e-5)
    np.testing.assert_array_equal(view[120:], view[118:38:-1])
    long = (3 + 2 * rng.standard_normal((1000, 80))).astype(np.float32)
    assert {float(model.training_view(long, rng)[0, 0]) for _ in range(5)}.__len__() > 1
