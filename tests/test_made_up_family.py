"""A family is one file: one made up on the spot embeds, keeps the contract, trains, saves, loads and converts."""

from __future__ import annotations

import pytest
import soundfile
import torch
from click.testing import CliRunner
from made_up_family import FAMILY

import hear_models
from hear_models.cli import embed
from hear_models.cli import pretrain as pretrain_command
from hear_models.errors import CheckpointError, UsageError
from hear_models.training.loop import pretrain
from hear_models.training.recipe import read_recipe
from hear_models.training.run import Run
from hear_models.validation import validate
from hear_models.zoo.convert import convert
from hear_models.zoo.families import families, family_module

RECIPE = """
family = "made_up"

[model]
width = 24

[data]
procedural_hours = 0.02

[optimiser]
steps = 10
warmup_steps = 2
batch = 4
precision = "float32"
"""


@pytest.mark.filterwarnings("ignore:.*no trained weights")
def test_it_embeds_and_keeps_the_contract(made_up):
    assert len(FAMILY.splitlines()) < 60 and made_up in families()
    model = family_module(made_up).load_model()
    embeddings, times = hear_models.embed([torch.randn(20_000) * 0.1], model, kind="timestamps")[0]
    assert embeddings.shape == (31, 32) and float(times[1] - times[0]) == 40.0
    report = validate(f"hear_models.{made_up}", length="quick")
    assert report.ok, "\n".join(f"{finding.check}: {finding.found}" for finding in report.findings("error"))


@pytest.mark.filterwarnings("ignore:.*no trained weights")
def test_it_trains_saves_loads_and_converts(made_up, tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    assert pretrain(read_recipe("recipe.toml"), Run(tmp_path / "run"), lambda line: None) == 10
    trained = hear_models.load_model("run/model.safetensors", decoder=True)
    assert trained.config.width == 24 and trained.checkpoint.trained

    state = {f"net.{name}": tensor for name, tensor in trained.state_dict().items()}
    torch.save({"model": state, "epoch": 3}, "official.pth")
    done = convert(made_up, "official.pth", "converted.safetensors")
    assert done.parts == ("encoder", "decoder") and done.config["width"] == 24
    audio = torch.randn(2, 16_000) * 0.1
    again = hear_models.load_model("converted.safetensors")
    torch.testing.assert_close(again.get_scene_embeddings(audio), trained.get_scene_embeddings(audio), rtol=0, atol=0)

    del state["net.norm.bias"]
    torch.save(state, "short.pth")
    with pytest.raises(CheckpointError, match=r"missing in the official file: net\.norm\.bias"):
        convert(made_up, "short.pth", "short.safetensors")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('width = "24"', "width='24' is not a whole number"),
        ("widht = 24", "has no field 'widht'.*Did you mean width"),
        ("width = 0", "do not make a grid"),
        ("width = -3", "do not make a grid"),
        ("decoder_width = -1", "gives no network"),
    ],
)
def test_a_wrong_recipe_is_told_in_a_sentence(made_up, tmp_path, table, said):
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("width = 24", table))
    with pytest.raises(UsageError, match=said):
        pretrain(read_recipe("recipe.toml"), Run(tmp_path / "run"), lambda line: None)


def test_a_file_of_a_family_that_is_not_here_says_so(made_up, tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("steps = 10", "steps = 1"))
    pretrain(read_recipe("recipe.toml"), Run(tmp_path / "run"), lambda line: None)
    hear_models.__path__ = hear_models.__path__[:-1]
    with pytest.raises(CheckpointError, match="of the family 'made_up', which this version"):
        hear_models.load_model("run/model.safetensors")


def test_recordings_are_embedded_from_the_command_line(made_up, tmp_path):
    soundfile.write("a.wav", torch.randn(16_000).numpy() * 0.1, 16_000)
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("steps = 10", "steps = 1"))
    ran = CliRunner().invoke(pretrain_command.command, ["recipe.toml", "--output", "run"])
    assert ran.exit_code == 0, ran.output
    ran = CliRunner().invoke(embed.command, ["a.wav", "--model", "run/model.safetensors", "-o", "embeddings"])
    assert ran.exit_code == 0, ran.output
