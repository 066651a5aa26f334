"""Speakers are learned: the loss of the golden trajectory, voices of a made-up corpus, held-out clips, exact resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from golden_inputs import GOLDEN
from safetensors.numpy import load_file

from hear_models import ftcbam
from hear_models.errors import UsageError
from hear_models.training.loop import pretrain
from hear_models.training.objectives import ways_of
from hear_models.training.recipe import Optimiser, Recipe, read_recipe
from hear_models.training.run import Run
from hear_models.training.speakers import (
    MOST_HELD_OUT,
    Clip,
    SpeakerBatch,
    SpeakerObjective,
    Speakers,
    parted,
    speaker_loss,
)
from hear_models.zoo import load_model
from hear_models.zoo.convert import convert

MODEL = {"widths": [4, 6], "depths": [1, 1], "reduction": 2, "local_dim": 8, "embed_dim": 8}
PITCHES = {"ann": 500.0, "bob": 1500.0, "cyd": 3000.0}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Three voices: a tone each in noise, eight clips of 1 s."""
    folder = tmp_path_factory.mktemp("voices")
    rng = np.random.default_rng(0)
    for name, pitch in PITCHES.items():
        (folder / name).mkdir()
        for take in range(8):
            t = np.arange(16_000) / 16_000
            gate = np.sin(2 * np.pi * (3 + take) * t) > 0  # the spectrum changes, or its bins have no deviation
            tone = 0.3 * gate * np.sin(2 * np.pi * pitch * t)
            soundfile.write(folder / name / f"{take}.wav", tone + 0.01 * rng.standard_normal(16_000), 16_000)
    return folder


def small(**changes) -> Recipe:
    recipe = Recipe(
        "ftcbam",
        seed=1,
        model=MODEL,
        tables={"speakers": Speakers(frames=98, margin=0.1, held_out=0.25)},
        optimiser=Optimiser(steps=60, warmup_steps=4, batch=9, base_rate=0.3, weight_decay=0.0, precision="float32"),
    )
    return replace(recipe, **changes)


def quiet(line: str) -> None:
    """Nobody listens."""


def test_loss_of_the_golden_trajectory(tmp_path):
    folder = GOLDEN / "ftcbam"
    about, golden = json.loads((folder / "train_traj.json").read_text("utf-8")), np.load(folder / "train_traj.npz")
    state = load_file(folder / "train_init.safetensors")
    torch.save({name: torch.from_numpy(value) for name, value in state.items()}, tmp_path / "state.pth")
    convert("ftcbam", tmp_path / "state.pth", tmp_path / "a.safetensors", config=folder / "train_traj.json")
    model = load_model(tmp_path / "a.safetensors").double().train()
    batch = SpeakerBatch(golden["x"][:, 0].transpose(0, 2, 1).astype(np.float64), golden["y"])
    weight = torch.from_numpy(state["classifier.weight"]).double()
    loss = speaker_loss(
        model, weight, batch, Speakers(loss=about["loss"], scale=about["scale"], margin=about["margin"])
    )
    assert loss.item() == pytest.approx(float(golden["step0/loss"]), rel=1e-9)


def test_voices_are_learned_and_the_file_embeds_them(corpus, tmp_path):
    said: list[str] = []
    assert pretrain(small(), Run(tmp_path, (corpus,), log_every=20), said.append) == 60
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert "3 speakers, 18 clips, 6 held out" in said
    assert lines[-1]["loss"] < lines[0]["loss"] / 3 and lines[-1]["eer"] < 0.2
    model = load_model(tmp_path / "model.safetensors")
    assert model.checkpoint.trained and not any(name == "weight" for name in model.state_dict())
    clips = {name: [soundfile.read(corpus / name / f"{i}.wav", dtype="float32")[0] for i in (0, 1)] for name in PITCHES}
    embedded = {name: model.get_scene_embeddings(torch.from_numpy(np.stack(pair))) for name, pair in clips.items()}
    cosine = torch.nn.functional.cosine_similarity
    same = min(float(cosine(pair[0], pair[1], dim=0)) for pair in embedded.values())
    others = max(float(cosine(embedded[a][0], embedded[b][0], dim=0)) for a in PITCHES for b in PITCHES if a != b)
    assert same > others


def test_an_interrupted_run_ends_with_the_same_bits(corpus, tmp_path):
    recipe = small(optimiser=replace(small().optimiser, steps=6))
    pretrain(recipe, Run(tmp_path / "whole", (corpus,)), quiet)
    for stop in (4, None):
        pretrain(recipe, Run(tmp_path / "parts", (corpus,), stop_after=stop), quiet)
    whole, parts = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and any(name.startswith("parameter/heads.") for name in whole)
    for name, array in whole.items():
        np.testing.assert_array_equal(array, parts[name], err_msg=name)


