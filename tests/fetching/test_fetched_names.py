"""A name that was fetched is a model everywhere: in every command, in Python, and for others' validators and kits."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from gise51_inputs import write_exported
from tone_tasks import write_task

import hear_models
from hear_models.zoo.fetch import FetchOptions, fetch_model
from hear_models.zoo.self_check import SelfCheck, recordings

TAGGER = """
name = "gise-44"
family = "gise51"
summary = "s"
status = "unpublished"
sample_rate = 22050
dims = 64
configuration = { architecture = "cifar_resnet44" }
[original]
address = "https://doi.org/10.5281/zenodo.4593514"
folder = "pretrained-models.tar.gz, experiments_60k_mixtures"
format = "torch: mAP=…_dprime=…_num_classes=51.pth, or Lightning's epoch=NN_train_loss=…_val_mAP=….ckpt"
"""


@pytest.fixture
def desk(drive, tmp_path, monkeypatch) -> Path:
    """An empty folder, and `mini` fetched."""
    monkeypatch.setattr("hear_models.zoo.self_check.self_check", lambda *_: SelfCheck("do not matter", ()))
    fetch_model("mini", FetchOptions(), lambda line: None)
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_it_is_evaluated_by_name(desk, run):
    write_task(desk / "tasks", "beijing_opera-v1.0-hear2021-full", {"train": 16, "valid": 8, "test": 8})
    code, out, err = run("evaluate", "mini", "--tasks-dir", "tasks", "--probe", "linear", "--no-floors", "--jobs", "1")
    assert code == 0, out + err
    (record,) = (json.loads(path.read_text()) for path in (desk / "results").rglob("*.json"))
    assert record["model"]["name"] == "mini" and record["model"]["trained"] is True
    assert record["model"]["checkpoint_sha256"] == hear_models.load_model("mini").checkpoint.sha256


def test_it_is_embedded_and_compared_by_name(desk, run):
    first, second = recordings()[:2]
    assert run("embed", first, second, "--model", "mini", "-o", "a")[0] == 0
    code, out, err = run("verify", first, second, "--model", "mini", "--json")
    assert code == 0 and json.loads(out)["model"] == "mini", err
    assert hear_models.embed(first, "mini").shape == (hear_models.load_model("mini").scene_embedding_size,)


def test_the_hear_api_takes_the_name_as_its_path(desk, run):
    """As hear-validator and hear-eval-kit call it: `load_model(model_file_path)`, positionally, of the module."""
    module = importlib.import_module("hear_models.mwmae")
    model = module.load_model("mini")
    audio = torch.rand(2, 16000, generator=torch.Generator().manual_seed(0)) - 0.5
    steps, times = module.get_timestamp_embeddings(audio, model)
    assert steps.shape[:2] == times.shape and module.get_scene_embeddings(audio, model).shape == (2, 120)
    only = ("--only", "load", "--quick")
    for named in (("hear_models.mwmae", "--model", "mini"), ("hear_models.mwmae:mini",), ("mini",)):
        code, out, err = run("validate", *named, *only)
        assert code in (0, 2), out + err
        assert "untrained" not in out + err, named
    code, out, err = run("validate", "mini", "--quick", "--json")
    assert code == 0, out + err


def test_a_tagger_tags_by_name(places, tmp_path, run, monkeypatch):
    monkeypatch.setattr("hear_models.zoo.self_check.self_check", lambda *_: SelfCheck("do not matter", ()))
    (tmp_path / "weights" / "gise-44.toml").write_text(TAGGER)
    root = tmp_path / "packed" / "pretrained-models" / "experiments_60k_mixtures" / "cifar_resnet44"
    root.mkdir(parents=True)
    write_exported("cifar_resnet44", root)
    archive = shutil.make_archive(str(tmp_path / "a"), "gztar", tmp_path / "packed")
    places.files["zenodo/4593514/pretrained-models.tar.gz"] = Path(archive).read_bytes()
    assert run("tag", recordings()[0], "--model", "gise-44")[0] == 1  # not fetched yet
    assert run("fetch", "gise-44")[0] == 0
    code, out, err = run("tag", recordings()[0], "--model", "gise-44", "--json", "--threshold", "0")
    assert code == 0 and json.loads(out), err


@pytest.mark.parametrize(
    "arguments", [("embed", "a.wav", "-o", "x", "--model"), ("info",), ("evaluate",), ("tag", "a.wav", "--model")]
)
def test_before_it_is_fetched_every_command_says_how(arguments, drive, tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(recordings()[0], tmp_path / "a.wav")
    write_task(tmp_path / "tasks", "toy", {"train": 4, "valid": 2, "test": 2})
    more = ("--tasks-dir", "tasks") if arguments == ("evaluate",) else ()
    code, out, err = run(*arguments, "mini", *more)
    assert "hear-models fetch mini" in " ".join((out + err).split()), (code, out, err)
