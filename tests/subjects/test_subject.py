"""What a name on the command line stands for, and that two models never get one folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import tiny_tasks
import torch
from hub.checkpoints import checkpoint
from hub.conftest import hub  # noqa: F401  (a fixture)

from hear_models import mwmae
from hear_models.checkpoints.safetensors_file import write_checkpoint
from hear_models.errors import CheckpointError, HearModelsError, UsageError
from hear_models.subjects.subject import options_slug, parse_options, resolve, slugify
from hear_models.subjects.weights import file_sha256, weights_sha256
from hear_models.zoo import find_entry


def tiny(path: Path, *, trained: bool = True, seed: int = 0) -> Path:
    config = {"encoder_width": 24, "encoder_depth": 1, "encoder_heads": 3, "patch_frames": 40, "decoder_width": 16}
    model = mwmae.Model(mwmae.Config(**config), seed=seed)
    write_checkpoint(path, family="mwmae", config=config, tensors=model.state_dict(), trained=trained)
    return path


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of somebody who has a HEAR module there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    (tmp_path / "someones").mkdir()
    (tmp_path / "someones" / "__init__.py").write_text("")
    tiny_tasks.write_module(tmp_path / "someones", "hear_echo", 16000)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("someones", "hear_echo", "echo"):
            del sys.modules[name]


def test_a_registry_name_a_family_and_a_file_are_the_same_checkpoint():
    sha256 = find_entry("mwmae-nano").manifest.file.sha256
    path = str(find_entry("mwmae-nano").manifest.path)
    for name in ("mwmae-nano", "mwmae", "hear_models.mwmae", path, f"mwmae:{path}", f"hear_models.mwmae:{path}"):
        subject = resolve(name)
        assert subject.slug == f"mwmae-nano-{sha256[:8]}"
        assert (subject.module, subject.family, subject.is_ours) == ("hear_models.mwmae", "mwmae", True)
        assert subject.checkpoint_sha256 == sha256 and subject.trained
    assert resolve("mae").slug.startswith("mae-nano-")
    loaded = resolve("mwmae-nano").load("cpu")
    assert loaded.model.checkpoint.sha256 == sha256 and loaded.sample_rate == 16000 and not loaded.batch_dependent


def test_two_checkpoints_of_one_name_and_two_options_never_share_a_folder(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    first, second = tiny(tmp_path / "a" / "run.safetensors"), tiny(tmp_path / "b" / "run.safetensors", seed=1)
    slugs = {
        resolve(str(first)).slug,
        resolve(str(second)).slug,
        resolve(str(first), {"timestamps": "official"}).slug,
        resolve(str(first), {"dtype": "bfloat16"}).slug,
    }
    assert len(slugs) == 4 and all(slug.startswith("run-") for slug in slugs)
    assert resolve(str(first), {"timestamps": "official"}).slug.endswith("-timestamps=official")


def test_a_file_that_changes_between_its_name_and_its_loading_is_noticed(tmp_path):
    path = tiny(tmp_path / "run.safetensors")
    subject = resolve(str(path))
    tiny(path, seed=1)
    with pytest.raises(UsageError, match="changed while this run"):
        subject.load("cpu")


def test_models_without_a_file_are_told_apart_by_name_alone():
    assert resolve("logmel-stats").slug == "logmel-stats" and resolve("logmel-stats").checkpoint_sha256 is None
    assert resolve("random-projection").slug == "random-projection"


def test_random_weights_are_refused_unless_asked_for(tmp_path):
    path = tiny(tmp_path / "random.safetensors", trained=False)
    for name in ("mwmae-tiny", str(path)):
        with pytest.raises(UsageError, match=r"random weights.*--allow-untrained"):
            resolve(name, how="--allow-untrained")
        assert not resolve(name, allow_untrained=True).trained


def test_weights_that_are_not_published_say_how_to_get_them():
    with pytest.raises(CheckpointError, match="hear-models fetch mwmae-base"):
        resolve("mwmae-base")


@pytest.mark.parametrize("name", ["someones.hear_echo", "someones/hear_echo.py"])
def test_a_module_in_the_current_folder_is_found_by_name_and_by_path(desk, name):
    subject = resolve(name, {"offset": 0.5})
    assert not subject.is_ours and subject.family is None and subject.trained
    assert subject.slug == f"{subject.module}-offset=0-5"
    loaded = subject.load("cpu")
    assert loaded.model.offset == 0.5 and loaded.batch_dependent
    assert loaded.scene(torch.zeros(2, 100)).tolist()[1] == [0.5, 0.0, 100.0, 2.0, 1.0, 0.0]


def test_a_file_finds_what_lies_beside_it(desk):
    module = desk / "someones" / "hear_echo.py"
    (module.parent / "echo_helper_of_someone.py").write_text("NUMBER = 7\n")
    module.write_text(f"from echo_helper_of_someone import NUMBER\n{module.read_text()}")
    assert resolve("someones/hear_echo.py").load("cpu").scene(torch.zeros(1, 9)).shape == (1, 6)


def test_weights_behind_a_colon_reach_load_model_and_the_folders_name(desk):
    module = desk / "someones" / "hear_echo.py"
    module.write_text(
        module.read_text().replace("model.offset = offset", "model.offset, model.path = offset, model_file_path")
    )
    (desk / "run.pt").write_bytes(b"weights")
    for name in ("someones.hear_echo:run.pt", "someones/hear_echo.py:run.pt", f"someones.hear_echo:{desk / 'run.pt'}"):
        subject = resolve(name)
        assert subject.checkpoint_sha256 == file_sha256(desk / "run.pt")
        assert subject.slug == f"{subject.module}-run-{subject.checkpoint_sha256[:8]}"
        model = subject.load("cpu").model
        assert model.path == name.rpartition(":")[2], "as it was written, for it is the module's to read"
    (desk / "folder").mkdir()
    (desk / "folder" / "part").write_bytes(b"1")
    one = resolve("someones.hear_echo:folder").slug
    (desk / "folder" / "part").write_bytes(b"2")
    assert resolve("someones.hear_echo:folder").slug != one


WRONG = {
    "nonsense_of_nobody": "no module 'nonsense_of_nobody'",
    "mwmae-nanoo": "neither a model's name.*Did you mean mwmae-nano",
    "": "neither a model's name",
    "json": "json has no function load_model",
    "someones": "someones has no function load_model",
    "missing.py": "missing.py does not exist",
    "someones.hear_echo:": "ends with a colon",
    "someones.hear_echo:none.pt": "none.pt, the weights for someones.hear_echo, does not exist",
    "gone.safetensors": "neither a model's name",
    "mwmae:gone.safetensors": "neither a model's name",
    "broken.safetensors": "broken.safetensors",
    "broken.py": "Importing broken.py raised SyntaxError",
    "hear_models.corpus": "has no function load_model",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_name_is_one_clear_error(desk, name):
    (desk / "broken.safetensors").write_bytes(b"not a checkpoint")
    (desk / "broken.py").write_text("def load_model(:\n")
    with pytest.raises(HearModelsError, match=WRONG[name]):
        resolve(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda"}, "--device"),
        ({"timestmaps": "official"}, "Did you mean timestamps"),
        ({"dtype": "int8"}, "float32, bfloat16"),
        ({"dtype": float("nan")}, "no JSON"),
        ({"dtype": {1, 2}}, "no JSON"),
    ],
)
def test_a_wrong_option_of_ours_is_told_before_anything_is_loaded(options, message):
    with pytest.raises(UsageError, match=message):
        resolve("mwmae-nano", options)


FAULTY = {
    "return model": ("return torch.zeros(3)", "gave a Tensor, not a torch.nn.Module"),
    "sample_rate, scene": ("sample_rat, scene", "sample_rate None"),
    "model.offset = offset": ("raise OSError('no weights')", "raised OSError: no weights"),
}


@pytest.mark.parametrize("old", FAULTY)
def test_a_module_that_does_not_load_is_one_clear_error(desk, old):
    new, message = FAULTY[old]
    module = desk / "someones" / "hear_echo.py"
    module.write_text(module.read_text().replace(old, new, 1))
    with pytest.raises(UsageError, match=message):
        resolve("someones.hear_echo").load("cpu")


def test_an_unknown_option_of_a_module_lists_its_parameters(desk):
    with pytest.raises(UsageError, match=r"unexpected keyword.*model_file_path, training, offset"):
        resolve("someones.hear_echo", {"layer": 3}).load("cpu")


def test_a_device_that_is_not_there_is_one_clear_error(desk):
    for name in ("someones.hear_echo", "mwmae-nano"):
        module = desk / "someones" / "hear_echo.py"
        text = module.read_text()
        if "Linear" not in text:
            module.write_text(text.replace("model.offset = offset", "model.layer = torch.nn.Linear(1, 1)"))
        with pytest.raises(UsageError, match="cuda:77"):
            resolve(name).load("cuda:77")


# what python-slugify 9.2.0 gives, which the kit uses
SLUGS = {
    "timestamps": "timestamps",
    "model_path": "model-path",
    "0.25": "0-25",
    "True": "true",
    "None": "none",
    "-1": "1",
    "1e-4": "1e-4",
    "[2, 5]": "2-5",
    "Ünïcode": "unicode",
    "a b  c": "a-b-c",
    "it's": "it-s",
    "1,000": "1000",
    "x/y.z": "x-y-z",
    "__a__": "a",
    "50%": "50",
    "": "",
    "{'a': 1}": "a-1",
    "3,5": "35",
}


@pytest.mark.parametrize("text", SLUGS)
def test_folder_names_are_those_of_the_kit(text):
    assert slugify(text) == SLUGS[text]


def test_options_that_the_kit_would_put_into_one_folder_get_two():
    assert options_slug({"mode": "fast", "rate_hz": 2.5}) == "-mode=fast-rate-hz=2-5"
    assert options_slug({}) == ""
    slugs = {options_slug({"layer": value}) for value in (1, -1, "a/b", "a b", "a\tb", "ä", "a" * 400, "a" * 401)}
    assert len(slugs) == 8 and max(map(len, slugs)) < 120
    assert not any(set(slug) & set('/\\:*?"<>| \t') for slug in slugs)


def test_options_come_from_settings_and_from_json():
    assert parse_options(["a=1", "b=x", "c=[1,2]"], '{"d": {"e": null}}') == {
        "a": 1,
        "b": "x",
        "c": [1, 2],
        "d": {"e": None},
    }
    for settings, text, message in (
        (["a"], "", "not of the form"),
        (["a=1", "a=2"], "", "given twice"),
        (["a=1"], '{"a": 2}', "given twice"),
        ([], "[1]", "no JSON object"),
        ([], "{", "not JSON"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_options(settings, text)


def test_the_digest_of_weights_sees_every_tensor():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    before = weights_sha256(model)
    assert weights_sha256(model) == before
    model[1].running_mean[0] += 1
    changed = weights_sha256(model)
    with torch.no_grad():
        model[0].weight.copy_(model[0].weight.bfloat16())
    assert len({before, changed, weights_sha256(model), weights_sha256(model.bfloat16())}) == 4


def test_the_current_folder_is_not_needed_after_the_name_was_resolved(desk, monkeypatch):
    path = tiny(desk / "run.safetensors")
    subject = resolve(path.name)
    monkeypatch.chdir(os.path.dirname(desk))
    assert subject.load("cpu").model.sample_rate == 16000


def test_a_repository_on_the_hub_is_named_with_its_commit(hub):  # noqa: F811
    repository = hub.store.repository("lab/Model_1", {"model.safetensors": checkpoint()})
    subject = resolve("hf://lab/Model_1")
    assert subject.revision == repository.branches["main"]
    assert subject.slug == f"lab-model-1-{subject.checkpoint_sha256[:8]}" and subject.family == "mwmae"
    assert subject.load("cpu").model.checkpoint.sha256 == subject.checkpoint_sha256
