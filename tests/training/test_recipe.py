"""A recipe is checked whole before anything is read or trained: one sentence, exit code 2; digests of old runs stay."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

from hear_models.cli import pretrain as pretrain_command
from hear_models.errors import UsageError
from hear_models.training.degrade import Degrade
from hear_models.training.loop import pretrain
from hear_models.training.recipe import Optimiser, Recipe, read_recipe, recipe_names
from hear_models.training.run import Run
from hear_models.training.tagging import Tagging
from hear_models.zoo.registry import list_models

DIGESTS = {  # of the recipes that ship, as the runs behind the shipped checkpoints had them
    "gise51-nano": "e7fb92c479beea2d812c42f028a663e0ec8ae746d2fba91223dfb30b8591e305",
    "mae-nano": "64e947bec42f0c11f69b0f2960851a7d648b88b23f9c8711749c9dfa36f9d6a5",
    "msm-mae-nano": "94557868da19b1e6d726ca0bb158bfdfb80dcb07dcf91b924665b2ffbaf58496",
    "mwmae-nano": "de5895c6974e4c4dcc923e4d925691506edf4045cfc8b8106e32a94ddb0bb1c5",
}


@pytest.mark.parametrize("name", DIGESTS)
def test_a_run_that_was_begun_before_goes_on(name):
    assert read_recipe(name).digest == DIGESTS[name]


def test_every_recipe_that_ships_is_read():
    assert set(recipe_names()) >= DIGESTS.keys()
    for name in recipe_names():
        assert read_recipe(name).family


def test_settings_that_say_nothing_do_not_count():
    recipe = Recipe("mwmae")
    assert replace(recipe, tables={"tagging": Tagging()}).digest == recipe.digest
    assert replace(recipe, tables={"degrade": Degrade()}).digest == recipe.digest
    assert replace(recipe, tables={"degrade": Degrade(noise=0.5)}).digest != recipe.digest
    assert replace(recipe, objective="masked").digest != replace(recipe, objective="tagging").digest


WRONG = {
    'family = "mwmae"\n[model]\nencoder_width = "64"': r"\[model\].*encoder_width='64' is not a whole number",
    'family = "mwmae"\n[model]\nencoder_width = 64.5': "encoder_width=64.5 is not a whole number",
    'family = "mwmae"\n[model]\nmask_ratio = "0.8"': "mask_ratio='0.8' is not a number",
    'family = "mwmae"\n[model]\nmask_ratio = 1.5': "mask_ratio is 1.5. Give a share between 0 and 1",
    'family = "mwmae"\n[model]\nmask_ratoi = 0.5': "has no field 'mask_ratoi'.*Did you mean mask_ratio",
    'family = "mwmae"\n[model]\nencoder_heads = 7': "7 encoder heads do not divide the width",
    'family = "mwmae"\n[model]\nencoder_heads = true': "encoder_heads=True is not a whole number",
    'family = "mwmae"\n[model]\nclass_token = 1': "class_token=1 is neither true nor false",
    'family = "mwmae"\n[model]\ndecoder_windows = [2, "x"]': "is not a list of whole numbers",
    'family = "mwmae"\n[model]\npatch_frames = 400': "do not make a grid|gives no network",
    'family = "msm_mae"\n[model]\npatch_frames = 5': "no multiple of",
    'family = "gise51"\n[model]\nclasses = []': "classes is empty",
    'family = "gise51"\n[model]\narchitecture = 18': "architecture=18 has the wrong type",
    'family = "gise51"\n[degrade]\nnoise = 0.5': "has no field 'degrade'",
    'family = "mwmae"\n[tagging]\nframes = 60': "has no field 'tagging'",
    'family = "mwmae"\nmodel = 3': "model=3 is not a table",
    'family = "mwmae"\n[data]\ngap_ms = [1, "2"]': "is not a list of numbers",
    'family = "mwmae"\n[optimiser]\nsteps = "many"': "steps='many' is not a whole number",
    'family = "mwmae"\noptimiser = 3': r"\[optimiser\] is 3, not a table",
    'family = "mwmae"\nobjective = "tagging"': "mwmae cannot be trained by the objective 'tagging'. Use masked",
    'family = "mwmae"\nobjective = "magic"': "There is no objective 'magic'. Use one of masked, tagging",
    'family = "logmel_stats"': "The family 'logmel_stats' cannot be pretrained. Use one of",
    'family = "mwmea"': "The family 'mwmea' cannot be pretrained",
    "seed = 3": "no family",
    'family = ["mwmae"]': "no family",
    "family = ": "is not TOML",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text.replace("\n", " ").replace('"', ""))
def test_a_wrong_recipe_is_one_sentence_and_exit_code_2(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text(text + "\n")
    with pytest.raises(UsageError, match=WRONG[text]) as caught:
        recipe = read_recipe("recipe.toml")
        pretrain(recipe, Run(tmp_path / "run"), lambda line: None)
    assert "\n" not in str(caught.value) or "TOML" in str(caught.value)
    result = CliRunner().invoke(pretrain_command.command, ["recipe.toml", "--output", "run"])
    assert isinstance(result.exception, UsageError)  # main() prints it and exits with 2
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").glob("*.safetensors"))


def test_a_recipe_made_in_python_is_checked_too(tmp_path):
    with pytest.raises(UsageError, match=re.escape("[model] of the recipe")):
        pretrain(Recipe("mwmae", model={"encoder_width": "64"}), Run(tmp_path), lambda line: None)


def test_a_name_of_the_registry_is_its_size_with_its_authors_recipe():
    tiny = read_recipe("mwmae-tiny")
    assert (tiny.model["encoder_width"], tiny.optimiser) == (192, Optimiser())
    base = read_recipe("ssam-base")
    assert (base.family, base.model["width"], base.optimiser.steps) == ("audio_mamba", 768, 200_300)
    assert base.optimiser.peak == pytest.approx(6e-4) and base.optimiser.betas == (0.9, 0.95)
    assert read_recipe("gise51-resnet18").tables == read_recipe("gise51-mixtures").tables
    assert read_recipe("logmel-cola-b0").optimiser.peak == pytest.approx(4e-4)


@pytest.mark.parametrize("entry", list_models(), ids=lambda entry: entry.name)
def test_every_name_gives_a_recipe_or_a_reason(entry):
    try:
        recipe = read_recipe(entry.name)
    except UsageError as error:
        assert re.search("not known in full|cannot be pretrained", str(error))
    else:
        assert recipe.family == entry.family


def test_a_mistyped_name_is_told_the_nearest():
    with pytest.raises(UsageError, match="Did you mean mwmae-tiny"):
        read_recipe("mwmae-tini")
