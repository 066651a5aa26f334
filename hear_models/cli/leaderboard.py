"""`hear-models leaderboard`: records as a table one can trust."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hear_models.cli.terminal import ProgressLine, stopping_with

if TYPE_CHECKING:
    from hear_models.evaluation.board.leaderboard import Board

FORMATS = {"terminal": ".txt", "markdown": ".md", "csv": ".csv", "html": ".html", "latex": ".tex"}


def _split(values: tuple[str, ...]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(list(FORMATS)), help="[default: from the name of -o, else terminal]"
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
@click.option("--tasks", multiple=True, help="Only these tasks, with commas between; `paper`: the papers' ten.")
@click.option("--models", multiple=True, help="Only these models, with commas between; * stands for anything.")
@click.option("--protocol", type=click.Choice(["hear", "paper"]), help="Only results of this protocol.")
@click.option("--allow-untrained", is_flag=True, help="Show models with random weights, marked.")
@click.option("--no-published", is_flag=True, help="Leave published figures and rows out.")
@click.option(
    "--published-rows",
    "rows",
    multiple=True,
    metavar="NAMES",
    help="Published rows below yours: models or keys with commas between, * stands for anything; all, none.",
)
@click.option(
    "--published",
    "keys",
    multiple=True,
    metavar="MODEL=KEY",
    help="Compare MODEL with this row of published scores.",
)
@click.option("--title", default="", help="Title of the page or document.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: the rows of the CSV, and what is said.")
@click.option("--resamples", type=click.IntRange(min=0), help="Of the bootstrap; 0: mark no ties.  [default: 2000]")
@click.option(
    "--imported-protocol",
    type=click.Choice(["hear", "paper"]),
    help="How results were made that hear-eval-kit wrote elsewhere.",
)
@click.option("--keys", "list_keys", is_flag=True, help="List the keys of all published scores and stop.")
def command(
    results: tuple[Path, ...],
    form: str | None,
    output: Path | None,
    tasks: tuple[str, ...],
    models: tuple[str, ...],
    protocol: str | None,
    allow_untrained: bool,
    no_published: bool,
    rows: tuple[str, ...],
    keys: tuple[str, ...],
    title: str,
    as_json: bool,
    resamples: int | None,
    imported_protocol: str | None,
    list_keys: bool,
) -> None:
    """Make a leaderboard from RESULTS: folders that `hear-models evaluate` or
    hear-eval-kit wrote.

    Every score is a mean over seeds with its 95 % half width. The best model of a
    task is marked, and those that the test clips cannot tell from it. Published
    figures stand beside, with a verdict, and published rows of others below. One
    table holds one protocol and one kind of tasks; toy tasks never stand beside
    published figures.
    """
    from hear_models.errors import UsageError

    if list_keys:
        _print_keys()
        return
    if not results:
        raise UsageError("Name at least one folder of results. `hear-models evaluate` writes them.")
    if no_published and (rows or keys):
        raise UsageError("--no-published leaves out what --published-rows and --published ask for. Give one of them.")
    if as_json and (form or output):
        raise UsageError("--json prints; it goes with neither --format nor -o. Leave it out, or them.")
    form = "json" if as_json else form or _format_of(output)
    if output is not None and not output.parent.is_dir():
        raise UsageError(f"The folder {output.parent} does not exist. Make it, or write elsewhere.")
    from hear_models.evaluation.board.leaderboard import Options, build
    from hear_models.evaluation.board.results import gather

    options = Options(
        tasks=_split(tasks),
        models=_split(models),
        protocol=protocol,
        allow_untrained=allow_untrained,
        published=not no_published,
        keys=_parse_keys(keys),
        rows=_split(rows),
        title=" ".join(title.split()),
        resamples=resamples,
    )
    with stopping_with("interrupted; nothing was written"):
        with ProgressLine() as progress:
            found = gather(results, imported_protocol, progress.say)
            board = build(found, options, lambda what: progress.say(f"resampling: {what}"))
        _write(_render(board, form, bool(options.rows)), output)


def _format_of(output: Path | None) -> str:
    from hear_models.errors import UsageError

    if output is None:
        return "terminal"
    for name, suffix in FORMATS.items():
        if output.suffix.lower() == suffix:
            return name
    raise UsageError(
        f"{output}: its name does not tell the format. Add --format, or end it in .md, .csv, .html, .tex or .txt."
    )


def _parse_keys(keys: tuple[str, ...]) -> dict[str, str]:
    from hear_models.errors import UsageError

    pairs = {}
    for text in keys:
        model, sign, key = text.partition("=")
        if not (sign and model.strip() and key.strip()):
            raise UsageError(f"--published {text!r} is not MODEL=KEY. `hear-models leaderboard --keys` lists the keys.")
        pairs[model.strip()] = key.strip()
    return pairs


def _render(board: Board, form: str, rows_were_chosen: bool) -> str:
    from hear_models.evaluation.board.beside import MOST

    most = None if rows_were_chosen else MOST
    if form == "html":
        from hear_models.evaluation.board.page import page

        return page(board)
    if form == "latex":
        from hear_models.evaluation.board.latex import latex

        return latex(board, most)
    if form == "json":
        from hear_models.evaluation.board.csv_table import json_text

        return json_text(board, rows_were_chosen)
    if form == "csv":
        from hear_models.evaluation.board.csv_table import csv_text

        return csv_text(board, rows_were_chosen)
    from hear_models.evaluation.board import tabulate

    return tabulate.terminal(board, most=most) if form == "terminal" else tabulate.markdown(board, most)


def _write(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    from hear_models.files import write_atomically

    write_atomically(output, text.encode("utf-8"))
    click.echo(f"{output}: written", err=True)


def _print_keys() -> None:
    from hear_models.evaluation.board.published import tables

    for table in tables():
        if table.absent:
            click.echo(f"{table.topic} / {table.name}: none ({table.absent})")
        for row in table.rows:
            click.echo(row.key)
