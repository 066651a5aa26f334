"""`hear-models tasks download` and `prepare`: HEAR's tasks from their archives, fetched by us or by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hear_models.cli.findings import wrapped
from hear_models.cli.terminal import ProgressLine

if TYPE_CHECKING:
    from hear_models.tasks.download_task import Downloaded

HELP = {"help_option_names": ["-h", "--help"]}
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command("download", context_settings=HELP)
@click.argument("tasks_dir", metavar="DIR", type=FOLDER)
@click.argument("names", metavar="[TASK]...", nargs=-1)
@click.option("--rate", type=int, default=16000, show_default=True, help="Of the clips that models take, in Hz.")
@click.option("--only-rate", is_flag=True, help="Delete the 48 kHz clips of each task once RATE is made and checked.")
@click.option("--keep-archives", is_flag=True, help="Keep the archives.")
@click.option("--lock", type=click.Path(path_type=Path), metavar="FILE", help="Digests to compare with, and to add to.")
@click.option("--workers", type=click.IntRange(min=1), help="Threads that resample  [default: CPU cores]")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and what room it takes.")
def download_command(
    tasks_dir: Path,
    names: tuple[str, ...],
    rate: int,
    only_rate: bool,
    keep_archives: bool,
    lock: Path | None,
    workers: int | None,
    dry_run: bool,
) -> None:
    """Fetch tasks of HEAR to DIR from Zenodo, and make the rate that models take.

    TASK is as for `hear-models tasks list`; without it the ten of the papers.
    The archives are 48 kHz; RATE is made from them and everything is checked. A
    run that was stopped goes on where it was, in the middle of a file too. The
    sha256 of an archive is remembered when it is first fetched, and another
    archive is refused later.
    """
    import os

    from hear_models.tasks.download_task import Options, download, downloads, plan

    options = Options(rate, only_rate, keep_archives, lock, workers or os.cpu_count() or 1)
    planned = plan(tasks_dir, names, options)
    for step in planned.steps:
        what = [
            f"fetch {step.archive_bytes / 1e6:,.0f} MB" if step.to_fetch and step.archive_bytes else None,
            "fetch" if step.to_fetch and not step.archive_bytes else None,
            "unpack" if step.to_unpack else None,
            f"make {rate} Hz" if step.to_resample else None,
        ]
        click.echo(f"  {step.task.folder:<34} {', '.join(filter(None, what)) or 'is there'}")
    click.echo(
        f"room: {planned.most_bytes / 1e9:.1f} GB while it is made, {planned.stays_bytes / 1e9:.1f} GB stay, "
        f"{planned.free_bytes / 1e9:.1f} GB are free (from the hours that HEAR states)"
    )
    if dry_run:
        return
    with ProgressLine() as line:
        for done in download(tasks_dir, planned, options, click.echo, line.say):
            _print_made(done)
    if keep_archives:
        click.echo(f"archives: {downloads(tasks_dir)}")
    click.echo(f"Evaluate on them: hear-models evaluate MODEL --tasks-dir {tasks_dir}")


@click.command("prepare", context_settings=HELP)
@click.argument("tasks_dir", metavar="DIR", type=FOLDER)
@click.argument("places", metavar="ARCHIVE|FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--task", "names", multiple=True, metavar="TASK", help="Only this one, may be repeated.")
@click.option("--rate", type=int, default=16000, show_default=True, help="Of the clips that models take, in Hz.")
@click.option("--only-rate", is_flag=True, help="Delete the clips at another rate once RATE is made and checked.")
@click.option("--workers", type=click.IntRange(min=1), help="Threads that resample  [default: CPU cores]")
def prepare_command(
    tasks_dir: Path, places: tuple[Path, ...], names: tuple[str, ...], rate: int, only_rate: bool, workers: int | None
) -> None:
    """Make tasks of HEAR in DIR from archives that you have: unpack, resample,
    check. Nothing is fetched.

    Archives are told by their names, hear2021-TASK-RATE.tar.gz; of several of one
    task that at RATE is taken, else the one at the highest rate. They stay where
    they are. A run that was stopped goes on where it was.
    """
    import os

    from hear_models.tasks.download_task import Options
    from hear_models.tasks.prepare_task import find_archives, prepare

    archives = find_archives(places, names, rate)
    options = Options(rate, only_rate, workers=workers or os.cpu_count() or 1)
    with ProgressLine() as line:
        for done in prepare(tasks_dir, archives, options, click.echo, line.say):
            _print_made(done)
    click.echo(f"Evaluate on them: hear-models evaluate MODEL --tasks-dir {tasks_dir}")


def _print_made(done: Downloaded) -> None:
    rates = ", ".join(f"{found / 1000:g}" for found in done.rates)
    click.echo(f"{done.name}: {done.clips} clips, {rates} kHz" + ("" if done.new else ", were there"))
    for finding in done.findings:
        if finding.level != "note":
            click.echo(wrapped(finding.text, f"  {finding.level:<9}"))
