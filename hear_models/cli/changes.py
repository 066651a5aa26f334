"""`hear-models changes`: where recordings change, as a table and a picture."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hear_models.cli.networks import DEVICE, SETTINGS, UNTRAINED, load_network
from hear_models.cli.reading import SKIP_BAD, report_failures, telling
from hear_models.cli.tables import cell, clock, csv_text
from hear_models.cli.terminal import ProgressLine, stopping_with

FILE = click.Path(path_type=Path, dir_okay=False)
NAME_WIDTH = 40


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar="AUDIO...")
@click.option("-o", "--output", type=FILE, metavar="FILE.csv", help="Write a row for each stretch.")
@click.option("--plot", type=FILE, metavar="FILE.png", help="Draw novelty over time (needs hear-models[plots]).")
@click.option(
    "-m", "--model", default="logmel-stats", show_default=True, metavar="NAME|FILE", help="Embeds the windows."
)
@SETTINGS
@click.option(
    "--window", type=click.FloatRange(0.01), default=2.0, show_default=True, metavar="SECONDS", help="How exactly."
)
@click.option(
    "--scale",
    type=click.FloatRange(0.02),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How much on both sides of a moment is compared: shorter sounds are no change.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, min_open=True),
    default=2.0,
    show_default=True,
    help="Novelty of a change, in multiples of the recording's usual one.",
)
@click.option("--clock", "with_clock", is_flag=True, help="Add times of day, where names tell (20240501_040000.WAV).")
@DEVICE
@UNTRAINED
@SKIP_BAD
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def command(
    paths: tuple[str, ...],
    output: Path | None,
    plot: Path | None,
    model: str,
    settings: tuple[str, ...],
    window: float,
    scale: float,
    threshold: float,
    with_clock: bool,
    device: str | None,
    allow_untrained: bool,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Say where recordings change.

    A recording of hours becomes stretches that sound alike, and the strength of
    the change between them: the difference of what is heard before and after,
    beside what it usually is in this recording. It does not say what changed, and
    a louder wind is a change too.

    \b
      hear-models changes night.wav -o stretches.csv --plot night.png

    Exit code 1: some recordings could not be read; they are listed.
    """
    from hear_models.corpus.clock import without_clock
    from hear_models.corpus.options import check_window
    from hear_models.files import check_writable, write_atomically

    check_window(window)
    if output is not None:
        check_writable(output)
    if plot is not None:
        from hear_models.pictures import check_picture

        check_picture(plot)
        check_writable(plot)
    from hear_models.exploration.changes import COLUMNS, check_scale, draw_changes, find_changes

    check_scale(window, scale)
    network = load_network(model, settings, device, allow_untrained)
    with stopping_with("stopped; finished windows are kept, the same command goes on"), ProgressLine() as line:
        found, failures = find_changes(
            paths, network, window_s=window, scale_s=scale, threshold=threshold, progress=telling(line, window)
        )
    rows = [row for changes in found for row in changes.rows(with_clock)]
    if plot is not None:
        draw_changes(plot, found, threshold)
    if output is not None:
        write_atomically(output, csv_text(rows, COLUMNS).encode())
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        for row in rows:
            strength = "" if row["strength"] is None else f"{row['strength']:.1f}"
            span = f"{clock(row['start_ms'] / 1000):>10} {clock(row['end_ms'] / 1000):>10}"
            when = f"  {row['clock'][:19]}" if with_clock else ""
            click.echo(f"{cell(row['path'], NAME_WIDTH):<{NAME_WIDTH}} {span} {strength:>7}{when}".rstrip())
        for written in (output, plot):
            if written is not None:
                click.echo(str(written))
    if with_clock and (lacking := without_clock([changes.name for changes in found])):
        click.echo(lacking, err=True)
    report_failures(failures, len(found) + len(failures), "read", skip_bad=skip_bad)
