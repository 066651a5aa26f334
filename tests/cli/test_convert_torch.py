"""`hear-models convert` of torch files, whole path: trainers' files, archives, keys to drop, licences to accept."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch_maker import Call, torch_bytes, written

import hear_models
from hear_models import mwmae
from hear_models.checkpoints.licences import FORBIDDEN, TERMS, read_licence
from hear_models.checkpoints.mapping import Official, Rule, Shapes, Source, SourceArray, apply_rules, official_key
from hear_models.checkpoints.safetensors_file import read_checkpoint
from hear_models.errors import CheckpointError, UsageError
from hear_models.zoo.convert import as_plain_data, convert, convertible
from hear_models.zoo.families import officials
from hear_models.zoo.registry import list_models

SMALL = mwmae.Config(encoder_width=24, encoder_depth=2, encoder_heads=3, decoder_width=16, decoder_depth=1)
NETWORK = mwmae.Model(SMALL, seed=5, decoder=True)
ACCEPTED = {"accept_licence": True}


def infer(shapes: Shapes, trainer: Any, given: Any) -> dict[str, Any]:
    """Width and depth by the tensors, heads by the trainer's arguments, the name of the folder or the user."""
    width = shapes.of("patch_embed.weight", 4)[0]
    heads = given.get("encoder_heads") or trainer["args"]["heads"]
    facts = {"encoder_width": width, "encoder_depth": shapes.count("blocks."), "encoder_heads": heads}
    return {**dataclasses.asdict(SMALL), **facts, **({"mask_ratio": 0.5} if "80x200" in trainer["names"] else {})}


def joined(source: Source) -> dict[str, SourceArray]:
    """As a repository that stores half of a bias only: the rest is joined before the rules."""
    arrays = dict(source.arrays)
    half = arrays.pop("net.norm.half")
    arrays["net.norm.bias"] = SourceArray(np.concatenate([half.values, half.values]), half.dtype)
    return arrays


@pytest.fixture
def torch_family(monkeypatch) -> Iterator[None]:
    """mwmae as if its authors had trained it with PyTorch."""
    official = Official(
        format="torch",
        rules=(Rule("net.{path}", "{path}"),),
        recognise=lambda keys: "mae" if "net.cls_token" in keys else "mwmae",
        infer=infer,
        licence="NTT evaluation licence",
        drop=(r".*\.num_batches_tracked", r"criterion\..*"),
        prepare=joined,
    )
    monkeypatch.setattr(mwmae, "OFFICIAL", official)
    yield


