"""`hear-models fetch`: the authors' weights, from their address to a name that loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hear_models.cli.terminal import ProgressLine, stopping_with

if TYPE_CHECKING:
    from hear_models.zoo.fetch import FetchedModel

PATH = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", required=False)
@click.option("--list", "list_all", is_flag=True, help="Say what can be fetched, and what is here.")
@click.option("--from", "by_hand", type=PATH, metavar="FILE_OR_FOLDER", help="What you fetched by hand.")
@click.option("--file", metavar="NAME", help="Which file, where several may be meant.")
@click.option("--address", metavar="URL", help="Another address than the official one.")
@click.option("--lock", type=PATH, metavar="FILE", help="Digests to compare with, and to add to; share it.")
@click.option(
    "--accept-license", "--accept-licence", "accept_licence", is_flag=True, help="You accept the weights' licence."
)
@click.option("--keep-originals", is_flag=True, help="Keep the authors' files in the cache.")
@click.option("--force", is_flag=True, help="Fetch and convert it again.")
@click.option("--remove", is_flag=True, help="Delete what was fetched of NAME.")
@click.option("--report", is_flag=True, help="Write NAME-report.txt, to be pasted into an issue.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    name: str | None,
    list_all: bool,
    by_hand: Path | None,
    file: str | None,
    address: str | None,
    lock: Path | None,
    accept_licence: bool,
    keep_originals: bool,
    force: bool,
    remove: bool,
    report: bool,
    as_json: bool,
) -> None:
    """Fetch the official weights of NAME, convert and check them; then every
    command takes NAME.

    A transfer that stopped goes on at its byte when the command runs again. The
    sha256 of a file is remembered when it is first fetched, and another file is
    refused later. Nothing in a file is executed.

    Folders of Google Drive take the extra `drive`: pip install 'hear-models[drive]'.
    The drive often says "quota exceeded": then fetch the file in a browser and
    give it with --from.
    """
    from hear_models.errors import UsageError

    if list_all:
        _print_list(as_json)
        return
    if not name:
        raise UsageError("Name a model; `hear-models fetch --list` shows them.")
    if remove:
        from hear_models.zoo.fetch_report import remove as delete

        click.echo(f"{name}: {delete(name):,} bytes deleted")
        return
    if report:
        _write_report(name, by_hand)
        return
    from hear_models.zoo.fetch import FetchOptions, fetch_model

    options = FetchOptions(by_hand, file, address, lock, accept_licence, force, keep_originals)
    kept = "stopped; what has come is kept, the same command goes on from there"
    with stopping_with(kept), ProgressLine(wanted=not as_json) as line:
        done = fetch_model(name, options, lambda text: click.echo(text, err=as_json), line.say)
    _print_done(done, as_json)


def _print_done(done: FetchedModel, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        click.echo(json.dumps(asdict(done), indent=1))
        return
    if not done.new:
        click.echo(f"{done.name} is here already; --force fetches it again")
    if done.check:
        click.echo(f"checked: finite, the same twice; neighbours {done.check['neighbours']}")
        click.echo("scene embeddings:")
        click.echo(f"  {'recording':<15}{'mean':>12}{'deviation':>12}{'smallest':>12}{'largest':>12}")
        for row in done.check["statistics"]:
            figures = "".join(f"{row[key]:>12.5g}" for key in ("mean", "deviation", "smallest", "largest"))
            click.echo(f"  {row['recording']:<15}{figures}")
    click.echo(f"sha256 {done.sha256}")
    click.echo(done.path)
    click.echo(f'load it: hear_models.load_model("{done.name}")')


def _print_list(as_json: bool) -> None:
    from dataclasses import asdict

    from hear_models.zoo.fetch_report import fetchable

    rows = fetchable()
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
        return
    click.echo(f"{'name':<26}{'here':<9}{'MB':>6}  {'from':<8}licence")
    for row in rows:
        size = f"{row.bytes_here / 1e6:,.0f}" if row.bytes_here else ""
        licence = row.licence.partition(":")[0].partition(",")[0][:28]
        click.echo(f"{row.name:<26}{row.state:<9}{size:>6}  {row.source:<8}{licence}".rstrip())


def _write_report(name: str, by_hand: Path | None) -> None:
    from hear_models.files import write_atomically
    from hear_models.zoo.fetch_report import report

    target = Path(f"{name}-report.txt")
    write_atomically(target, report(name, by_hand).encode("utf-8"))
    click.echo(f"{target}: keys, shapes, dtypes, hashes and versions; no paths, no tokens. Read it before you send it.")
