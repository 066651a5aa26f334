"""`hear-models analyze`: what a model has learned, looked at without any data."""

from __future__ import annotations

import json
from pathlib import Path

import click

FILE = click.Path(path_type=Path, dir_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Look at what a model has learned; no recordings are needed."""


@command.command("filters")
@click.argument("name", metavar="NAME_OR_FILE")
@click.option("-o", "--output", type=FILE, metavar="FILE.csv", help="Write a row for each filter.")
@click.option("--plot", type=FILE, metavar="FILE.png", help="Draw them (needs hear-models[plots]).")
@click.option("--before", metavar="NAME_OR_FILE", help="The model before training.  [default: as its recipe begins]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def filters(name: str, output: Path | None, plot: Path | None, before: str | None, as_json: bool) -> None:
    """Where the filters of a learnable front end (leaf, sincnet) are.

    Centre frequencies and bandwidths beside those that training began with,
    and beside the mel scale.
    """
    if plot is not None:
        from hear_models.pictures import check_picture

        check_picture(plot)
    from hear_models.analysis.filters import analyse_filters, draw_filters
    from hear_models.files import write_atomically

    analysis = analyse_filters(name, before)
    if output is not None:
        write_atomically(output, analysis.csv_text().encode())
    if plot is not None:
        draw_filters(analysis, plot)
    s = analysis.summary()
    if as_json:
        click.echo(json.dumps(s, indent=1))
        return
    rows = {
        "filters": f"{s['filters']}, centres {s['lowest_centre_hz']:.0f} to {s['highest_centre_hz']:.0f} Hz",
        "began with": s["began_with"],
        "since then": f"{s['moved']} moved by more than a mel, median {s['median_move_mel']:.1f}, "
        f"largest {s['largest_move_mel']:.1f}",
        "": f"bandwidths {s['median_bandwidth_over_began']:.2f} times as wide (median)",
        "from the mel scale": f"centres {s['median_distance_from_mel_mel']:.1f} mel away (median)",
        " ": f"bandwidths {s['median_bandwidth_over_mel']:.2f} times as wide (ratio of medians)",
    }
    for label, text in rows.items():
        click.echo(f"{label:<20}{text}")
    for written in (output, plot):
        if written is not None:
            click.echo(str(written))
