"""A model is saved as a file that loads to the same embeddings, and a run begins with a name, its decoder at hand."""

from __future__ import annotations

import pytest
import torch

import hear_models
from hear_models import mwmae, random_projection
from hear_models.checkpoints.safetensors_file import read_header
from hear_models.errors import UsageError
from hear_models.zoo import starting
from hear_models.zoo.starting import first_weights

AUDIO = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(1)) * 0.1
SMALL = mwmae.Config(encoder_width=24, encoder_depth=1, encoder_heads=3, decoder_width=16, decoder_depth=1)


def test_a_fine_tuned_model_is_saved_with_what_it_began_from(tmp_path):
    model = hear_models.load_model("mwmae-nano")
    with torch.no_grad():
        model.norm.weight.mul_(2)
    path = tmp_path / "mine.safetensors"
    sha256 = model.save(path, training="twice the norm")
    again = hear_models.load_model(path)
    assert again.checkpoint.sha256 == sha256 and again.checkpoint.trained
    assert torch.equal(again.get_scene_embeddings(AUDIO), model.get_scene_embeddings(AUDIO))
    notes = read_header(path).notes
    assert notes["training"] == "twice the norm" and notes["started_from"]["name"] == "mwmae-nano"


def test_a_network_that_nobody_trained_says_so_unless_its_training_is_told(tmp_path):
    model = mwmae.Model(SMALL, decoder=True)
    model.save(tmp_path / "a.safetensors")
    model.save(tmp_path / "b.safetensors", training="by hand")
    headers = [read_header(tmp_path / f"{name}.safetensors") for name in "ab"]
    assert [header.trained for header in headers] == [False, True]
    assert all(set(header.parts) == {"encoder", "decoder"} for header in headers)


def test_what_cannot_be_saved_is_a_sentence(tmp_path):
    model = mwmae.Model(SMALL)
    with pytest.raises(UsageError, match=r"does not end in \.safetensors"):
        model.save(tmp_path / "model.pt")
    with pytest.raises(UsageError, match="no folder"):
        model.save(tmp_path / "none" / "model.safetensors")
    with pytest.raises(UsageError, match="has no weights"):
        random_projection.load_model("random-projection").save(tmp_path / "r.safetensors")
    assert not list(tmp_path.iterdir())


def test_pretraining_begins_with_a_name_and_finds_its_decoder(tmp_path, monkeypatch):
    path = first_weights("mwmae-nano", "mwmae", with_decoder=True)
    assert "decoder" in read_header(path).parts
    assert "decoder" not in read_header(first_weights("mwmae-nano", "mwmae", with_decoder=False)).parts

    hear_models.load_model("mwmae-nano").save(tmp_path / "encoder.safetensors")
    with pytest.raises(UsageError, match=r"encoder alone.*model\.safetensors of a pretraining run"):
        first_weights(tmp_path / "encoder.safetensors", "mwmae", with_decoder=True)
    with pytest.raises(UsageError, match="no weights to begin with"):
        first_weights("mwmae-tiny", "mwmae", with_decoder=True)

    resolved = starting.resolve("mwmae-nano", "mwmae")
    installed = tmp_path / "mwmae-nano.safetensors"
    installed.write_bytes(resolved.path.read_bytes())
    monkeypatch.setattr(starting, "resolve", lambda *_: resolved.__class__(**{**vars(resolved), "path": installed}))
    with pytest.raises(UsageError, match=r"weights/mwmae-nano.decoder.safetensors.*left out of installed copies"):
        first_weights("mwmae-nano", "mwmae", with_decoder=True)
