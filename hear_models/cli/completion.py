"""`hear-models completion`: the script that makes a shell complete commands, options and names."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the script for SHELL. Once, for the shell that runs now, or for good:

    \b
      eval "$(hear-models completion bash)"
      echo 'eval "$(hear-models completion bash)"' >> ~/.bashrc
      echo 'eval "$(hear-models completion zsh)"' >> ~/.zshrc
      hear-models completion fish > ~/.config/fish/completions/hear-models.fish

    Then Tab completes commands, options, files, and the names of models,
    families, tasks and recipes.
    """
    from click.shell_completion import get_completion_class

    from hear_models.cli.completing import COMPLETING
    from hear_models.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None  # one of click's own
    click.echo(kind(cli, {}, "hear-models", COMPLETING).source())
