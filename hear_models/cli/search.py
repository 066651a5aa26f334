"""`hear-models search`: which recordings, and where in them, sound like one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hear_models.cli.networks import DEVICE, MODEL, SETTINGS, UNTRAINED, load_network
from hear_models.cli.reading import INDEX, SKIP_BAD, WINDOW, report_failures, telling, window_of
from hear_models.cli.terminal import ProgressLine, stopping_with

if TYPE_CHECKING:
    from hear_models.exploration.search import Hit

COLUMNS = ("query", "rank", "similarity", "path", "start_ms", "end_ms")
NAME_WIDTH, NAME_WIDTH_BESIDE_TIMES = 64, 43


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("queries", nargs=-1, required=True, type=click.Path(), metavar="QUERY...")
@click.option(
    "--in", "folders", required=True, multiple=True, type=click.Path(), metavar="FOLDER", help="Where; repeatable."
)
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, metavar="N", help="Hits for each query.")
@WINDOW
@click.option("--once", is_flag=True, help="Only the best window of each recording.")
@click.option(
    "--part",
    type=(float, float),
    metavar="FROM TO",
    help="Search for this part of the query alone, in seconds.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.csv", help="Write a table."
)
@INDEX
@MODEL
@SETTINGS
@DEVICE
@UNTRAINED
@SKIP_BAD
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def command(
    queries: tuple[str, ...],
    folders: tuple[str, ...],
    top: int,
    window: float | None,
    once: bool,
    part: tuple[float, float] | None,
    output: Path | None,
    index: Path | None,
    model: str,
    settings: tuple[str, ...],
    device: str | None,
    allow_untrained: bool,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Find what sounds like QUERY in the recordings of a folder.

    QUERY is a recording; each gets its own list, best first, by the cosine of
    scene embeddings. The recordings are embedded once: what was added or changed
    since is embedded at the next search, also after Ctrl-C. The query itself is
    no hit, if it lies in the folder.

    \b
      hear-models search knock.wav --in recordings
      hear-models search day.wav --part 61.5 64 --in recordings --window 2.5

    Exit code 1: some recordings could not be read; they are listed.
    """
    from hear_models.corpus.options import AUTO, check_window, windows
    from hear_models.errors import UsageError
    from hear_models.exploration.search import check_part

    check_part(part)
    window_s = window_of(window)
    check_window(window_s)
    for query in queries:
        if Path(query).is_dir():
            raise UsageError(f"{query} is a folder. A query is a recording; the folder to search goes to --in.")
    from hear_models.exploration.collection import collect
    from hear_models.exploration.search import nearest, query_vector
    from hear_models.files import as_text, check_writable, write_atomically

    if output is not None:
        check_writable(output)
    network = load_network(model, settings, device, allow_untrained)
    vectors = [query_vector(query, network, part) for query in queries]  # a bad one is told before anything is embedded
    with stopping_with("stopped; finished recordings are kept, the same command goes on"), ProgressLine() as line:
        collection, failures = collect(
            folders, network, window_s=window_s, root=index, progress=telling(line, windows(AUTO)[0])
        )
    found = [
        (query, nearest(collection, vector, top, query=query, part_s=part, once=once))
        for query, vector in zip(queries, vectors, strict=True)
    ]
    rows = [_row(query, rank, hit) for query, hits in found for rank, hit in enumerate(hits, 1)]
    if output is not None:
        from hear_models.cli.tables import csv_text

        write_atomically(output, csv_text(rows, COLUMNS).encode())
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        for query, hits in found:
            _print(as_text(query), hits, len(collection.files))
        if output is not None:
            click.echo(str(output))
    report_failures(failures, len(collection.files) + len(failures), "read", skip_bad=skip_bad)


def _row(query: str, rank: int, hit: Hit) -> dict[str, Any]:
    from hear_models.files import as_text

    start, end = hit.part_s or (None, None)
    return {
        "query": as_text(query),
        "rank": rank,
        "similarity": round(hit.similarity, 4),
        "path": as_text(hit.file),
        "start_ms": None if start is None else round(1000 * start, 3),
        "end_ms": None if end is None else round(1000 * end, 3),
    }


def _print(query: str, hits: list[Hit], n: int) -> None:
    from hear_models.cli.tables import cell, clock

    click.echo(f"{cell(query, 50)}: {len(hits)} most like it, of {n} recordings")
    for rank, hit in enumerate(hits, 1):
        if hit.part_s is None:
            click.echo(f"{rank:>4}  {hit.similarity:6.3f}  {cell(hit.name, NAME_WIDTH)}")
        else:
            when = f"{clock(hit.part_s[0])} to {clock(hit.part_s[1])}"
            click.echo(f"{rank:>4}  {hit.similarity:6.3f}  {when:<20}  {cell(hit.name, NAME_WIDTH_BESIDE_TIMES)}")
