"""What tables and folders call a model: two of one file name are two models, and a name says which."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hear_models import mwmae
from hear_models.checkpoints.safetensors_file import write_checkpoint
from hear_models.errors import UsageError
from hear_models.evaluation.runs.settings import Request
from hear_models.subjects.naming import name_of
from hear_models.subjects.subject import Subject, resolve, told_apart

MODULE = """
import torch
{top}
class Model(torch.nn.Module):
    sample_rate = scene_embedding_size = timestamp_embedding_size = 16000
def load_model(model_file_path=""):
    {inside}
    model = Model()
    model.number = NUMBER
    return model
def get_scene_embeddings(audio, model):
    return torch.full((len(audio), 1), float(model.number))
def get_timestamp_embeddings(audio, model):
    return get_scene_embeddings(audio, model)[:, None], torch.zeros(len(audio), 1)
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - set(before):
        if name in ("model", "net_of_somebody", "ears") or name.startswith("net_of_somebody."):
            del sys.modules[name]


def module(path: Path, number: int, lazily: bool = False) -> str:
    """A module whose number stands in a helper of the same name everywhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    helper = "from net_of_somebody import NUMBER"
    path.write_text(MODULE.format(top="" if lazily else helper, inside=helper if lazily else "pass"))
    (path.parent / "net_of_somebody.py").write_text(f"NUMBER = {number}\n")
    return str(path)


def numbers(subjects: list[Subject]) -> list[float]:
    return [subject.load().scene(torch.zeros(1, 8)).item() for subject in subjects]


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize("stem", ["model", "ears"])
def test_two_files_of_one_name_are_two_models_with_their_own_neighbours(desk, stem, lazily):
    names = [module(desk / folder / f"{stem}.py", k, lazily) for k, folder in enumerate("abc")]
    subjects = told_apart([resolve(name) for name in names])
    assert [subject.title for subject in subjects] == [f"{folder}/{stem}" for folder in "abc"]
    assert [subject.slug for subject in subjects] == [f"{folder}-{stem}" for folder in "abc"]
    assert numbers(subjects) == [0, 1, 2] and numbers(subjects[::-1]) == [2, 1, 0]


def test_files_of_one_name_in_folders_of_one_name_are_called_by_more_folders(desk):
    subjects = told_apart([resolve(module(desk / f"{top}/same/model.py", 0)) for top in ("one", "two")])
    assert [subject.slug for subject in subjects] == ["one-same-model", "two-same-model"]
    assert [subject.title for subject in subjects] == ["one/same/model", "two/same/model"]


def test_a_file_alone_keeps_the_name_that_says_something(desk):
    assert resolve(module(desk / "a" / "ears.py", 0)).slug == "ears"
    assert resolve(module(desk / "b" / "model.py", 0)).slug == "b-model"
    (desk / "pkg").mkdir()
    assert resolve(module(desk / "pkg" / "__init__.py", 0)).slug == "pkg"


@pytest.mark.parametrize("names", [("ears.py", "./ears.py"), ("ears", "ears.py"), ("a/../ears.py", "ears.py")])
def test_one_file_under_two_names_is_one_model(desk, names):
    module(desk / "ears.py", 0)
    (desk / "a").mkdir()
    with pytest.raises(UsageError, match=r"are the same model\. Name it once"):
        told_apart([resolve(name) for name in names])


def checkpoint(path: Path, seed: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    config = {"encoder_width": 24, "encoder_depth": 1, "encoder_heads": 3, "patch_frames": 40, "decoder_width": 16}
    model = mwmae.Model(mwmae.Config(**config), seed=seed)
    write_checkpoint(path, family="mwmae", config=config, tensors=model.state_dict())
    return str(path)


def test_pretraining_runs_are_called_by_their_folders(desk):
    names = [checkpoint(desk / "runs" / name / "model.safetensors", k) for k, name in enumerate(("long", "short"))]
    subjects = told_apart([resolve(name) for name in names])
    assert [subject.title for subject in subjects] == ["long", "short"]
    assert [subject.slug.rpartition("-")[0] for subject in subjects] == ["long", "short"]
    unnamed = resolve(checkpoint(desk / "runs" / "model.safetensors", 2))
    assert unnamed.title == "mwmae-model", "neither file nor folder say anything, but the header does"
    assert resolve(checkpoint(desk / "runs" / "long" / "mine.safetensors", 3)).title == "mine"


def test_a_name_of_ones_own(desk):
    subject = resolve(module(desk / "a" / "model.py", 0), {"k": 2}, title="Baseline, v2")
    assert subject.title == "Baseline, v2" and subject.slug == "Baseline-v2-k=2"
    named = resolve(checkpoint(desk / "model.safetensors", 0), title="mine")
    assert named.title == "mine" and named.slug.startswith("mine-")
    with pytest.raises(UsageError, match=r"would have one name.*--name"):
        told_apart([replace(named, slug="x"), replace(resolve("logmel-stats", title="x"), slug="x")])
    with pytest.raises(UsageError, match="is no name for a model"):
        resolve("logmel-stats", title="a\nb")


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_names_are_given_for_each_model_or_for_none(desk, names):
    with pytest.raises(UsageError, match="one for each"):
        Request(["logmel-stats", "mwmae-nano"], desk, names=names).check()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("runs/a/model.safetensors", "a"),
        ("somewhere/a/model.py", "a/model"),
        ("a/__init__.py", "a"),
        ("my.py:a/weights.pt", "my:a/weights.pt"),
        ("my_package.model", "my_package.model"),
    ],
)
def test_a_name_that_says_nothing_has_its_folder_with_it(given, name):
    assert name_of(given) == name
