"""What a run keeps is whole, of one run, on one set of data, and finite; whatever interrupts it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_models.checkpoints.safetensors_file import read_header
from hear_models.checkpoints.sealed import read_sealed
from hear_models.errors import CheckpointError, FileError, HearModelsError, UsageError
from hear_models.locks import inside, only_writer
from hear_models.training import masked
from hear_models.training.features import verify_features
from hear_models.training.loop import pretrain
from hear_models.training.recipe import Recipe, read_recipe
from hear_models.training.run import Run

TINY = """
family = "mwmae"
[model]
encoder_width = 24
encoder_depth = 1
encoder_heads = 3
decoder_width = 16
decoder_depth = 1
[optimiser]
steps = 6
warmup_steps = 2
batch = 2
precision = "float32"
"""


def silent(line: str) -> None:
    pass


def noise(folder: Path, seed: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i, seconds in enumerate((0.4, 1.1, 2.3)):
        soundfile.write(folder / f"{i}.wav", 0.1 * rng.standard_normal(int(16000 * seconds)), 16000)
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "tiny.toml").write_text(TINY)
    return read_recipe(str(tmp_path / "tiny.toml"))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run", (noise(tmp_path / "sound", 0),), log_every=1)


@pytest.mark.parametrize("loss", ["gone", "old", "damaged"])
def test_a_model_that_the_last_save_did_not_reach_is_written_by_the_same_command(recipe, run, loss):
    """The state is written first: a kill, or a full disk, between the two files."""
    model = run.output / "model.safetensors"
    pretrain(recipe, replace(run, stop_after=3), silent)
    old = model.read_bytes()
    pretrain(recipe, run, silent)
    whole = model.read_bytes()
    model.unlink() if loss == "gone" else model.write_bytes(old if loss == "old" else whole[:-9])
    assert pretrain(recipe, run, silent) == 6
    assert model.read_bytes() == whole


def test_no_flipped_bit_of_a_state_is_trained_on(recipe, run):
    pretrain(recipe, replace(run, stop_after=1), silent)
    path = run.output / "state.safetensors"
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    places = [*range(8, 900, 30), *rng.integers(0, len(whole), 60).tolist()]  # the header, and everywhere
    for place in places:
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match="Delete it to begin again"):
            read_sealed(path, "Delete it to begin again.")
    path.write_bytes(broken)
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        pretrain(recipe, run, silent)


def test_a_second_run_in_the_same_folder_is_refused_with_the_owners_process(recipe, run):
    pytest.importorskip("fcntl")
    run.output.mkdir()
    with (
        only_writer(inside(run.output), run.output),
        pytest.raises(UsageError, match=f"process {os.getpid()} .*is writing to"),
    ):
        pretrain(recipe, run, silent)


def test_other_data_and_other_first_weights_are_refused_and_the_header_names_the_data(recipe, run, tmp_path):
    pretrain(recipe, replace(run, stop_after=1), silent)
    notes = read_header(run.output / "model.safetensors").notes
    assert [source["name"] for source in notes["data"]["sources"]] == ["sound"]
    other = noise(tmp_path / "other", 1)
    with pytest.raises(UsageError, match="other data"):
        pretrain(recipe, replace(run, folders=(other,)), silent)
    with pytest.raises(UsageError, match="began with other weights"):
        pretrain(recipe, replace(run, init=run.output / "model.safetensors"), silent)
    moved = (tmp_path / "sound").rename(tmp_path / "moved")  # the same recordings elsewhere are the same data
    os.utime(moved / "0.wav", (1, 1))
    assert pretrain(recipe, replace(run, folders=(moved,), stop_after=1), silent) == 2


def poisoned(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    loss = masked.Masked.loss
    monkeypatch.setattr(
        masked.Masked, "loss", lambda self, batch, step: loss(self, batch, step) * (float("nan") if step == at else 1)
    )


def test_a_loss_that_is_no_number_saves_nothing_keeps_the_batch_and_a_repaired_recipe_goes_on(recipe, run, monkeypatch):
    pretrain(recipe, replace(run, stop_after=2), silent)
    before = {name: (run.output / name).read_bytes() for name in ("state.safetensors", "model.safetensors")}
    with monkeypatch.context() as patch:
        poisoned(patch, 3)
        with pytest.raises(
            HearModelsError, match=r"not finite any more at update 4.*save after update 2 stays"
        ) as told:
            pretrain(recipe, replace(run, log_every=50), silent)
    assert told.value.exit_code == 1
    assert {name: (run.output / name).read_bytes() for name in before} == before
    batch = np.load(run.output / "diverged-at-4.npz")
    assert batch["units"].shape[0] == 2 and np.isfinite(batch["units"]).all()

    repaired = replace(recipe, optimiser=replace(recipe.optimiser, base_rate=1e-6))
    with pytest.raises(UsageError, match=r"another recipe \(\[optimiser\] differ\).*--go-on-with-changed optimiser"):
        pretrain(repaired, run, silent)
    with pytest.raises(UsageError, match="another recipe"):
        pretrain(replace(repaired, seed=9), replace(run, go_on_with_changed=("optimiser",)), silent)
    assert pretrain(repaired, replace(run, go_on_with_changed=("optimiser",)), silent) == 6
    changed = read_header(run.output / "model.safetensors").notes["changed"]
    assert [entry["before_update"] for entry in changed] == [3] and changed[0]["optimiser"]["base_rate"] == 1.5e-5
    assert pretrain(repaired, run, silent) == 6


def test_parameters_that_are_not_finite_are_not_saved_either(recipe, run, monkeypatch):
    import torch

    def inflate(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.fill_(float("inf"))

    monkeypatch.setattr(torch.optim.AdamW, "step", inflate)
    with pytest.raises(HearModelsError, match=r"network is not finite any more at update 1\. Nothing was saved"):
        pretrain(recipe, replace(run, stop_after=1), silent)
    assert not (run.output / "state.safetensors").exists()


@pytest.mark.parametrize("damage", ["empty index", "short data", "wrong index", "other index"])
def test_damaged_features_are_one_sentence(recipe, run, damage):
    pretrain(recipe, replace(run, stop_after=1), silent)
    (index,) = run.features.glob("*.starts.npy")
    (data,) = run.features.glob("*.f16")
    if damage == "short data":
        data.write_bytes(data.read_bytes()[:-2])
    elif damage == "other index":
        starts = np.load(index)
        starts[1] += 1
        np.save(index, starts)
    else:
        index.write_bytes(b"" if damage == "empty index" else b"no numbers")
    with pytest.raises(FileError, match=r"starts\.npy.*Delete"):
        pretrain(recipe, replace(run, stop_after=1), silent)
    with pytest.raises(FileError):
        verify_features(index)


def test_features_are_checked_by_their_digest(recipe, run):
    pretrain(recipe, replace(run, stop_after=1), silent)
    (index,) = run.features.glob("*.starts.npy")
    verify_features(index)
    (data,) = run.features.glob("*.f16")
    changed = bytearray(data.read_bytes())
    changed[100] ^= 1
    data.write_bytes(changed)
    with pytest.raises(FileError, match="does not match its digest"):
        verify_features(index)
    with pytest.raises(FileError, match=r"Delete .*computed again"):
        pretrain(recipe, run, silent)


def test_a_log_with_damaged_lines_is_no_obstacle(recipe, run):
    pretrain(recipe, replace(run, stop_after=2), silent)
    log = run.output / "log.jsonl"
    log.write_bytes(log.read_bytes() + b'{"step": 9}\n[]\n{"step": "x"}\n\xff}\n{' + b"[" * 20_000 + b"}\n")
    pretrain(recipe, replace(run, stop_after=1), silent)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize("where", ["output", "cache"])
def test_a_file_in_the_place_of_a_folder_is_one_sentence(recipe, run, tmp_path, where):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        pretrain(recipe, replace(run, **{where: tmp_path / "file"}), silent)


def test_a_log_that_is_a_link_is_not_written_through(recipe, run, tmp_path):
    if not getattr(os, "O_NOFOLLOW", 0):
        pytest.skip("no such flag here")
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    run.output.mkdir()
    (run.output / "log.jsonl").symlink_to(theirs)
    pretrain(recipe, replace(run, stop_after=1), silent)
    assert theirs.read_text() == "theirs"
