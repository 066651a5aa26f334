"""The `hear-models` command: commands that load when called, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import rich
from click.shell_completion import CompletionItem

from hear_models.cli.completing import COMPLETING, complete_names
from hear_models.errors import HearModelsError
from hear_models.version import __version__

# name → (module, one line for --help): the modules, and torch behind them, load only when their command runs
COMMANDS = {
    "demo": ("hear_models.cli.demo", "Embed the bundled recordings with the bundled checkpoint."),
    "list": ("hear_models.cli.list", "List the models."),
    "info": ("hear_models.cli.info", "Show everything known about one model."),
    "download": ("hear_models.cli.download", "Fetch a model from the Hugging Face Hub and verify it."),
    "fetch": ("hear_models.cli.fetch", "Fetch the official weights of a model and convert them."),
    "embed": ("hear_models.cli.embed", "Embed audio files and folders."),
    "classify": ("hear_models.cli.classify", "Fit a classifier on labelled recordings, and use it."),
    "search": ("hear_models.cli.search", "Find recordings, and places in them, that sound like one."),
    "map": ("hear_models.cli.map", "Draw recordings as a map to look at and listen to, one HTML page."),
    "tag": ("hear_models.cli.tag", "Say what is heard in recordings, and when."),
    "changes": ("hear_models.cli.changes", "Say where a long recording changes."),
    "verify": ("hear_models.cli.verify", "Compare the voices in two recordings."),
    "eval-trials": ("hear_models.cli.eval_trials", "Speaker verification: EER and costs of a list of trials."),
    "convert": ("hear_models.cli.convert", "Convert an official checkpoint to safetensors."),
    "publish": ("hear_models.cli.publish", "Publish a model with a generated card on the Hugging Face Hub."),
    "validate": ("hear_models.cli.validate", "Check any HEAR module against the API, and beyond it."),
    "pretrain": ("hear_models.cli.pretrain", "Pretrain a model by a recipe."),
    "tasks": ("hear_models.cli.tasks", "Task data for evaluation: list, fetch, check, resample, make."),
    "evaluate": ("hear_models.cli.evaluate", "Score models on the tasks of HEAR."),
    "leaderboard": ("hear_models.cli.leaderboard", "Make a table from results, with intervals and published figures."),
    "reproduce": ("hear_models.cli.reproduce", "Make a published row again, with a verdict."),
    "gise51": ("hear_models.cli.gise51", "Isolated sound events and their mixtures: fetch, check, mix, pack."),
    "analyze": ("hear_models.cli.analyze", "Look at the filters that a model has learned."),
    "check": ("hear_models.cli.check", "Re-read what was written, and say what was damaged since."),
    "synthesise": ("hear_models.cli.synthesise", "Write procedurally generated audio to a folder."),
    "completion": ("hear_models.cli.completion", "Print what makes a shell complete commands and names."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called; `--help` prints the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[name][0]).command
        _refuse_empty_paths(command)
        if COMPLETING in os.environ:
            complete_names(command, name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """From the table: nothing is imported to complete a command's name."""
        found = [CompletionItem(name, help=line) for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, but a mistyped command is told which one was meant."""
        name = args[0]
        near = get_close_matches(name, COMMANDS, n=1)
        if name not in COMMANDS and near and not name.startswith("-"):
            ctx.fail(f"No such command {name!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


class NamedPath(click.ParamType):
    """A path as before, but not the empty one: that is a variable of the shell that is not set."""

    name = "path"

    def __init__(self, path: click.Path) -> None:
        self.path = path

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return self.path.get_metavar(param, ctx)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty; name a file or a folder ('.' is the current one).", param, ctx)
        return self.path.convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> Any:
        return self.path.shell_complete(ctx, param, incomplete)


def _refuse_empty_paths(command: click.Command) -> None:
    for param in command.params:
        if isinstance(param.type, click.Path):
            param.type = NamedPath(param.type)
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            _refuse_empty_paths(subcommand)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hear-models")
def cli() -> None:
    """Audio-representation models behind one contract, the HEAR 2021 API."""


def main() -> None:
    """Run the command line: 0 = done, 1 = work that failed, 2 = wrong use."""
    warnings.showwarning = lambda message, *_, **__: click.echo(f"warning: {_harmless(message)}", err=True)
    try:
        try:
            cli.main(prog_name="hear-models", standalone_mode=True)
        finally:
            sys.stdout.flush()  # here, not when Python ends: a full disk is told in one line
    except HearModelsError as error:
        click.echo(f"error: {_harmless(error)}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # of the machine: a full disk, a folder without permission
        if _was_printing(error):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python still holds goes there
            click.echo(f"error: what was to be printed cannot be written: {error.strerror}.", err=True)
        else:
            where = f"{error.filename}: " if error.filename else ""
            advice = "Check the path, its permissions and the free space."
            click.echo(f"error: {where}{error.strerror or error}. {advice}", err=True)
        sys.exit(1)


def _harmless(message: object) -> str:
    """A message as it is, but for what a terminal would obey: names in it may be a stranger's."""
    from hear_models.checkpoints.pickle_data import printable

    return "\n".join(printable(line, len(line)) for line in str(message).split("\n"))


def _was_printing(error: OSError) -> bool:
    """Whether it was raised where text is printed."""
    frames = traceback.extract_tb(error.__traceback__)
    printers = (__file__, str(Path(click.__file__).parent), str(Path(rich.__file__).parent))
    return bool(frames) and frames[-1].filename.startswith(printers)


if __name__ == "__main__":
    main()
