"""`hear-models validate` as an author meets it: a module of their own, a wrong name, a module that does not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent.parent


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An author's folder, current, and not on the path unless the command puts it there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("authors_"):
            del sys.modules[name]


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(textwrap.dedent(text))


GOOD = """
    import torch

    class Model(torch.nn.Module):
        sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 8, 8

        def __init__(self):
            super().__init__()
            weight = torch.randn(800, 8, generator=torch.Generator().manual_seed(0))
            self.register_buffer("weight", weight / 800**0.5)

    def load_model(model_file_path=""):
        if model_file_path:
            raise FileNotFoundError(model_file_path)
        return Model().eval()

    def get_timestamp_embeddings(audio, model):
        model.eval()
        if audio.ndim != 2 or not audio.is_floating_point() or not audio.shape[1] or not audio.isfinite().all():
            raise ValueError("audio must be finite floats, [clips, samples]")
        with torch.inference_mode():
            frames = torch.nn.functional.pad(audio, (400, 400)).unfold(1, 800, 800)
            times = torch.arange(frames.shape[1], device=audio.device) * 50.0
            return ((frames @ model.weight).abs() + 1e-4).log().float(), times.repeat(len(audio), 1)

    def get_scene_embeddings(audio, model):
        return get_timestamp_embeddings(audio, model)[0].mean(dim=1)
"""


def test_a_module_in_the_current_folder_passes(run, folder):
    write(folder, "authors_model", GOOD)
    code, out, err = run("validate", "authors_model", "--quick")
    assert (code, err) == (0, "")
    assert "0 errors, 0 warnings" in out and "authors_model keeps the HEAR API." in out
    assert max(map(len, out.splitlines())) <= 80
    for check in ("batch", "centres", "memory", "drift"):
        assert any(line.split()[:2] == ["ok", check] for line in out.splitlines()), check


def test_a_fault_is_told_with_what_to_do(run, folder):
    write(folder, "authors_faulty", GOOD.replace("* 50.0", "* 0.05"))
    code, out, _ = run("validate", "authors_faulty", "--quick", "--only", "times-range")
    assert code == 1
    assert "ERROR    times-range" in out and "seconds" in out and "expected: milliseconds" in out
    assert "authors_faulty does not keep the HEAR API" in out
    assert max(map(len, out.splitlines())) <= 80


def test_json_is_for_programs(run, folder):
    write(folder, "authors_json", GOOD.replace("* 50.0", "* 0.05"))
    code, out, _ = run("validate", "authors_json", "--quick", "--json", "--only", "times-range")
    report = json.loads(out)
    assert code == 1 and report["ok"] is False and report["errors"] == 1
    (check,) = [check for check in report["checks"] if check["status"] == "error"]
    assert check["name"] == "times-range" and "seconds" in check["findings"][0]["found"]


def test_a_module_that_lacks_functions_is_told_which(run, folder):
    write(folder, "authors_empty", "load_model = 3\n")
    code, out, _ = run("validate", "authors_empty")
    assert code == 1
    for name in ("load_model", "get_timestamp_embeddings", "get_scene_embeddings"):
        assert f"the module has no function {name}" in out
    assert "def load_model(model_file_path" in out
    assert "1 check in" in out and "34 checks not run" in out


def test_a_crash_of_the_module_is_a_finding_not_a_traceback(run, folder):
    write(folder, "authors_crash", GOOD.replace("return Model().eval()", "raise SystemExit('no weights here')"))
    code, out, err = run("validate", "authors_crash")
    assert code == 1 and "Traceback" not in out + err
    assert "load_model() raised SystemExit: no weights here" in out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("authors_missing", "no module 'authors_missing'"),
        ("authors_missing.deep.inside", "no module 'authors_missing.deep.inside'"),
        ("mwmae-nono", "neither a model's name nor the dotted name"),
        ("models/authors_good", "as its .py file"),
        ("models/authors_gone.py", "does not exist"),
        ("authors_broken", "raised TypeError"),
        ("authors_needs", "needs 'a_package_that_nobody_has'"),
    ],
)
def test_what_cannot_be_imported_is_wrong_use(run, folder, name, words):
    write(folder, "authors_broken", "import os\nos.path.join(None, 'weights')\n")
    write(folder, "authors_needs", "import a_package_that_nobody_has\n")
    code, out, err = run("validate", name)
    assert code == 2 and out == ""
    assert err.startswith("error: ") and words in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--quick", "--long"), "exclude each other"),
        (("--model", "a", "--model", "b", "--model", "c"), "given 3 times"),
        (("--device", "no_such_device"), "cannot be used"),
        (("--only", "no-such-check"), "times-range"),  # the names that exist
    ],
)
def test_wrong_options_are_wrong_use(run, folder, arguments, words):
    write(folder, "authors_options", GOOD)
    code, _, err = run("validate", "authors_options", *arguments)
    assert code == 2 and words in err


def test_a_name_of_the_registry_has_its_weights_already(run):
    code, _, err = run("validate", "mwmae-nano", "--model", "other.safetensors")
    assert code == 2 and "hear_models.mwmae --model other.safetensors" in err


def test_weights_that_are_not_published_are_no_fault_of_the_module(run):
    code, out, err = run("validate", "mwmae-base")
    assert (code, out) == (1, "") and err.startswith("error: ") and "hear-models fetch" in err


def test_two_weights_files_must_give_two_models(run, folder):
    """The path is read and checked, and then nothing comes of it."""
    reads = "assert open(model_file_path).read().startswith('weights')"
    write(folder, "authors_ignores", GOOD.replace("raise FileNotFoundError(model_file_path)", reads))
    for name in ("a.pt", "b.pt"):
        (folder / name).write_text(f"weights {name}")
    arguments = ("--model", "a.pt", "--model", "b.pt", "--only", "weights-path")
    code, out, _ = run("validate", "authors_ignores", *arguments)
    assert code == 1 and "a.pt and b.pt give the same embeddings" in " ".join(out.split())


def test_a_reader_of_help_learns_names_and_exit_codes():
    done = subprocess.run(
        [sys.executable, "-m", "hear_models.cli.main", "validate", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "Exit status: 0 without errors" in done.stdout and "hear-models validate mwmae-nano" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


PRINTS = """
    import os
    import sys

    print("loading weights ...")
    os.system("echo from below")
