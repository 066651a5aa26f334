"""Checkpoints as other people's trainers leave them: wrapped, averaged, in half precision, in shards of safetensors."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_inputs import GOLDEN
from msm_mae_inputs import FOLDER, HEADS, MINIS
from safetensors.torch import save_file

from hear_models.checkpoints.flax_msgpack import read_flax
from hear_models.checkpoints.hub import choose, parse_address
from hear_models.checkpoints.safetensors_file import read_checkpoint
from hear_models.checkpoints.state_keys import unwrapped
from hear_models.checkpoints.torch_file import find_state_dict, read_torch_file
from hear_models.errors import CheckpointError
from hear_models.zoo.convert import Conversion, convert
from hear_models.zoo.describe import describe

NAME = MINIS["a"]  # says bands and frames


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    tensors = find_state_dict(read_torch_file(FOLDER / NAME).content)
    return {key: torch.from_numpy(np.array(tensor.array())) for key, tensor in tensors.items()}


def saved(folder: Path, content: object) -> Path:
    path = folder / NAME / "checkpoint-1.pth"
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path)
    return path


def run(source: Path, folder: Path, **options) -> tuple[Conversion, dict[str, torch.Tensor]]:
    out = folder / "out.safetensors"
    done = convert("msm_mae", source, out, overrides=HEADS[NAME], force=True, accept_licence=True, **options)
    return done, read_checkpoint(out).tensors


def prefixed(state: dict, prefix: str) -> OrderedDict:
    return OrderedDict((prefix + key, value) for key, value in state.items())


def inside(state: dict, name: str) -> dict:
    """A wrapper around every block, and not around the network."""
    return {wrapped(key, name) if "blocks." in key else key: value for key, value in state.items()}


def wrapped(key: str, name: str) -> str:
    head, _, rest = key.partition("blocks.")
    number, _, tail = rest.partition(".")
    return f"{head}blocks.{number}.{name}.{tail}"


WRAPPERS = [
    "module.",
    "_orig_mod.",
    "module.module.",
    "_orig_mod.module.",
    "module._orig_mod.",
    "_fsdp_wrapped_module.",
]


@pytest.mark.parametrize("prefix", WRAPPERS)
def test_what_wrappers_put_in_front_is_taken_away(state, tmp_path, prefix):
    expected = run(saved(tmp_path, {"model": state}), tmp_path)[1]
    found = run(saved(tmp_path, {"model": prefixed(state, prefix)}), tmp_path)[1]
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)


@pytest.mark.parametrize("name", ["_fsdp_wrapped_module", "_orig_mod", "_checkpoint_wrapped_module"])
def test_a_wrapper_around_parts_of_the_network_is_taken_away(state, tmp_path, name):
    run(saved(tmp_path, {"model": prefixed(inside(state, name), "module.")}), tmp_path)


def test_averaged_weights_lose_their_counter(state, tmp_path):
    """torch.optim.swa_utils.AveragedModel."""
    averaged = torch.optim.swa_utils.AveragedModel(torch.nn.Linear(2, 2)).state_dict()
    assert "n_averaged" in averaged and unwrapped(averaged).keys() == {"weight", "bias"}
    run(saved(tmp_path, {"model": {**prefixed(state, "module."), "n_averaged": torch.tensor(5)}}), tmp_path)


def test_flattened_weights_say_what_to_save_instead(state, tmp_path):
    with pytest.raises(CheckpointError, match="full state dict"):
        run(saved(tmp_path, {"model": {**state, "blocks.0._fsdp_wrapped_module._flat_param": torch.ones(9)}}), tmp_path)


def plus(state: dict, number: float) -> dict:
    return {key: value + number if key.endswith("norm1.weight") else value for key, value in state.items()}


BESIDE = {  # what a trainer saves, and the key of the weights that are one more
    "an entry": (lambda s: {"model": s, "model_ema": plus(s, 1)}, "model_ema"),
    "timm's": (lambda s: {"state_dict": s, "state_dict_ema": prefixed(plus(s, 1), "module.")}, "state_dict_ema"),
    "a teacher": (lambda s: {"student": s, "teacher": plus(s, 1)}, "teacher"),
    "an entry in an entry": (lambda s: {"model": s, "ema": {"decay": 0.9, "module": plus(s, 1)}}, "ema/module"),
    "around the only network": (lambda s: {"model": s, "ema": {"decay": 0.9, "module": plus(s, 1)}}, "ema"),
    "by a prefix": (lambda s: {"model": {**prefixed(s, "student."), **prefixed(plus(s, 1), "teacher.")}}, "teacher"),
    "by a prefix, bare": (
        lambda s: {**prefixed(s, "online_model."), **prefixed(plus(s, 1), "ema_model.")},
        "ema_model",
    ),
    "a longer prefix": (lambda s: {"state_dict": prefixed(plus(s, 1), "net.backbone.")}, "net.backbone"),
}


@pytest.mark.parametrize("name", BESIDE)
def test_a_key_chooses_among_several_networks(state, tmp_path, name):
    make, key = BESIDE[name]
    done, found = run(saved(tmp_path, make(state)), tmp_path, key=key)
    assert torch.equal(found["blocks.0.norm1.weight"], state["blocks.0.norm1.weight"] + 1)
    assert done.source["key"] == key


def test_several_networks_without_a_key_and_a_wrong_key_list_what_there_is(state, tmp_path):
    source = saved(tmp_path, {"student": state, "teacher": state})
    with pytest.raises(CheckpointError, match=r"several: student, teacher.*--key student"):
        run(source, tmp_path)
    with pytest.raises(CheckpointError, match=r"no entry 'ema'.*student, teacher"):
        run(source, tmp_path, key="ema")
    done, _ = run(saved(tmp_path, {"model": state, "model_ema": state}), tmp_path)
    assert done.others == ("model_ema",)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("saved_as", ["as it is", "float32 again"])
def test_half_precision_keeps_the_position_table_recognisable(state, tmp_path, kind, saved_as):
    half = {key: value.to(kind) for key, value in state.items()}
    if saved_as == "float32 again":
        half = {key: value.float() for key, value in half.items()}
    _, found = run(saved(tmp_path, {"model": half}), tmp_path)
    assert torch.equal(found["cls_token"], state["cls_token"].to(kind).float())
    with pytest.raises(CheckpointError, match="not the fixed table"):
        convert(
            "msm_mae",
            saved(tmp_path, {"model": half}),
            tmp_path / "out.safetensors",
            overrides={**HEADS[NAME], "n_mels": 208, "frames_per_unit": 80},
            force=True,
            accept_licence=True,
        )


# ------------------------------------------------------------------------------------------------------ safetensors
def tensors(folder: Path, state: dict, shards: int = 1, index: bool = True, kind: torch.dtype = torch.float32) -> Path:
    """safetensors files as the Hub has them; the folder's name says bands and frames."""
    place = folder / NAME
    place.mkdir(exist_ok=True)
    keys, table = sorted(state), {}
    for number in range(shards):
        name = "model.safetensors" if shards == 1 else f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {key: state[key].to(kind).clone().contiguous() for key in keys[number::shards]}
        save_file(part, place / name, metadata={"format": "pt"})
        table |= dict.fromkeys(part, name)
    if shards > 1 and index:
        (place / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))
    return place


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_safetensors_of_others_give_the_same_network(state, tmp_path, kind):
    folder = tensors(tmp_path, prefixed(state, "module."), kind=kind)
    expected = {key: value.to(kind).float() for key, value in state.items()}
    for source in (folder, folder / "model.safetensors"):
        done, found = run(source, tmp_path)
        assert torch.equal(found["cls_token"], expected["cls_token"]) and done.source["format"] == "safetensors"


