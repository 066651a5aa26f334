"""`hear-models embed`: options, progress and the report of a run over files and folders."""

from __future__ import annotations

import json
import sys
import warnings
from typing import TYPE_CHECKING, Any

import click

from hear_models.cli.reading import SKIP_BAD, WINDOW, report_failures, telling, window_of
from hear_models.cli.terminal import ProgressLine

if TYPE_CHECKING:
    from hear_models.corpus.run import CorpusSummary


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar="PATHS...")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    metavar="DIR|FILE.parquet",
    help="Folder for .npz files, or a table.",
)
@click.option(
    "-m",
    "--model",
    default="",
    metavar="NAME|FILE",
    help="Name, .safetensors file, or hf://ORG/REPO.  [default: mwmae-nano]",
)
@click.option("--kind", type=click.Choice(["scene", "timestamps"]), default="scene", show_default=True)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Of the stored embeddings.",
)
@WINDOW
@click.option(
    "--hop", type=float, metavar="SECONDS", help="Between window starts, for overlapping scenes.  [default: --window]"
)
@click.option(
    "--segments",
    type=click.Path(),
    metavar="TABLE",
    help="One embedding for each row: path, start_s, end_s; or a table of Audacity, Raven or BirdNET.",
)
@click.option(
    "--channel",
    default="mix",
    metavar="NAME|N",
    show_default=True,
    help="mix, left, right, a number from 1, or each (every channel by itself).",
)
@click.option(
    "--resampler",
    type=click.Choice(["soxr", "resampy"]),
    default="soxr",
    show_default=True,
    help="resampy as the originals of HEAR 2021.",
)
@click.option("--workers", type=int, metavar="N", help="Decoding threads.  [default: CPU cores, at most 4]")
@click.option(
    "--batch-seconds", type=float, metavar="S", help="Audio handed to the model at once.  [default: 60; GPU: 600]"
)
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, ...  [default: cuda if there is one]")
@click.option("--allow-untrained", is_flag=True, help="Accept a model with random weights.")
@click.option("--clock", is_flag=True, help="Add the time of day, where names tell it (20240501_040000.WAV).")
@click.option("--overwrite", is_flag=True, help="Replace what the output holds.")
@SKIP_BAD
@click.option("--json", "as_json", is_flag=True, help="Print one JSON summary on stdout.")
def command(
    paths: tuple[str, ...],
    output: str,
    model: str,
    kind: str,
    dtype: str,
    window: float | None,
    hop: float | None,
    segments: str | None,
    channel: str,
    resampler: str,
    workers: int | None,
    batch_seconds: float | None,
    device: str | None,
    allow_untrained: bool,
    clock: bool,
    overwrite: bool,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Embed audio files, and the audio files in folders.

    Reads what libsndfile reads at any sample rate, and everything else through ffmpeg if that is on the PATH; a file
    that is cut off is refused. Channels are averaged. `-` stands for standard input.

    A folder as output gets one NAME.npz for each file, in the same subfolders: `embeddings`, `timestamps_ms` (with
    --kind timestamps), `window_starts_ms` and `window_ends_ms` (scenes with windows), and `metadata`, a JSON text. A
    .parquet file gets one row for each embedding: `path`, `start_ms` and `end_ms` or `timestamp_ms`, `embedding`.

    With --window each window is embedded by itself: scenes give one embedding a window, timestamps count from the start
    of the recording. Recordings longer than 5 minutes have windows unless --window 0 is given.

    Run the same command again to go on where it stopped. Finished files and windows are kept; an output that was made
    with another model or other options is refused. Exit code 1: some files failed, and are listed at the end.
    """
    try:
        summary = _run(
            paths,
            output,
            model,
            device,
            allow_untrained,
            kind=kind,
            dtype=dtype,
            window_s=window_of(window),
            hop_s=hop,
            workers=workers,
            batch_seconds=batch_seconds,
            segments=segments,
            channel=channel,
            resampler=resampler,
            clock=clock,
            overwrite=overwrite,
        )
    except KeyboardInterrupt:
        click.echo("stopped: finished files and windows are kept, the same command goes on from here", err=True)
        sys.exit(130)
    if as_json:
        click.echo(json.dumps(summary.as_dict()))
    else:
        _report(summary)
    report_failures(summary.failed, summary.files, "embedded", notes=summary.notes, skip_bad=skip_bad)


def _run(
    paths: tuple[str, ...], output: str, model: str, device: str | None, allow_untrained: bool, **options: Any
) -> CorpusSummary:
    from hear_models.corpus.clock import without_clock
    from hear_models.corpus.options import check_options, check_output, check_segments, windows
    from hear_models.corpus.sources import recordings
    from hear_models.subjects.naming import find_ours

    # whatever is wrong with the command is told before torch and the model are loaded
    check_options(
        **{name: options[name] for name in ("kind", "dtype", "window_s", "hop_s", "workers", "batch_seconds")}
    )
    check_output(output)
    segments = options.pop("segments")
    if segments is not None:
        check_segments(options["kind"], options["window_s"])
        options["window_s"] = None
    options["window_s"], options["windows_from_s"] = windows(options["window_s"], options["kind"])
    with recordings(paths, channel=options["channel"], segments=segments) as (sources, failures):
        named = find_ours(model, allow_untrained=allow_untrained, how="--allow-untrained")

        import torch

        from hear_models.corpus.run import embed_audio_files

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of random weights, which were asked for
            network = named.load(device=device or ("cuda" if torch.cuda.is_available() else "cpu"))
        with ProgressLine() as line:
            summary = embed_audio_files(
                sources,
                failures,
                output,
                network,
                segments=segments is not None,
                progress=telling(line, options["window_s"]),
                **options,
            )
    if options["clock"] and (lacking := without_clock([source.name for source in sources])):
        click.echo(lacking, err=True)
    return summary


def _report(summary: CorpusSummary) -> None:
    skipped = f", {summary.skipped} were there already" if summary.skipped else ""
    click.echo(f"{_count(summary.embedded, 'file')} embedded{skipped} -> {summary.output}")
    if summary.embedded:
        click.echo(
            f"{_count(summary.embeddings, 'embedding')} of {summary.audio_s:.1f} s of audio in {summary.seconds:.1f} s "
            f"({summary.audio_s_per_s:.0f} s audio/s)"
        )


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