def test_what_is_held_out_or_left_out_is_never_trained_on(corpus, tmp_path):
    recipe = small(tables={"speakers": Speakers(frames=40, held_out=0.25, leave_out=("cyd",))})
    said: list[str] = []
    model = ftcbam.Model(ftcbam.Config(**{**MODEL, "widths": (4, 6), "depths": (1, 1)}))
    objective = SpeakerObjective(recipe, Run(tmp_path, (corpus,)), model, said.append)
    assert "2 speakers, 12 clips, 4 held out" in said
    held = {(clip.source, clip.place) for clip in objective.held_out}
    drawn = {(clip.source, clip.place) for clip in objective.batches.clips}
    assert len(held) == 4 and len(drawn) == 12 and not held & drawn
    assert {clip.place // 8 for clip in (*objective.held_out, *objective.batches.clips)} == {0, 1}
    model.train()
    assert 0 <= objective.validate()["eer"] <= 1 and model.training


def test_every_clip_is_drawn_once_a_round_and_a_batch_is_a_function_of_its_step(corpus, tmp_path):
    model = ftcbam.Model(ftcbam.Config(**{**MODEL, "widths": (4, 6), "depths": (1, 1)}))
    batches = SpeakerObjective(small(), Run(tmp_path, (corpus,)), model, quiet).batches
    labels = np.concatenate([batches.batch(step, 9).labels for step in range(2)])
    assert np.bincount(labels).tolist() == [6, 6, 6]
    again = batches.batch(1, 9)
    np.testing.assert_array_equal(again.units, batches.batch(1, 9).units)
    assert again.units.shape == (9, 98, 257) and again.units.dtype == np.float32


def test_a_short_clip_is_followed_by_silence_before_its_bins_are_standardised():
    model = ftcbam.Model(ftcbam.Config(**{**MODEL, "widths": (4, 6), "depths": (1, 1)}))
    clip = np.abs(np.random.default_rng(0).standard_normal((10, 257))).astype(np.float32)
    crop = model.training_crop(clip, 25, np.random.default_rng(0))
    padded = np.concatenate([clip, np.zeros((15, 257), np.float32)])
    np.testing.assert_allclose(crop, (padded - padded.mean(0)) / (padded.std(0) + 1e-5), rtol=1e-5, atol=1e-5)


def test_shares_of_many_and_of_few_clips():
    clips = [Clip(0, place, speaker) for speaker, n in enumerate((400, 400, 2, 3)) for place in range(n)]
    trained, held = parted(clips, 0.5, 0)
    assert np.bincount([clip.speaker for clip in held]).tolist() == [75, 75, 0, 2]
    assert sorted(trained + held) == sorted(clips)
    many = [Clip(0, place, speaker) for speaker in range(400) for place in range(4)]
    assert len(parted(many, 0.5, 0)[1]) == MOST_HELD_OUT and parted(many, 0.0, 0)[1] == []


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"loss": "arc"}, "softmax, am, aam"),
        ({"frames": 1}, "2 frames or more"),
        ({"held_out": 1.0}, "from 0 to below 1"),
        ({"leave_out": ("dan",)}, "dan, who is not in the data"),
        ({"leave_out": ("ann", "bob")}, "There are 1 speakers"),
    ],
)
def test_wrong_settings_are_told(corpus, tmp_path, table, said):
    with pytest.raises(UsageError, match=said):
        pretrain(small(tables={"speakers": Speakers(**table)}), Run(tmp_path, (corpus,)), quiet)


def test_data_without_speakers_are_told(corpus, tmp_path):
    with pytest.raises(UsageError, match="a folder for each speaker"):
        pretrain(small(), Run(tmp_path / "a", ()), quiet)
    with pytest.raises(UsageError, match=r"0\.wav lies in no speaker's folder"):
        pretrain(small(), Run(tmp_path / "b", (corpus / "ann",)), quiet)
    with pytest.raises(UsageError, match="is a file"):
        pretrain(small(), Run(tmp_path / "c", (corpus / "ann" / "0.wav",)), quiet)


def test_a_recording_that_cannot_be_read_is_left_out(corpus, tmp_path):
    import shutil

    shutil.copytree(corpus, tmp_path / "voices")
    (tmp_path / "voices" / "bob" / "0.wav").write_bytes(b"RIFF")
    said: list[str] = []
    pretrain(small(), Run(tmp_path / "run", (tmp_path / "voices",), stop_after=1), said.append)
    assert any("left out" in line and "0.wav" in line for line in said)
    assert "3 speakers, 17 clips, 6 held out" in said


@pytest.mark.filterwarnings("ignore:.*no trained weights")
def test_the_recipe_that_ships_says_what_it_trains(tmp_path):
    recipe = read_recipe("ftcbam-nano")
    assert ways_of("ftcbam") == ["speakers"] and recipe.table("speakers", Speakers).frames == 98
    assert ftcbam.Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in recipe.model.items()}) == (
        load_model("ftcbam-nano").config
    )
    (tmp_path / "a.toml").write_text('family = "ftcbam"\n[speakers]\nleave_out = ["ann", "bob"]\n')
    assert read_recipe(str(tmp_path / "a.toml")).table("speakers", Speakers).leave_out == ("ann", "bob")
    (tmp_path / "a.toml").write_text('family = "ftcbam"\n[speakers]\nleave_out = [1]\n')
    with pytest.raises(UsageError, match="not a list of texts"):
        read_recipe(str(tmp_path / "a.toml"))