""" + GOOD.replace("return Model().eval()", "print('Model(', 8, ')')\n        return Model().eval()")


def test_a_module_that_prints_does_not_break_json(folder):
    """Neither at import, nor when it loads or embeds, nor from below Python."""
    write(folder, "authors_prints", PRINTS)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "hear_models.cli.main",
            "validate",
            "authors_prints",
            "--json",
            "--only",
            "scene-shapes",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])},
    )
    assert json.loads(done.stdout)["ok"] and done.returncode == 0
    assert "loading weights ..." in done.stderr and "from below" in done.stderr


def test_with_weights_given_nothing_demands_a_default(run, folder):
    text = GOOD.replace('def load_model(model_file_path="")', "def load_model(model_file_path)")
    text = text.replace("if model_file_path:", "if not model_file_path.endswith('good.pt'):")
    write(folder, "authors_needs_weights", text)
    (folder / "good.pt").write_bytes(b"")
    code, out, _ = run("validate", "authors_needs_weights", "--model", "good.pt", "--quick", "--only", "reload")
    assert code == 0, out
    code, out, _ = run("validate", "authors_needs_weights", "--quick", "--only", "load")
    assert code == 1 and "cannot be called as load_model()" in " ".join(out.split())


def test_options_reach_load_model_and_unknown_ones_are_wrong_use(run, folder):
    text = GOOD.replace('def load_model(model_file_path="")', 'def load_model(model_file_path="", rate=16000)')
    text = text.replace(
        "return Model().eval()", "model = Model().eval()\n        model.sample_rate = rate\n        return model"
    )
    write(folder, "authors_options", text)
    code, out, _ = run("validate", "authors_options", "--set", "rate=8000", "--only", "attributes")
    assert code == 1 and "sample_rate is 8000 Hz" in out
    code, out, err = run("validate", "authors_options.py", "--set", "nope=1", "--only", "load")
    assert (code, out) == (2, "") and "nope" in err and "model_file_path, rate" in err
    code, _, err = run("validate", "mwmae-nano", "--set", "timestemps=official", "--only", "load")
    assert code == 2 and "Did you mean timestamps?" in err


def test_the_traceback_is_shown_to_who_asks(run, folder):
    write(folder, "authors_trace", GOOD.replace("return Model().eval()", "return 1 / 0"))
    _, out, _ = run("validate", "authors_trace", "--only", "load")
    assert "ZeroDivisionError" in out and "Traceback" not in out
    _, out, _ = run("validate", "authors_trace", "--only", "load", "-v")
    assert "Traceback" in out and "return 1 / 0" in out
    write(folder, "authors_broken_import", "1 / 0\n")
    code, _, err = run("validate", "authors_broken_import", "-v")
    assert code == 2 and "Traceback" in err and err.rstrip().splitlines()[-1].startswith("error: ")


REFUSES = "if audio.ndim != 2 or not audio.is_floating_point() or not audio.shape[1] or not audio.isfinite().all():"
ACCEPTS = GOOD.replace(REFUSES, "if audio.ndim != 2 or not audio.float().isfinite().all():")


@pytest.mark.parametrize(("check", "words"), [("refusals", "accepts int16 audio silently"), ("autocast", "bfloat16")])
def test_good_manners_are_warnings_and_stand_apart_from_the_verdict(run, folder, check, words):
    text = ACCEPTS.replace(
        "with torch.inference_mode():", "audio = audio.float()\n        with torch.inference_mode():"
    )
    if check == "autocast":
        text = GOOD.replace("((frames @ model.weight).abs() + 1e-4).log().float()", "(frames @ model.weight).abs()")
    write(folder, f"authors_manners_{check}", text)
    code, out, _ = run("validate", f"authors_manners_{check}", "--only", check)
    said = " ".join(out.split())
    assert code == 0 and words in said and f"authors_manners_{check} keeps the HEAR API." in said
    assert "Good manners, which the API does not ask for: 2 warnings." in said


def test_the_verdict_is_about_the_api_alone(run, folder):
    """Embeddings that move beside a neighbour make scores wrong; the API is kept all the same."""
    write(folder, "authors_batches", GOOD.replace("frames @ model.weight", "(frames - frames.mean(0)) @ model.weight"))
    code, out, _ = run("validate", "authors_batches", "--only", "batch", "--quick")
    assert code == 1 and "authors_batches keeps the HEAR API." in out and "What scores rest on: 1 error." in out
    code, out, _ = run("validate", "authors_batches", "--only", "batch", "--quick", "--json")
    report = json.loads(out)
    assert (report["ok"], report["keeps_api"]) == (False, True)
    assert {check["part"] for check in report["checks"]} == {"api", "scores"}
