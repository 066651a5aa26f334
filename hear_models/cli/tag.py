"""`hear-models tag`: what is heard in recordings, and when, as a table with a time line or as JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from hear_models.cli.reading import SKIP_BAD, WINDOW, PartsOfFiles, report_failures, window_of
from hear_models.cli.terminal import ProgressLine

if TYPE_CHECKING:
    from datetime import datetime

    from hear_models.corpus.discover import Failure
    from hear_models.corpus.tagging import Tags

WIDTH, NAME_WIDTH = 80, 26
LINE_WIDTH = WIDTH - NAME_WIDTH - 13
BARS, PLAIN_BARS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
NOTES = {
    "nothing": "It is UNTRAINED: these classes are random and mean nothing.",
    "procedural sounds": "It was trained on procedural sounds only: what it says about recordings is a guess.",
    "data": "",
}


@click.command(name="tag", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("audio", nargs=-1, required=True, type=click.Path(), metavar="AUDIO...")
@click.option(
    "-m",
    "--model",
    default="gise51-nano",
    show_default=True,
    metavar="NAME|FILE",
    help="A model of gise51: name, .safetensors file, or hf://ORG/REPO.",
)
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Classes shown, at most.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Probability of the whole recording from which a class is shown.",
)
@WINDOW
@click.option("--clock", is_flag=True, help="Times of day, where names tell them (20240501_040000.WAV).")
@SKIP_BAD
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, ...  [default: cuda if there is one]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    audio: tuple[str, ...],
    model: str,
    top: int,
    threshold: float,
    window: float | None,
    clock: bool,
    skip_bad: bool,
    device: str | None,
    as_json: bool,
) -> None:
    """Say what is heard in recordings, and when.

    AUDIO are files, or folders that are searched. Each class gets its
    probability for the whole recording, the highest one of a window of 1 s, and
    a line from the beginning to the end: the higher, the surer.

    Recordings longer than 5 minutes are read in windows of 60 s.

    Exit code 1: some files could not be read, and are named.
    """
    try:
        failed, of = _run(audio, model, top, threshold, window, clock, device, as_json)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
        sys.exit(130)
    report_failures(failed, of, "tagged", skip_bad=skip_bad)


def _run(
    audio: tuple[str, ...],
    model: str,
    top: int,
    threshold: float,
    window: float | None,
    clock: bool,
    device: str | None,
    as_json: bool,
) -> tuple[list[Failure], int]:
    import warnings

    from hear_models.corpus.clock import began_at, without_clock
    from hear_models.corpus.discover import Failure
    from hear_models.corpus.options import LONG_WINDOW_S, check_window
    from hear_models.corpus.tagging import find_recordings, origin, tag_file, tagger_of
    from hear_models.errors import AudioFileError

    piece_s = window_of(window)
    check_window(piece_s)
    paths, failed = find_recordings(audio)  # before the model is loaded
    of = len(paths) + len(failed)

    import torch

    from hear_models.zoo import load_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of random weights: said below, in the words of this command
        network = load_model(model, device=device or ("cuda" if torch.cuda.is_available() else "cpu"))
    tagger = tagger_of(network)
    learned_from = origin(network)
    name = network.checkpoint.name if network.checkpoint else network.family
    if not as_json:
        _wrapped(f"{name}: {len(tagger.classes)} classes. {NOTES[learned_from]}")
    entries: list[dict[str, Any]] = []
    with ProgressLine() as line:
        sizes = [path.stat().st_size if path.is_file() else 0 for path in paths]
        parts = PartsOfFiles(line, "tagging", sizes, LONG_WINDOW_S["timestamps"] if window is None else None)
        for number, path in enumerate(paths):
            try:
                tags = tag_file(path, tagger, LINE_WIDTH, piece_s=piece_s, progress=parts.of(number))
            except AudioFileError as error:
                failed.append(Failure(str(path), str(error)))
                continue
            began = began_at(str(path)) if clock else None
            if as_json:
                entries.append(_entry(tags, top, threshold) | ({"clock": _text(began)} if clock else {}))
            else:
                line.clear()
                _show(tags, top, threshold, began)
    if clock and (lacking := without_clock([str(path) for path in paths])):
        click.echo(lacking, err=True)
    if as_json:
        about = {"model": name, "trained": learned_from != "nothing", "learned_from": learned_from, "window_s": 1.0}
        click.echo(json.dumps(about | {"files": entries, "failed": [failure.error for failure in failed]}))
    return failed, of


def _text(began: datetime | None) -> str:
    return "" if began is None else began.isoformat(timespec="milliseconds")


def _show(tags: Tags, top: int, threshold: float, began: datetime | None = None) -> None:
    when = "" if began is None else f"  from {began.isoformat(sep=' ', timespec='seconds')}"
    click.echo(f"\n{click.format_filename(tags.file)}  {_seconds(tags.duration_s)}{when}")
    best = tags.best(top, threshold)
    if not best:
        click.echo(f"  nothing with a probability of {threshold:g} or more")
        return
    bars = BARS if _prints(BARS) else PLAIN_BARS
    click.echo(f"{'':<{NAME_WIDTH}} whole peak  {_ruler(tags.duration_s)}")
    for index in best:
        cells = tags.cells(index, LINE_WIDTH)
        line = "".join(bars[min(len(bars) - 1, int(cell * len(bars)))] for cell in cells)
        name = _short("  " + tags.classes[index], NAME_WIDTH)
        click.echo(
            f"{name:<{NAME_WIDTH}}  {tags.probability[index]:.2f} {tags.windows[:, index].max():.2f}  {line.rstrip()}"
        )


def _entry(tags: Tags, top: int, threshold: float) -> dict[str, Any]:
    return {
        "file": tags.file,
        "duration_s": round(tags.duration_s, 4),
        "times_s": [round(float(time), 4) for time in tags.times_s],
        "tags": [
            {
                "class": tags.classes[index],
                "probability": round(float(tags.probability[index]), 5),
                "peak": round(float(tags.windows[:, index].max()), 5),
                "peak_s": round(float(tags.times_s[tags.windows[:, index].argmax()]), 4),
                "windows": [round(float(p), 5) for p in tags.windows[:, index]],
            }
            for index in tags.best(top, threshold)
        ],
    }


def _ruler(duration_s: float) -> str:
    end = _seconds(duration_s)
    return "0" + end.rjust(LINE_WIDTH - 1)


def _seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d} min"


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _prints(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _wrapped(text: str) -> None:
    import textwrap

    click.echo(textwrap.fill(text, WIDTH, break_long_words=False))