def state(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Official keys: "net." in front, half of a bias, and two tensors that no network needs."""
    tensors = {f"net.{name}": value.detach().clone() for name, value in NETWORK.state_dict().items()}
    bias = tensors.pop("net.norm.bias")
    tensors["net.norm.half"] = bias[: len(bias) // 2].fill_(0.25).clone()
    extra = {"net.norm.num_batches_tracked": torch.tensor(7), "criterion.weight": torch.ones(3)}
    return {**tensors, **extra, **changes}


def trainers_file(**changes: torch.Tensor) -> bytes:
    optimiser = {"state": {0: {"exp_avg": torch.ones(1000)}}, "param_groups": [{"lr": 1e-3}]}
    args = argparse.Namespace(heads=3)
    return torch_bytes({"model": state(**changes), "optimizer": optimiser, "epoch": 9, "args": args})


@pytest.mark.usefixtures("torch_family")
def test_every_tensor_arrives_and_the_model_computes_with_them(tmp_path):
    folder = tmp_path / "80x200"
    folder.mkdir()
    written(folder, trainers_file())
    done = convert("mwmae", folder, tmp_path / "m.safetensors", **ACCEPTED)
    ours = read_checkpoint(tmp_path / "m.safetensors", parts=("encoder", "decoder"))
    assert ours.tensors.keys() == NETWORK.state_dict().keys()
    for name, value in NETWORK.state_dict().items():
        expected = torch.full_like(value, 0.25) if name == "norm.bias" else value
        assert torch.equal(ours.tensors[name], expected), name
    assert ours.config["encoder_heads"] == 3 and ours.config["mask_ratio"] == 0.5
    assert (ours.source["file"], ours.source["format"], ours.source["epoch"]) == ("checkpoint-7.pth", "torch zip", 9)
    assert {"optimizer", "net.norm.num_batches_tracked", "criterion.weight"} <= set(done.ignored)
    model = hear_models.load_model(tmp_path / "m.safetensors")
    assert model.get_scene_embeddings(torch.randn(1, 16000)).isfinite().all()


@pytest.mark.usefixtures("torch_family")
def test_bare_state_dict_in_a_release_archive_converts_with_what_the_user_says(tmp_path):
    import zipfile

    path = tmp_path / "release.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("80x200/model.pth", torch_bytes(state()))
    with pytest.raises(CheckpointError, match="args"):
        convert("mwmae", path, tmp_path / "m.safetensors", **ACCEPTED)
    convert("mwmae", path, tmp_path / "m.safetensors", overrides={"encoder_heads": 3}, **ACCEPTED)
    (tmp_path / "c.json").write_text(json.dumps({"args": {"heads": 3}}))
    done = convert("mwmae", path, tmp_path / "m.safetensors", config=tmp_path / "c.json", force=True, **ACCEPTED)
    assert done.config["mask_ratio"] == 0.5 and len(done.source["archive_sha256"]) == 64
    json.dumps(as_plain_data(done))


@pytest.mark.usefixtures("torch_family")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"net.extra": torch.ones(2)}, r"no place for net\.extra"),
        ({"other": torch.ones(2)}, "unknown in the official file: other"),
        ({"net.norm.weight": torch.ones(7)}, r"net\.norm\.weight .* is \[7\], expected \[24\]"),
        ({"net.norm.weight": torch.full((24,), torch.nan)}, "net.norm.weight holds NaN"),
        ({"net.norm.weight": torch.ones(24, dtype=torch.int32)}, "not floating-point"),
        ({"net.norm.half": torch.ones(5)}, r"is \[10\], expected \[24\]"),
        ({"net.cls_token": torch.ones(1, 1, 24)}, "a checkpoint of mae, not of mwmae"),
    ],
)
def test_what_does_not_fit_is_named_by_its_official_key(changes, said, tmp_path):
    with pytest.raises(CheckpointError, match=said):
        convert("mwmae", written(tmp_path, trainers_file(**changes)), tmp_path / "m.safetensors", **ACCEPTED)
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.usefixtures("torch_family")
def test_missing_tensors_are_named_also_those_that_are_joined(tmp_path):
    for key, said in {"net.norm.half": "as the official code writes it", "net.pos_embed": "net.pos_embed"}.items():
        tensors = state()
        del tensors[key]
        path = written(tmp_path, torch_bytes({"model": tensors, "args": argparse.Namespace(heads=3)}))
        with pytest.raises(CheckpointError, match=said):
            convert("mwmae", path, tmp_path / "m.safetensors", **ACCEPTED)


@pytest.mark.usefixtures("torch_family")
def test_a_hostile_file_ends_in_one_line_that_says_what_it_wanted(run, tmp_path):
    canary = tmp_path / "canary"
    content = {"model": state(), "args": Call(os.system, f"touch {canary}")}
    path = written(tmp_path, torch_bytes(content))
    code, out, err = run("convert", "mwmae", path, tmp_path / "m.safetensors", "--accept-license")
    assert (code, out) == (1, "") and err.count("\n") == 1
    assert "error: " in err and "wants posix.system to be called with ('touch " in err and "nothing was run" in err
    assert not canary.exists() and not (tmp_path / "m.safetensors").exists()


# -------------------------------------------------------------------------------------------------------- licences
@pytest.mark.usefixtures("torch_family")
def test_licence_is_shown_and_must_be_accepted_before_anything_is_read(run, tmp_path):
    arguments = ("convert", "mwmae", tmp_path / "not there", tmp_path / "m.safetensors")
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "https://github.com/nttcslab/msm-mae" in err and "It forbids to sell, lend or pass\nthem on" in err
    assert "--accept-license" in err and max(map(len, err.splitlines())) <= 80
    for flag in ("--accept-license", "--accept-licence"):
        code, _, err = run(*arguments, flag)
        assert code == 1 and "does not exist" in err


@pytest.mark.usefixtures("torch_family")
def test_converted_file_carries_the_licence_and_publish_refuses_it(run, tmp_path):
    path, output = written(tmp_path, trainers_file()), tmp_path / "m.safetensors"
    code, out, _ = run("convert", "mwmae", path, output, "--accept-license")
    assert code == 0 and "licence: NTT evaluation licence (internal evaluation only, no redistribution)" in out
    assert read_checkpoint(output).header.notes["licence"]["sharing"] == FORBIDDEN
    code, out, err = run("publish", output, "org/name", "--i-have-permission", "a friend", "--dry-run")
    assert code == 2 and "forbids to pass copies on" in err and out == ""


def test_no_family_asks_for_nothing(run, tmp_path):
    code, _, err = run("convert", "mwmae", tmp_path / "nothing", tmp_path / "m.safetensors")
    assert code == 1 and "licence" not in err


def test_every_licence_to_accept_is_explained_in_lines_of_80_columns():
    asked = [licence for licence in TERMS if licence.acceptance]
    assert [licence.name for licence in asked] == ["NTT evaluation licence"]
    for licence in asked:
        assert max(map(len, licence.acceptance)) <= 80 and any("https://" in line for line in licence.acceptance)


@pytest.mark.parametrize("family", convertible())
def test_a_family_and_its_manifests_name_the_same_licence(family):
    """Else `convert` would ask for one and `info` and `publish` would tell another."""
    manifests = [entry.manifest for entry in list_models() if entry.family == family and entry.manifest.original]
    assert manifests
    for official in officials(family):
        if official.licence is not None:
            assert {read_licence(manifest.licence) for manifest in manifests} == {read_licence(official.licence)}
        else:
            assert not any(read_licence(manifest.licence).acceptance for manifest in manifests)


# ----------------------------------------------------------------------------------------------------------- rules
def test_rules_with_any_text_keep_it():
    one = SourceArray(np.ones(2, np.float32), "float32")
    rules = [Rule("net.blocks.{i}.w", "b.{i}"), Rule("net.{path}", "{path}"), Rule("{path}", "other.{path}")]
    tensors, _ = apply_rules({"net.blocks.10.w": one, "net.fc.weight": one, "head.bias": one}, rules)
    assert set(tensors) == {"b.10", "fc.weight", "other.head.bias"}
    assert official_key("fc.weight", rules) == "net.fc.weight" and official_key("b.3", rules) == "net.blocks.3.w"


def test_module_without_official_checkpoints_is_no_family(tmp_path):
    for name in ("logmel_stats", "checkpoints", "errors", "a.b", "os"):
        with pytest.raises(UsageError, match=r"no converter for the family .*mae, .*mwmae"):
            convert(name, tmp_path / "x.pth", tmp_path / "m.safetensors")