@pytest.mark.parametrize("index", [True, False])
def test_shards_are_put_together_however_they_are_named(state, tmp_path, index):
    folder = tensors(tmp_path, state, 3, index)
    sources = [folder, folder / "model-00002-of-00003.safetensors"]
    sources += [folder / "model.safetensors.index.json"] if index else []
    digests = {run(source, tmp_path)[0].sha256 for source in sources}
    assert len(digests) == 1
    (folder / "model-00003-of-00003.safetensors").unlink()
    for source in sources:
        with pytest.raises(CheckpointError, match=r"of 3 shards 1 are not in .*model-00003-of-00003"):
            run(source, tmp_path)


def test_a_key_is_a_prefix_in_safetensors(state, tmp_path):
    folder = tensors(tmp_path, {**prefixed(state, "student."), **prefixed(plus(state, 1), "teacher.")})
    _, found = run(folder, tmp_path, key="teacher")
    assert torch.equal(found["blocks.0.norm1.weight"], state["blocks.0.norm1.weight"] + 1)
    with pytest.raises(CheckpointError, match="they begin with student, teacher"):
        run(folder, tmp_path, key="ema")


BROKEN = {
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:-100]), "no whole safetensors file"),
    "pointer": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid x\n"), "Git LFS"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_sentence(state, tmp_path, name):
    spoil, words = BROKEN[name]
    path = tensors(tmp_path, state) / "model.safetensors"
    spoil(path)
    with pytest.raises(CheckpointError, match=words):
        run(path, tmp_path)
    assert not (tmp_path / "out.safetensors").exists()


def test_an_index_that_leads_out_of_its_folder_is_refused(state, tmp_path):
    folder = tensors(tmp_path, state, 2)
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00001", "../model-00001"))
    with pytest.raises(CheckpointError, match="no plain file name"):
        run(index, tmp_path)


def test_nobody_is_sent_in_a_circle(state, tmp_path):
    """`info` says how to convert what another program wrote; `convert` takes it, and says what is converted already."""
    path = tensors(tmp_path, state) / "model.safetensors"
    with pytest.raises(CheckpointError, match="hear-models convert FAMILY"):
        describe(path)
    run(path, tmp_path)
    with pytest.raises(CheckpointError, match="converted already"):
        convert("msm_mae", tmp_path / "out.safetensors", tmp_path / "again.safetensors", accept_licence=True)


def test_flax_parameters_may_come_as_safetensors(tmp_path):
    """Their keys are parted by slashes in the official format, by dots here."""
    source = GOLDEN / "mwmae" / "mae_mini" / "checkpoint_5"
    arrays = {
        key.removeprefix("params/").replace("/", "."): torch.from_numpy(np.array(entry.value))
        for key, entry in read_flax(source, only=("params",)).entries.items()
        if isinstance(entry.value, np.ndarray)
    }
    save_file(arrays, tmp_path / "flax.safetensors")
    options = {"config": source.parent / "config.json", "overrides": {"encoder_heads": 3}}
    plain = convert("mae", source, tmp_path / "a.safetensors", **options)
    other = convert("mae", tmp_path / "flax.safetensors", tmp_path / "b.safetensors", **options)
    assert plain.config == other.config
    a, b = (read_checkpoint(tmp_path / f"{name}.safetensors").tensors for name in "ab")
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_sharded_repository_says_what_to_do():
    names = ["README.md", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    with pytest.raises(CheckpointError, match=r"one checkpoint in 2 shards.*hear-models convert"):
        choose(names, parse_address("hf://a/b"))
