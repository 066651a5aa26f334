"""Official SSAST and Audio Mamba files: sizes from the tensors, what they do not say from the trainer or the user."""

from __future__ import annotations

import json

import pytest
import torch
from audio_mamba_inputs import ARRAYS, FOLDER, OVERRIDES, mini_state
from click.testing import CliRunner

import hear_models
from hear_models.checkpoints.safetensors_file import read_header
from hear_models.cli import convert as convert_command
from hear_models.errors import CheckpointError, UsageError
from hear_models.zoo.convert import convert
from hear_models.zoo.publish import publish

FAMILIES = tuple(ARRAYS)


def source_of(family: str):
    return FOLDER / ARRAYS[family] / "checkpoint-99.pth"


def trainers(**arguments) -> dict:
    """A trainer's configuration as the official code has it."""
    told = {"img_size": [200, 80], "patch_size": [4, 16], "mask_ratio": 0.5, "frequency_first": False, **arguments}
    return {"model": {"arch": "ssast_mini", "model_args": told}}


def run(family: str, content, folder, **options):
    """(the conversion, the model) of a torch file with this content."""
    torch.save(content, folder / "official.pth")
    out = folder / "out.safetensors"
    given = {"overrides": OVERRIDES[family], **options}
    return convert(family, folder / "official.pth", out, force=True, **given), hear_models.load_model(out, decoder=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_command_reads_the_trainers_file_and_says_what_it_found(family, tmp_path):
    out = tmp_path / "out.safetensors"
    settings = ["--set", "heads=4"] if family == "ssast" else []
    ran = CliRunner().invoke(convert_command.command, [family, str(source_of(family)), str(out), *settings])
    assert ran.exit_code == 0, ran.output
    config = hear_models.load_model(out).config
    sizes = {"width": 32, "depth": 2, "patch_frames": 4, "patch_bands": 16, "frames_per_unit": 200, "n_mels": 80}
    own = {"ssast": {"heads": 4, "mlp_ratio": 4.0}, "audio_mamba": {"state": 24, "expansion": 3, "kernel": 4}}[family]
    assert sizes.items() <= vars(config).items() and own.items() <= vars(config).items()
    assert (config.class_token, config.layout, config.loss_on, config.mask_ratio) == (True, "official", "all", 0.5)
    assert read_header(out).source["epoch"] == 99
    with pytest.raises(UsageError, match="permission"):
        publish(out, "somebody/ssam")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("wrap", ["model", "bare", "module.", "_orig_mod.", "module._orig_mod."])
def test_every_container_gives_the_same_network(family, wrap, tmp_path):
    state = mini_state(family)
    content = {"model": state} if wrap == "model" else {wrap.removeprefix("bare") + key: v for key, v in state.items()}
    _, model = run(family, content, tmp_path)
    whole = tmp_path / "whole.safetensors"
    convert(family, source_of(family), whole, overrides=OVERRIDES[family])
    usual = hear_models.load_model(whole, decoder=True)
    assert model.config == usual.config
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), usual.parameters(), strict=True))


def test_configuration_beside_a_bare_state_dict_is_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(trainers(mask_ratio=0.75)))
    done, model = run("audio_mamba", mini_state("audio_mamba"), tmp_path, config=tmp_path / "config.json")
    assert model.config.mask_ratio == 0.75 and done.config_file.endswith("config.json")
    whole = convert(
        "ssast",
        source_of("ssast"),
        tmp_path / "s.safetensors",
        config=FOLDER / "ssast/config.json",
        overrides={"heads": 4},
    )
    assert whole.config["mask_ratio"] == 0.5
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no 'model'"):
        run("ssast", mini_state("ssast"), tmp_path, config=tmp_path / "config.json")


@pytest.mark.parametrize("family", FAMILIES)
def test_frequency_first_is_refused(family, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(trainers(frequency_first=True)))
    with pytest.raises(CheckpointError, match="frequency_first"):
        run(family, mini_state(family), tmp_path, config=tmp_path / "config.json")
    assert not (tmp_path / "out.safetensors").exists()


