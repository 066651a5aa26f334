"""All commands speak alike: -o, -m and --json mean the same everywhere, everything has a help, Tab completes names."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from hear_models.cli import completing
from hear_models.cli.main import COMMANDS, cli

# what prints no result for programs: their work are files, and lines while they work
NO_JSON = {
    "demo",
    "completion",
    "synthesise",
    "pretrain",
    "reproduce",  # leaves a folder to check in
    "tasks download",
    "tasks prepare",
    "gise51 download",
    "gise51 mix",
    "gise51 pack",
}
NAMED_MODELS = {"mwmae-nano", "mae-nano"}


def commands() -> dict[str, click.Command]:
    """Every command that does something, by what a person types."""
    found: dict[str, click.Command] = {}

    def add(name: str, command: click.Command) -> None:
        if isinstance(command, click.Group):
            for below, subcommand in command.commands.items():
                add(f"{name} {below}", subcommand)
        else:
            found[name] = command

    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        add(name, command)
    return found


EVERY = commands()
OPTIONS = [
    (name, param) for name, command in EVERY.items() for param in command.params if isinstance(param, click.Option)
]


def options(name: str, long: str) -> list[click.Option]:
    return [param for where, param in OPTIONS if where == name and long in param.opts]


@pytest.mark.parametrize("name", EVERY)
def test_output_and_model_have_their_letters_and_no_other_option_has(name):
    for long, short in (("--output", "-o"), ("--model", "-m")):
        for option in options(name, long):
            assert short in option.opts
        for option in (param for where, param in OPTIONS if where == name and short in param.opts):
            assert long in option.opts


@pytest.mark.parametrize("name", EVERY)
def test_every_command_that_finds_something_out_says_it_as_json_too(name):
    found = options(name, "--json")
    assert bool(found) != (name in NO_JSON)
    for option in found:
        assert option.is_flag and option.name == "as_json" and option.opts == ["--json"]
        assert option.help.startswith(("Print one JSON", "Print JSON", "Print the report as one JSON"))


@pytest.mark.parametrize("name", EVERY)
def test_the_help_of_every_command_fits_80_columns(name):
    done = CliRunner().invoke(cli, [*name.split(), "-h"], terminal_width=80)
    assert done.exit_code == 0 and max(map(len, done.output.splitlines())) <= 80
    assert EVERY[name].help


# ---------------------------------------------------------------------------------------------------------- completion
def completed(words: list[str], begun: str) -> list[str]:
    """What Tab offers after `words`, as click's own machinery finds it."""
    from click.shell_completion import ShellComplete

    return [item.value for item in ShellComplete(cli, {}, "hear-models", "X").get_completions(words, begun)]


@pytest.fixture
def tab(monkeypatch):
    monkeypatch.setenv(completing.COMPLETING, "bash_complete")
    return completed


@pytest.mark.parametrize(
    ("words", "begun", "found"),
    [
        ([], "lead", "leaderboard"),
        (["info"], "mwmae-n", "mwmae-nano"),
        (["embed", "-m"], "ssam-n", "ssam-nano"),
        (["embed", "x.wav", "--model"], "mwmae-n", "mwmae-nano"),
        (["validate"], "gise51-n", "gise51-nano"),
        (["evaluate"], "leaf-n", "leaf-nano"),
        (
            ["evaluate", "x", "--tasks"],
            "esc50-v2.0.0-full,nsynth_pitch-v2.2.3-5",
            "esc50-v2.0.0-full,nsynth_pitch-v2.2.3-5h",
        ),
        (["tasks", "list"], "esc5", "esc50-v2.0.0-full"),
        (["tasks", "list"], "ESC", "ESC-50"),
        (["pretrain"], "mae-", "mae-nano"),
        (["convert"], "audio_m", "audio_mamba"),
        (["list", "--family"], "gise", "gise51"),
        (["embed", "--kind"], "time", "timestamps"),
        (["list"], "--tra", "--trained"),
    ],
)
def test_tab_completes(tab, words, begun, found):
    assert found in tab(words, begun)


def test_every_completed_parameter_exists():
    for name, of in completing.COMPLETED.items():
        assert of.keys() <= {param.name for param in EVERY[name].params}, name


def test_every_parameter_that_takes_a_model_or_a_task_completes_it():
    for name, command in EVERY.items():
        for param in command.params:
            named = "--model" in param.opts or "hear-models list`" in (getattr(param, "help", "") or "")
            named = named or bool({"--tasks", "--task"} & set(param.opts))
            if named and (name, param.name) != ("validate", "models"):  # there --model is a file
                assert completing.names_of(name, param) is not None, (name, param.name)


def test_completing_imports_no_torch_and_says_what_a_shell_reads():
    environment = {
        **os.environ,
        completing.COMPLETING: "bash_complete",
        "COMP_WORDS": "hear-models info mwmae-n",
        "COMP_CWORD": "2",
    }
    program = (
        "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr));"
        "from hear_models.cli.main import main; sys.argv = ['hear-models']; main()"
    )
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert time.perf_counter() - begin < 60
    assert "plain,mwmae-nano" in done.stdout.splitlines() and done.stderr.splitlines()[-1] == "False"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_names_the_variable_that_is_looked_at(shell):
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0 and f"{completing.COMPLETING}={shell}_complete" in done.output


# --------------------------------------------------------------------------------------------------------- suggestions
def refused(*arguments: str) -> str:
    done = CliRunner().invoke(cli, list(arguments))
    assert done.exit_code == 2 or getattr(done.exception, "exit_code", None) == 2, done.output
    return done.output + str(done.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "mwmae-nan"],
        ["validate", "mwmae_nano"],
        ["validate", "mwmaenano"],
        ["info", "mwmae-nan"],
        ["embed", "x.wav", "-o", "x", "-m", "mwmae-nan"],
        ["publish", "mwmae-nan", "a/b"],
        ["fetch", "mwmae-bas"],
    ],
)
def test_a_mistyped_model_is_told_which_may_be_meant(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.wav").write_bytes(b"")
    said = refused(*arguments)
    assert "Did you mean" in said and "mwmae-" in said.split("Did you mean")[1]


@pytest.mark.parametrize("typed", ["esc", "ESC_5", "escc50", "bejing_opera", "Beijing", "nsynth", "Mridangam"])
@pytest.mark.parametrize(
    "command", [["tasks", "list"], ["tasks", "make-small", "toys", "--task"], ["tasks", "download", "."]]
)
def test_a_mistyped_task_is_told_which_may_be_meant(command, typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "Did you mean" in refused(*command, typed)


@pytest.mark.parametrize("typed", ["ESC50", "esc-50", "ESC-50", "esc50", "Esc50", "esc50-v2.0.0-full", "NS5h", "ns-5h"])
def test_a_task_may_be_written_as_people_write_it(typed):
    done = CliRunner().invoke(cli, ["tasks", "list", typed])
    assert done.exit_code == 0, done.output


def test_models_can_be_filtered_and_the_default_stays_in_sight():
    runner = CliRunner(env={"COLUMNS": "80"})
    listed = runner.invoke(cli, ["list", "--trained"]).output
    assert "mwmae-nano *" in listed and "mwmae-base" not in listed
    assert "the default, without a name: mwmae-nano" in listed.splitlines()[-1]
    gise = runner.invoke(cli, ["list", "--family", "gise51", "--trained"]).output
    assert "gise51-nano" in gise and "mwmae" not in gise
    assert "Did you mean gise51?" in refused("list", "--family", "gise5")
    assert "exclude each other" in refused("list", "--all", "--trained")
