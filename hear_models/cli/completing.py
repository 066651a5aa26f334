"""What a shell is told when somebody presses Tab: names of models, families, tasks, recipes. Torch is not asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

COMPLETING = "_HEAR_MODELS_COMPLETE"  # the variable by which click's scripts ask
Names = Callable[[], Iterable[tuple[str, str]]]  # name and a line about it


def models() -> Iterable[tuple[str, str]]:
    """Every model of the registry, in the order of `hear-models list`."""
    from hear_models.zoo.registry import list_models

    return [(entry.name, entry.summary) for entry in list_models()]


def families() -> Iterable[tuple[str, str]]:
    """Every family."""
    from hear_models.zoo.families import families as names

    return [(name, "") for name in names()]


def tasks() -> Iterable[tuple[str, str]]:
    """HEAR's tasks, by what comes before the version."""
    from hear_models.tasks.known_tasks import known_tasks

    return [(task.short, task.folder) for task in known_tasks().values()] + [
        (folder, task.title) for folder, task in known_tasks().items()
    ]


def recipes() -> Iterable[tuple[str, str]]:
    """The recipes that ship with the package."""
    from hear_models.training.recipe import recipe_names

    return [(name, "") for name in recipe_names()]


# by option, in every command
OPTIONS: dict[str, Names] = {"--model": models, "--models": models, "--tasks": tasks, "--task": tasks}
# by command and parameter; where a file may stand too, the shell completes files when no name fits
COMPLETED: dict[str, dict[str, Names]] = {
    "list": {"family": families},
    "info": {"name": models},
    "download": {"name": models},
    "fetch": {"name": models},
    "convert": {"family": families},
    "publish": {"name": models},
    "validate": {"module": models},
    "pretrain": {"recipe": recipes},
    "evaluate": {"models": models},
    "reproduce": {"name": models},
    "tasks list": {"names": tasks},
    "tasks download": {"names": tasks},
    "tasks prepare": {"names": tasks},
    "tasks check": {"names": tasks},
    "tasks resample": {"names": tasks},
    "analyze filters": {"name": models},
}


def names_of(command: str, param: click.Parameter) -> Names | None:
    """What a parameter of a command is completed with; None: with files, or nothing."""
    by_option = [OPTIONS[option] for option in param.opts if option in OPTIONS]
    is_file = isinstance(param.type, click.Path) or (command, param.name) == ("validate", "models")
    return COMPLETED.get(command, {}).get(param.name or "") or (by_option[0] if by_option and not is_file else None)


class Completed(click.ParamType):
    """A type as before that completes names; of several with commas between, the last one."""

    def __init__(self, inner: click.ParamType, names: Names) -> None:
        self.inner, self.names, self.name = inner, names, inner.name

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return self.inner.get_metavar(param, ctx)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self.inner.convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, begun = incomplete.rpartition(",")
        found = [
            CompletionItem(before + comma + name, help=line or None)
            for name, line in self.names()
            if name.lower().startswith(begun.lower())
        ]
        return found or [CompletionItem(incomplete, type="file")]


def complete_names(command: click.Command, name: str) -> None:
    """Let the parameters of a command, and of those below it, complete their names."""
    for param in command.params:
        names = names_of(name, param)
        if names is not None:
            param.type = Completed(param.type, names)
    for below, subcommand in getattr(command, "commands", {}).items():
        complete_names(subcommand, f"{name} {below}")