def test_heads_that_no_published_width_gives_are_asked_for(tmp_path):
    with pytest.raises(CheckpointError, match="--set heads=N"):
        run("ssast", mini_state("ssast"), tmp_path, overrides={})
    with pytest.raises(UsageError, match="5 heads do not divide"):
        run("ssast", mini_state("ssast"), tmp_path, overrides={"heads": 5})


def test_tensors_win_over_the_trainers_sizes_and_the_user_may_not_contradict_them(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(trainers(img_size=[400, 80], patch_size=[8, 8])))
    _, model = run("audio_mamba", mini_state("audio_mamba"), tmp_path, config=tmp_path / "config.json")
    assert (model.config.frames_per_unit, model.config.patch_frames) == (200, 4)
    for name, value in {"width": 64, "state": 16, "frames_per_unit": 400}.items():
        with pytest.raises(CheckpointError, match=name):
            run("audio_mamba", mini_state("audio_mamba"), tmp_path, overrides={name: value})


def test_bands_decide_what_a_unit_is(tmp_path):
    _, model = run("audio_mamba", mini_state("audio_mamba"), tmp_path, overrides={"n_mels": 160})
    assert (model.config.frames_per_unit, model.grid.columns, model.grid.rows) == (100, 25, 10)
    with pytest.raises(CheckpointError, match="--set n_mels=N"):
        run("audio_mamba", mini_state("audio_mamba"), tmp_path, overrides={"n_mels": 48})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_without_class_token_or_head_is_a_smaller_network(family, tmp_path):
    state = mini_state(family)
    del state["cls_token"]
    state["pos_embed"] = state["pos_embed"][:, 1:]
    _, model = run(family, state, tmp_path)
    assert model.config.class_token is False and model.get_scene_embeddings(torch.randn(1, 8000)).shape == (1, 160)
    encoder = {key: value for key, value in mini_state(family).items() if not key.startswith(("pred.", "mask_token"))}
    torch.save(encoder, tmp_path / "encoder.pth")
    done = convert(family, tmp_path / "encoder.pth", tmp_path / "encoder.safetensors", overrides=OVERRIDES[family])
    assert done.parts == ("encoder",)
    with pytest.raises(CheckpointError, match="decoder"):
        hear_models.load_model(tmp_path / "encoder.safetensors", decoder=True)


def test_the_position_table_is_taken_from_the_file(tmp_path):
    state = mini_state("ssast")
    state["pos_embed"] += 0.25
    _, model = run("ssast", state, tmp_path)
    assert torch.equal(model.pos_embed, state["pos_embed"])


def test_the_other_family_is_named(tmp_path):
    for family, other in (("ssast", "audio_mamba"), ("audio_mamba", "ssast")):
        with pytest.raises(CheckpointError, match=f"is a checkpoint of {other}"):
            run(family, mini_state(other), tmp_path)


@pytest.mark.parametrize(
    ("family", "change", "said"),
    [
        ("ssast", lambda s: s.pop("blocks.1.mlp.layer2.bias"), "blocks.1.mlp.layer2.bias"),
        ("ssast", lambda s: s.pop("pred.2.bias"), "pred.2.bias"),
        ("ssast", lambda s: s.update({"surprise": torch.zeros(3)}), "surprise"),
        ("ssast", lambda s: s.update({"encoder_norm.weight": torch.zeros(31)}), "encoder_norm.weight"),
        ("audio_mamba", lambda s: s.pop("blocks.1.mixer.D"), "blocks.1.mixer.D"),
        ("audio_mamba", lambda s: s.update({"blocks.0.mixer.extra": torch.zeros(3)}), "blocks.0.mixer.extra"),
        ("audio_mamba", lambda s: s.update({"blocks.1.mixer.dt_proj.weight": torch.zeros(96, 3)}), "dt_proj.weight"),
        ("audio_mamba", lambda s: s["pos_embed"].fill_(float("nan")), "pos_embed"),
    ],
)
def test_wrong_tensor_is_refused_by_its_name(family, change, said, tmp_path):
    state = mini_state(family)
    change(state)
    with pytest.raises(CheckpointError, match=said):
        run(family, state, tmp_path)
    assert not (tmp_path / "out.safetensors").exists()
