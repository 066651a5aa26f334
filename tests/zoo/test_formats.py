"""A family says which entries of a Flax file are its own, and may publish in two formats: the converter follows."""

from __future__ import annotations

import pytest
import torch
from flax_writer import pack, unflatten

import hear_models
from hear_models.errors import CheckpointError
from hear_models.zoo.convert import convert
from hear_models.zoo.families import family_module

RULES = (
    "(Rule('batch_stats/norm/{path}', 'norm.{path}'), Rule('frozen_params/pos_embed', 'pos_embed'), "
    "Rule('params/net/{path}', '{path}'))"
)
FLAX = f"Official('flax', {RULES}, lambda keys: None, infer, collections=('params', 'batch_stats', 'frozen_params'))"
TORCH = "Official('torch', [Rule('net.{path}', '{path}')], lambda keys: None, infer)"


def states(family: str) -> tuple[dict, dict]:
    """A network's tensors as a Flax file with three collections and as a torch file have them."""
    network = family_module(family).Model(seed=5, decoder=True)
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    flax = {
        f"params/net/{name}": value for name, value in tensors.items() if not name.startswith(("norm.", "pos_embed"))
    }
    flax |= {f"batch_stats/norm/{name}": tensors[f"norm.{name}"] for name in ("weight", "bias")}
    flax |= {"frozen_params/pos_embed": tensors["pos_embed"], "opt_state/count": 3}
    return flax, {f"net.{name}": torch.from_numpy(value) for name, value in tensors.items()}


@pytest.mark.parametrize("made_up", [f"OFFICIAL = ({FLAX}, {TORCH})"], indirect=True)
def test_one_family_is_converted_from_two_formats(made_up, tmp_path):
    flax, state = states(made_up)
    (tmp_path / "checkpoint_4").write_bytes(pack(unflatten(flax)))
    (tmp_path / "run" / "ckpts").mkdir(parents=True)
    torch.save({"model": {f"_orig_mod.module.{key}": value for key, value in state.items()}}, "run/ckpts/last.pth")
    torch.save(state, "bare.pth", _use_new_zipfile_serialization=False)
    done = [
        convert(made_up, source, f"{number}.safetensors")
        for number, source in enumerate(("checkpoint_4", "run", "bare.pth"))
    ]
    assert [conversion.source["format"] for conversion in done] == [
        "Flax MessagePack",
        "torch zip",
        "torch before 1.6",
    ]
    assert "opt_state" in done[0].ignored
    models = [hear_models.load_model(f"{number}.safetensors", decoder=True) for number in range(3)]
    for name, tensor in models[0].state_dict().items():
        assert all(torch.equal(tensor, other.state_dict()[name]) for other in models[1:]), name


@pytest.mark.parametrize("made_up", [f"OFFICIAL = {FLAX}"], indirect=True)
def test_a_missing_entry_is_told_by_its_official_name(made_up, tmp_path):
    flax, _ = states(made_up)
    del flax["batch_stats/norm/bias"]
    (tmp_path / "checkpoint_4").write_bytes(pack(unflatten(flax)))
    with pytest.raises(CheckpointError, match=r"batch_stats/norm/bias \(norm\.bias\)"):
        convert(made_up, "checkpoint_4", "out.safetensors")
    (tmp_path / "checkpoint_5").write_bytes(pack({"opt_state": {"count": 1}}))
    with pytest.raises(CheckpointError, match="no parameters under 'params' or 'batch_stats' or 'frozen_params'"):
        convert(made_up, "checkpoint_5", "out.safetensors")


@pytest.mark.parametrize("name", ["logmel-stats", "gise51-nano", "mwmae-nano"])
def test_every_trained_tensor_can_be_asked_for_of_every_family(name):
    """`decoder=True` is no mistake for a family that has no more than what embeds."""
    entry = hear_models.load_model(name, decoder=name != "mwmae-nano")
    assert entry.checkpoint.name == name
