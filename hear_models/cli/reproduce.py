"""`hear-models reproduce`: a published row made again, with a verdict."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hear_models.cli.terminal import ProgressLine, stopping_with
from hear_models.evaluation.runs.settings import EMBEDDINGS_DIR

FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name")
@click.option("--tasks-dir", type=FOLDER, required=True, metavar="DIR", help="Folder of the task folders.")
@click.option("--tasks", "only", multiple=True, metavar="A,B", help="Only these.")
@click.option("--published", "key", metavar="KEY", help="Another row than the model's own.")
@click.option("-o", "--output", type=FOLDER, help="The folder to check in.  [default: reproduced/NAME]")
@click.option("--embeddings-dir", default=EMBEDDINGS_DIR, show_default=True, type=FOLDER, help="Where embeddings go.")
@click.option("--seeds", metavar="N|A,B,C", help="Others than the protocol's.")
@click.option("--judge", type=click.Choice(["builtin", "heareval"]), default="builtin", show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Judges at once.  [default: CPU cores]")
@click.option("--device", metavar="NAME", help="For embeddings.")
@click.option("--lock", type=click.Path(path_type=Path), metavar="FILE", help="As of `hear-models fetch --lock`.")
@click.option("--yes", is_flag=True, help="Begin, after saying what it takes.")
def command(
    name: str,
    tasks_dir: Path,
    only: tuple[str, ...],
    key: str | None,
    output: Path | None,
    embeddings_dir: Path,
    seeds: str | None,
    judge: str,
    jobs: int | None,
    device: str | None,
    lock: Path | None,
    yes: bool,
) -> None:
    """Evaluate NAME as the paper did, and put it beside the published row.

    First it says what there is to do, how long that takes at speeds measured on
    this machine, and how much room; with --yes it begins. A stopped run goes on
    where it was. The folder of --output holds the records, a page, the verdicts,
    versions, the command and the digests of what was fetched.

    Exit status: 0 done, 1 a job failed or a figure was not reproduced.
    """
    from hear_models.evaluation.board.reproduce import (
        failed,
        outlook,
        outlook_text,
        reproduce,
        request_for,
        verdict_line,
    )
    from hear_models.evaluation.board.tabulate import terminal
    from hear_models.evaluation.runs.progress import Reporter
    from hear_models.evaluation.runs.settings import parse_only, parse_seeds

    folder = output or Path("reproduced") / name.replace("/", "-")
    request, row, table = request_for(
        name,
        tasks_dir,
        folder,
        key,
        only=parse_only(only),
        seeds=parse_seeds(seeds),
        judge=judge,
        jobs=jobs,
        device=device,
        embeddings_dir=embeddings_dir,
        command=("hear-models", *sys.argv[1:]),
    )
    click.echo(outlook_text(name, outlook(request, row, table), request))
    if not yes:
        click.echo("Nothing was done. Add --yes to begin.")
        return
    with (
        stopping_with("stopped: finished jobs are kept, the same command goes on from here"),
        Reporter() as reporter,
        ProgressLine() as line,
    ):
        done = reproduce(name, request, row, folder, reporter, lambda what: line.say(f"resampling: {what}"), lock)
    click.echo()
    click.echo(terminal(done.board), nl=False)
    click.echo("\nWhat differs from the authors' run:")
    for text in done.differs:
        click.echo(f"  {text}")
    for failure in done.summary.failed:
        click.echo(f"failed: {failure.name}: {failure.error}", err=True)
    click.echo(f"\n{verdict_line(done)}")
    click.echo(f"folder: {done.folder}")
    if failed(done):
        sys.exit(1)
