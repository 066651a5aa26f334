"""`hear-models map`: recordings as points on one page, near where they sound alike."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from hear_models.cli.networks import DEVICE, MODEL, SETTINGS, UNTRAINED, load_network
from hear_models.cli.reading import INDEX, SKIP_BAD, WINDOW, report_failures, telling, window_of
from hear_models.cli.terminal import ProgressLine, stopping_with


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folders", nargs=-1, required=True, type=click.Path(), metavar="FOLDER...")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    help="The page.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="CSV",
    help="Colour by a table path,label.  [default: by folder]",
)
@WINDOW
@click.option(
    "--layout",
    type=click.Choice(["auto", "umap", "tsne", "pca"]),
    default="auto",
    show_default=True,
    help="auto: umap if umap-learn is installed, else tsne, and pca of more than 12,000 points.",
)
@click.option(
    "--play",
    type=click.Choice(["auto", "embed", "link", "none"]),
    default="auto",
    show_default=True,
    help="embed: short clips in the page; link: the recordings, from where they lie; auto: embed up to 40 MB.",
)
@click.option("--clip", "clip_s", type=float, default=3.0, show_default=True, metavar="SECONDS", help="Of a clip.")
@click.option("--title", metavar="TEXT", help="Of the page.  [default: the folder's name]")
@INDEX
@MODEL
@SETTINGS
@DEVICE
@UNTRAINED
@SKIP_BAD
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    folders: tuple[str, ...],
    output: Path,
    labels: Path | None,
    window: float | None,
    layout: str,
    play: str,
    clip_s: float,
    title: str | None,
    index: Path | None,
    model: str,
    settings: tuple[str, ...],
    device: str | None,
    allow_untrained: bool,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Draw the recordings of a folder as a map, on one HTML page.

    A point is a recording, near those that sound like it. The page asks no
    server for anything: point at a recording for its name, press it to hear it,
    drag and zoom, see one label alone; arrow keys and Enter do the same.

    Exit code 1: some recordings could not be read; they are listed.
    """
    from hear_models.errors import UsageError
    from hear_models.files import check_writable

    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{output} is no name of a page. Let it end in .html.")
    check_writable(output)
    from hear_models.corpus.options import AUTO, windows
    from hear_models.exploration.drawing import MapOptions, check_map, draw_map

    options = MapOptions(window_of(window), layout, labels, play, clip_s, title)
    check_map(options)
    network = load_network(model, settings, device, allow_untrained)
    with stopping_with("stopped; finished recordings are kept, the same command goes on"), ProgressLine() as line:
        made, failures = draw_map(
            folders, output, network, options, root=index, progress=telling(line, windows(AUTO)[0]), say=line.say
        )
    if as_json:
        click.echo(json.dumps({"output": str(output), **asdict(made)}, indent=1))
    else:
        sound = {
            "embed": "clips are in the page",
            "link": "it plays the recordings where they lie: keep it there",
            "none": "without sound",
        }[made.play]
        click.echo(f"{output}: {made.points} points, {made.labels} labels, {made.layout}, {made.bytes / 1e6:.1f} MB")
        click.echo(f"  {sound}")
        if made.unlabelled:
            click.echo(f"  {made.unlabelled} recordings are not in {labels}")
    report_failures(failures, made.recordings + len(failures), "read", skip_bad=skip_bad)
