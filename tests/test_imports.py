"""First contact is quick: the front door and `--help` load no torch, which takes seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "soundfile", "huggingface_hub", "pyarrow", "sklearn")


def loaded_by(code: str) -> set[str]:
    """The heavy packages in `sys.modules` of a fresh interpreter after `code`."""
    probe = f"{code}\nimport sys\nprint('loaded:', *[name for name in {HEAVY!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.rpartition("loaded:")[2].split())


def command(*arguments: str) -> str:
    """Code that runs `hear-models ARGUMENTS` as the console script does, and survives its exit."""
    return (
        f"import sys\nsys.argv = ['hear-models', *{arguments!r}]\nfrom hear_models.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )


def test_the_probe_sees_an_import():
    assert "numpy" in loaded_by("import numpy")


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import hear_models\nassert hear_models.__version__") == set()


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("no-such-command", "--help")], ids=" ".join)
def test_help_loads_nothing_heavy(arguments):
    code = command(*arguments)
    if arguments[0] == "no-such-command":
        code = code.replace("assert not end.code", "assert end.code == 2")
    assert loaded_by(code) == set()


def test_help_of_each_command_does_not_load_torch():
    from hear_models.cli.main import COMMANDS

    code = "\n".join(command(name, "--help") for name in COMMANDS)
    assert "torch" not in loaded_by(code)


def test_listing_the_models_does_not_load_torch():
    assert "torch" not in loaded_by(command("list"))


def test_the_public_functions_are_there():
    import hear_models

    for name in hear_models.__all__:
        assert getattr(hear_models, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = hear_models.nothing_of_that_name
