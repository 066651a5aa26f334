"""One answer to "which model is meant", whoever asks: embed, evaluate and validate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hear_models
from hear_models import logmel_stats, mwmae
from hear_models.checkpoints.safetensors_file import write_checkpoint
from hear_models.corpus.settings import embedding_settings
from hear_models.errors import UsageError
from hear_models.subjects.module import load_module
from hear_models.subjects.naming import Foreign, Ours, find, find_ours
from hear_models.subjects.subject import resolve
from hear_models.subjects.weights import weights_sha256
from hear_models.zoo import find_entry

TINY = {"encoder_width": 24, "encoder_depth": 1, "encoder_heads": 3, "patch_frames": 40, "decoder_width": 16}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.safetensors"
    model = mwmae.Model(mwmae.Config(**TINY), seed=3)
    write_checkpoint(path, family="mwmae", config=TINY, tensors=model.state_dict(), trained=True)
    return path


@pytest.mark.parametrize(
    "name", ["mwmae-nano", "mwmae", "hear_models.mwmae", "run.safetensors", "mwmae:run.safetensors"]
)
def test_embed_evaluate_and_validate_load_the_same_weights(file: Path, name: str):
    embedded = find_ours(name, allow_untrained=False, how="-").load()
    evaluated = resolve(name).load().model
    validated = load_module(name).model
    assert len({model.checkpoint.sha256 for model in (embedded, evaluated, validated)}) == 1
    noise = torch.rand(16000) - 0.5
    assert torch.equal(hear_models.embed(noise, name), validated.embed_clips([noise])[0])


def test_names_of_ours_and_of_others_are_told_apart(file: Path):
    assert isinstance(find("mae-nano"), Ours) and isinstance(find(str(file)), Ours)
    assert find("someones.module:weights.pt") == Foreign("someones.module:weights.pt", "someones.module", "weights.pt")
    assert find("hear:run.safetensors").module == "hear", "its weights may be of any format"
    assert find("folder/hear.py").module == "folder/hear.py"
    assert isinstance(find("hear_models.corpus"), Foreign), "no family: it will be told that it has no functions"


def test_what_only_our_models_can_do_says_so_before_a_module_is_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someones_hear.py").write_text("raise AssertionError('imported')")
    with pytest.raises(UsageError, match="neither a model's name"):
        hear_models.embed(torch.zeros(16000), "someones_hear")


def test_a_name_that_says_which_weights_takes_no_others(file: Path):
    for name in ("mwmae-nano", "run.safetensors"):
        with pytest.raises(UsageError, match=f"hear_models.mwmae --model {file.name}"):
            load_module(name, model_path=file.name)
    with pytest.raises(UsageError, match="names its weights already"):
        load_module("json:run.safetensors", model_path="other.pt")
    assert load_module("mwmae", model_path="run.safetensors").model.config.encoder_width == 24


def test_the_weights_of_a_model_have_one_identity(file: Path):
    ours = find_entry("mwmae-nano").manifest.file.sha256
    loaded = resolve("mwmae-nano").load()
    assert weights_sha256(loaded.model) == ours == loaded.subject.checkpoint_sha256
    assert embedding_settings(loaded.model, "scene", "float32", None, None).checkpoint_sha256 == ours
    made = mwmae.Model(mwmae.Config(**TINY), seed=3)
    assert embedding_settings(made, "scene", "float32", None, None).checkpoint_sha256 == weights_sha256(made)
    without_tensors = [logmel_stats.Model(logmel_stats.Config(frames_per_step=n)) for n in (5, 6)]
    assert len({weights_sha256(model) for model in without_tensors}) == 2


def test_a_name_is_understood_without_torch(file: Path):
    program = (
        "import sys\nfrom hear_models.subjects.naming import find\nfrom hear_models.subjects.subject import resolve\n"
        "find('mwmae'), find('mae-nano'), find('run.safetensors'), find('a.b:c')\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
