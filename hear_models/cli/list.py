"""`hear-models list`: the table of models."""

from __future__ import annotations

import json

import click

WHAT = {
    "bundled": "weights that come with the package",
    "hub": "weights on the Hugging Face Hub; downloaded when first loaded",
    "parameterless": "nothing to learn, nothing to load",
    "fetched": "official weights, fetched and converted on this machine",
    "unpublished": "official weights exist: `hear-models fetch NAME`",
    "untrained": "a configuration; loading it gives a random network and a warning",
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--all", "show_all", is_flag=True, help="Also the sizes without weights, for training of your own.")
@click.option("--trained", is_flag=True, help="Only those that can be used now: weights are there, or none are needed.")
@click.option("--family", metavar="NAME", help="Only those of one family, with --all its untrained sizes too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list: all models, or those chosen.")
def command(show_all: bool, trained: bool, family: str | None, as_json: bool) -> None:
    """List the models: name, dimensions, and whether there are weights.

    Shown are the models that you can use as they are, then those whose official
    weights exist. With --all also the untrained sizes.

    A name is what `hear_models.load_model`, `hear-models embed --model` and
    `hear-models info` take. A star marks the default of its family.
    """
    from dataclasses import asdict

    from hear_models.errors import UsageError
    from hear_models.zoo import list_models
    from hear_models.zoo.registry import default_entry, did_you_mean

    if trained and show_all:
        raise UsageError(
            "--all and --trained exclude each other: the untrained sizes have no weights. Give one of them."
        )
    every = list_models()
    if family is not None:
        name = family.removeprefix("hear_models.").replace("-", "_")
        families = sorted({entry.family for entry in every})
        if name not in families:
            near = did_you_mean(name, families)
            raise UsageError(f"there is no family {family!r}. {near}The families: {', '.join(families)}.")
        every = [entry for entry in every if entry.family == name]
    if trained:
        every = [entry for entry in every if entry.trained]
    if as_json:
        rows = [asdict(entry) for entry in every]
        for row in rows:
            del row["manifest"]  # `info` tells it
        click.echo(json.dumps(rows, indent=1))
        return

    entries = every if show_all else [entry for entry in every if entry.status != "untrained"]

    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("weights", no_wrap=True)
    table.add_column("dims", justify="right", no_wrap=True)
    table.add_column("what", overflow="fold")
    for entry in entries:
        name = f"{entry.name} *" if entry.default else entry.name
        table.add_row(name, entry.status, str(entry.scene_embedding_size), entry.summary)
    console = Console(highlight=False)
    console.print(table)
    for status in dict.fromkeys(entry.status for entry in entries):
        console.print(f"{status}: {WHAT[status]}")
    if family is None:
        console.print(f"the default, without a name: {default_entry(None).name}")
    if len(every) > len(entries):
        console.print(f"{len(every) - len(entries)} untrained sizes more: hear-models list --all")
