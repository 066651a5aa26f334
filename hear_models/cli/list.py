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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list of all models.")
def command(show_all: bool, as_json: bool) -> None:
    """List the models: name, dimensions, and whether there are weights.

    Shown are the models that you can use as they are, then those whose official
    weights exist. With --all also the untrained sizes.

    A name is what `hear_models.load_model`, `hear-models embed --model` and
    `hear-models info` take. A star marks the default of its family.
    """
    from dataclasses import asdict

    from hear_models.zoo import list_models

    every = list_models()
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
    if len(every) > len(entries):
        console.print(f"{len(every) - len(entries)} untrained sizes more: hear-models list --all")
