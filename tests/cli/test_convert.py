"""`hear-models convert` as a user meets it: output, exit codes, and one clear line for every mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hear_models.checkpoints.safetensors_file import read_checkpoint

GOLDEN = Path(__file__).parent.parent / "golden" / "mwmae"
MINI = str(GOLDEN / "mwmae_mini")
HEADS = ("--set", "encoder_heads=3")


def test_conversion_says_what_was_written_and_how_to_load_it(run, tmp_path):
    output = tmp_path / "mini.safetensors"
    code, out, err = run("convert", "mwmae", MINI, output, *HEADS)
    assert (code, err) == (0, "")
    assert f"{output}: mwmae, 35,008 parameters, encoder and decoder" in out
    assert f"load it: hear_models.load_model({str(output)!r})" in out and "config.json" in out
    assert read_checkpoint(output).source["file"] == "checkpoint_5"


def test_report_has_a_line_for_every_tensor_and_fits_80_columns(run, tmp_path):
    code, out, _ = run("convert", "mwmae", GOLDEN / "mwmae_bf16_mini", tmp_path / "m.safetensors", *HEADS, "--report")
    assert code == 0 and out.count("params/") == 39
    assert "params/mask_token\n  decoder.mask_token  [1x1x16]  bfloat16, as is\n" in out
    assert "decoder_windows = [5, 25, 0, 0]\n" in out and "opt_state" in out
    assert max(len(line) for line in out.splitlines() if str(tmp_path) not in line and str(GOLDEN) not in line) <= 100


def test_json_holds_configuration_and_rows(run, tmp_path):
    code, out, _ = run("convert", "mae", GOLDEN / "mae_mini", tmp_path / "m.safetensors", *HEADS, "--json")
    content = json.loads(out)
    assert code == 0 and content["config"]["class_token"] is True and len(content["rows"]) == 62
    assert content["rows"][0].keys() == {"official", "name", "shape", "dtype", "operation"}


def test_settings_take_lists_with_and_without_brackets(run, tmp_path):
    source = tmp_path / "checkpoint_5"
    shutil.copy(GOLDEN / "mwmae_mini" / "checkpoint_5", source)  # no config.json beside it
    for text in ("[2,5,10,25,50,125,0,0]", "2,5,10,25,50,125,0,0"):
        output = tmp_path / "m.safetensors"
        code, _, err = run("convert", "mwmae", source, output, *HEADS, "--set", f"decoder_windows={text}", "--force")
        assert (code, err) == (0, "")
    assert read_checkpoint(output).config["decoder_windows"] == [2, 5, 10, 25, 50, 125, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("mwmae", MINI), 2, "Missing argument 'OUTPUT.safetensors'"),
        (("os", MINI, "o.safetensors"), 2, "no converter for the family 'os'. Use one of "),
        (("mwmae", "nothing", "o.safetensors"), 1, "nothing does not exist"),
        (("mwmae", MINI, "o.safetensors"), 1, "Give --set encoder_heads=N"),
        (("mwmae", MINI, "o.pt", *HEADS), 2, "does not end in .safetensors"),
        (("mwmae", MINI, "no/o.safetensors", *HEADS), 2, "the folder no does not exist"),
        (("mwmae", MINI, "there.safetensors", *HEADS), 2, "overwrite it with --force"),
        (("mwmae", MINI, "o.safetensors", "--set", "encoder_heads"), 2, "not of the form FIELD=VALUE"),
        (("mwmae", MINI, "o.safetensors", "--set", "=3"), 2, "not of the form FIELD=VALUE"),
        (("mwmae", MINI, "o.safetensors", "--set", "heads=3"), 2, "has no field 'heads'. Its fields: encoder_width"),
        (("mwmae", MINI, "o.safetensors", "--set", "encoder_heads=three"), 2, "'three' is not a whole number"),
        (("mwmae", MINI, "o.safetensors", *HEADS, *HEADS), 2, "encoder_heads is given twice"),
        (("mwmae", MINI, "o.safetensors", *HEADS, "--config", "text"), 1, "is not JSON"),
        (("mwmae", MINI, "o.safetensors", *HEADS, "--config", "nothing"), 1, "cannot be read"),
        (("mae", MINI, "o.safetensors", *HEADS), 1, "Use `hear-models convert mwmae`"),
        (("mwmae", ".", "o.safetensors"), 1, "holds no file named checkpoint_<step>"),
        (("mwmae", "empty", "o.safetensors"), 1, "the file is empty"),
        (("mwmae", "text", "o.safetensors"), 1, "this is a text file"),
        (("mwmae", "zip", "o.safetensors"), 1, "zip archive"),
        (("mwmae", "cut", "o.safetensors", *HEADS), 1, "ends too early"),
        (("mwmae", "there.safetensors", "o.safetensors", *HEADS), 1, "safetensors file"),
    ],
)
def test_every_mistake_is_one_line_and_writes_nothing(run, tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    whole = (GOLDEN / "mwmae_mini" / "checkpoint_5").read_bytes()
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("Quota exceeded, try again later")
    (tmp_path / "zip").write_bytes(b"PK\x03\x04" + bytes(60))
    (tmp_path / "cut").write_bytes(whole[:-1000])
    (tmp_path / "there.safetensors").write_bytes((40).to_bytes(8, "little") + b'{"a":1}' + bytes(40))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    got, out, err = run("convert", *arguments)
    assert (got, out) == (code, "") and said in err, err
    if "Missing argument" not in said:
        assert err.startswith("error: ") and err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("command", ["convert", "list", "info"])
def test_help_fits_80_columns(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0 and max(map(len, out.splitlines())) <= 80 and "Usage: hear-models" in out


def test_list_info_and_help_do_not_load_torch():
    code = (
        "import sys\nfrom hear_models.cli.main import cli\n"
        "for args in (['list'], ['list', '--json'], ['info', 'mwmae-base'], ['convert', '--help']):\n"
        "    cli.main(args, standalone_mode=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
