"""`hear-models list` and `info` tell what a user must know: weights, sizes, licence, and how to get them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hear_models.checkpoints.safetensors_file import write_checkpoint
from hear_models.zoo import list_models
from hear_models.zoo.convert import convert

GOLDEN = Path(__file__).parent.parent / "golden" / "mwmae"


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("converted") / "mini.safetensors"
    convert("mwmae", GOLDEN / "mwmae_mini", path, overrides={"encoder_heads": 3})
    return path


def test_table_shows_what_can_be_used_and_how_many_more_there_are(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run("list")
    assert (code, err) == (0, "") and max(map(len, out.splitlines())) <= 80
    names = [line.split()[0] for line in out.splitlines() if line.strip()]
    shown = [entry.name for entry in list_models() if entry.name in names]
    assert shown == [entry.name for entry in list_models() if entry.status != "untrained"]
    assert f"{len(list_models()) - len(shown)} untrained sizes more: hear-models list --all" in out
    statuses = [entry.status for entry in list_models() if entry.name in shown]
    assert set(statuses[statuses.index("unpublished") :]) == {"unpublished"}


def test_table_of_all_has_every_model_and_fits_80_columns(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run("list", "--all")
    assert (code, err) == (0, "")
    for entry in list_models():
        assert any(line.split()[:1] == [entry.name] and entry.status in line for line in out.splitlines()), entry.name
    assert max(map(len, out.splitlines())) <= 80
    assert "mwmae-nano *" in out and "random network" in out


def test_json_list_is_for_programs(run):
    code, out, _ = run("list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0 and rows.keys() == {entry.name for entry in list_models()}
    assert rows["mae-huge"]["scene_embedding_size"] == 6400 and rows["mae-huge"]["status"] == "untrained"


def test_info_of_unpublished_weights_is_honest(run):
    for name in ("mwmae-base", "mae-base"):
        code, out, _ = run("info", name)
        text = " ".join(out.split())
        assert code == 0
        assert "licence of the weights not stated" in text and "sha256 not verified" in text
        assert "No official weight file was ever opened by this project" in text
        assert f"hear-models fetch {name}" in text
        assert "https://drive.google.com/drive/folders/" in text


@pytest.mark.parametrize("name", [entry.name for entry in list_models()])
def test_every_model_has_its_info_in_both_forms(run, name):
    code, out, _ = run("info", name)
    assert code == 0 and out.startswith(f"name                    {name}\n")
    assert all(
        len(line) <= 80
        or "http" in line
        or "sha256" in line
        or "_run1" in line
        or "load_model(" in line
        or "/" in line.split()[-1]
        for line in out.splitlines()
    )
    content = json.loads(run("info", name, "--json")[1])
    assert content["name"] == name and content["advice"]


def test_info_of_a_converted_file_tells_its_origin(run, converted):
    code, out, _ = run("info", converted)
    text = " ".join(out.split())
    assert code == 0 and "family mwmae" in text and "encoder heads 3" in text and "verified yes" in text
    assert "file checkpoint_5" in text and "parts encoder decoder" in text and "parameters 35008" in text


def test_info_of_a_damaged_file_is_an_error(run, converted, tmp_path):
    data = bytearray(converted.read_bytes())
    data[-1] ^= 64
    (tmp_path / "m.safetensors").write_bytes(data)
    code, out, err = run("info", tmp_path / "m.safetensors")
    assert (code, out) == (1, "") and "does not match its digest" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("info",), "Missing argument 'NAME_OR_FILE'"),
        (("info", "mwmae-bas"), "Did you mean mwmae-base"),
        (("info", ""), "neither a model's name nor a file"),
        (("list", "--xml"), "No such option"),
        (("list", "mwmae"), "unexpected extra argument"),
    ],
)
def test_wrong_use_exits_with_2(run, arguments, said):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "") and said in err


def test_a_terminal_obeys_nothing_in_a_strangers_header(tmp_path, run):
    path = tmp_path / "a.safetensors"
    notes = {
        "recipe\nverified  yes\x1b[2J": "\x1b]0;title\x07\rtrained   yes",
        "list": ["\x1b[31m"],
        "\x9b2J": {"\x1b": 1},
    }
    write_checkpoint(path, family="mwmae", config={"encoder_depth": 1}, tensors={"a": torch.ones(2)}, notes=notes)
    code, out, _ = run("info", str(path))
    assert code == 0 and "title" in out
    assert all(letter.isprintable() for letter in out.replace("\n", ""))
    assert "\nverified  yes" not in out
