"""`hear-models gise51`: the data set of isolated sound events, its mixtures, and the same from one's own sounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hear_models.cli.findings import counted, print_findings
from hear_models.cli.terminal import ProgressLine, Stoppable

if TYPE_CHECKING:
    from hear_models.datasets.gise51 import LabelledClip

HELP = {"help_option_names": ["-h", "--help"]}
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(cls=Stoppable, context_settings=HELP)
def command() -> None:
    """GISE-51: fetch its events, check them, mix them; or do the same with sounds of your own.

    \b
      hear-models gise51 download gise51
      hear-models gise51 check gise51
      hear-models gise51 mix gise51/isolated_events/train gise51/noises mixtures --number 1000
    """


# ------------------------------------------------------------------------------------------------------ download


@command.command("download", context_settings=HELP)
@click.argument("folder", type=FOLDER)
@click.option("--only", multiple=True, metavar="NAME", help="Of the record, with or without .tar.gz; repeatable.")
@click.option("--everything", is_flag=True, help="All of the record, 38 GB.")
@click.option("--list", "only_list", is_flag=True, help="Say what the record holds, and fetch nothing.")
@click.option("--remove-archives", is_flag=True, help="Once they are unpacked.")
def download_command(
    folder: Path, only: tuple[str, ...], everything: bool, only_list: bool, remove_archives: bool
) -> None:
    """Fetch the data set from Zenodo (record 4593514) into FOLDER, and unpack it.

    Without --only what `mix` needs: isolated_events, noises and meta, 2.5 GB. A
    stopped download goes on where it was. Digests that Zenodo lists are compared;
    besides, what came first is remembered in gise51.lock.json, and anything else
    is refused from then on. The events come from FSD50K: their licences differ
    clip by clip, and some forbid commercial use.

    HEAR_MODELS_ZENODO=ADDRESS names another server, for instance a mirror.
    """
    from hear_models.datasets.gise51_record import describe, download, list_record

    if only_list:
        for entry in list_record().values():
            n_bytes = entry.expected.n_bytes
            size = f"{n_bytes / 1e6:10,.1f} MB" if n_bytes is not None else " " * 13
            click.echo(f"{entry.name:<32}{size}  {describe(entry.name.removesuffix('.tar.gz'))}")
        return
    with ProgressLine() as line:
        for part in download(folder, only, everything=everything, remove_archives=remove_archives, progress=line.say):
            line.say("")
            what = "fetched" if part.new else "was there"
            click.echo(f"{part.name}: {what}, {part.n_bytes:,} bytes, {part.files} files, sha256 {part.sha256}")
    click.echo(f"Check it: hear-models gise51 check {folder}")


# --------------------------------------------------------------------------------------------------------- check


@command.command("check", context_settings=HELP)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--full", is_flag=True, help="Decode every recording and compare every digest.")
@click.option("--all", "show_all", is_flag=True, help="Name every file, not the first few.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def check_command(path: Path, full: bool, show_all: bool, as_json: bool) -> None:
    """Say what is missing, altered or unusable in PATH.

    PATH is a folder of `download`; a folder of your own with a subfolder of
    recordings for each label; or labelled clips in any form that `pretrain` takes:
    recordings with .txt beside them, a .csv, an LMDB file, WebDataset shards.

    Exit status: 0 without errors, 1 with errors, 2 for wrong use.
    """
    from dataclasses import asdict

    from hear_models.datasets.gise51_check import check

    with ProgressLine(wanted=not as_json) as line:
        reports = check(path, full=full, progress=line.say)
    if as_json:
        click.echo(json.dumps([{**asdict(report), "ok": report.ok} for report in reports], indent=1))
    else:
        for report in reports:
            status = click.style("ok   ", fg="green") if report.ok else click.style("ERROR", fg="red")
            hours = f", {report.hours:.2f} h" if report.hours else ""
            rates = ", ".join(f"{rate / 1000:g}" for rate in sorted(report.rates))
            labels = f", {counted(len(report.labels), 'label')}" if report.labels else ""
            click.echo(
                f"{status} {report.name}  {report.kind}, {counted(report.clips, 'clip')}{labels}{hours}"
                + (f", {rates} kHz" if rates else "")
            )
            print_findings(report.findings, show_all)
    if not all(report.ok for report in reports):
        raise click.exceptions.Exit(1)


# ----------------------------------------------------------------------------------------------------------- mix


@command.command("mix", context_settings=HELP)
@click.argument("events", type=FOLDER)
@click.argument("backgrounds", type=FOLDER)
@click.argument("output", type=FOLDER)
@click.option("--number", type=click.IntRange(min=1), help="How many soundscapes.")
@click.option("--seed", type=click.IntRange(min=0), default=123, show_default=True, help="Another seed, others.")
@click.option("--events-each", type=click.IntRange(min=1), default=3, show_default=True, help="Events, at most.")
@click.option("--official", is_flag=True, help="One random state for all, names and 16 bits as the authors'.")
@click.option("--jams", type=FOLDER, help="Render the soundscapes of these .jams files instead of drawing.")
def mix_command(
    events: Path,
    backgrounds: Path,
    output: Path,
    number: int | None,
    seed: int,
    events_each: int,
    official: bool,
    jams: Path | None,
) -> None:
    """Mix isolated EVENTS over BACKGROUNDS to soundscapes of 5 s in OUTPUT, as GISE-51's were mixed.

    EVENTS and BACKGROUNDS are folders with a subfolder of .wav or .flac for each
    label. Each soundscape is a FLAC file (22,050 Hz, 16 bits) with a .txt (onset,
    offset, label) and a .jams beside it. The same command goes on where it was
    stopped; a larger --number adds to what is there.

    \b
      hear-models gise51 mix events noises mixtures --number 1000
      hear-models gise51 mix events noises again --jams gise51/mixtures_jams/train
    """
    from hear_models.datasets.mixing import render_jams, write_mixtures
    from hear_models.errors import UsageError

    if (number is None) == (jams is None):
        raise UsageError("Say how many soundscapes by --number, or which by --jams FOLDER; one of the two.")
    if jams is not None:
        made = render_jams(jams, events, backgrounds, output)
    else:
        made = write_mixtures(
            events, backgrounds, output, number or 0, seed=seed, official=official, most_events=events_each
        )
    done, labels = 0, set[str]()
    with ProgressLine() as line:
        for done, mixture in enumerate(made, 1):
            labels |= set(mixture.labels)
            line.say(f"{done} of {number} soundscapes" if number else f"{done} soundscapes")
    click.echo(f"{output}: {counted(done, 'soundscape')}, {counted(len(labels), 'label')}")
    click.echo(f"Train on them: hear-models pretrain RECIPE --data {output}")


# ---------------------------------------------------------------------------------------------------------- pack


@command.command("pack", context_settings=HELP)
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=FOLDER)
@click.option("--per-shard", type=click.IntRange(min=1), default=1000, show_default=True, help="Clips in a shard.")
def pack_command(source: Path, output: Path, per_shard: int) -> None:
    """Pack labelled clips into WebDataset shards (.tar), recordings as they are.

    SOURCE is a folder of mixtures, of isolated events (a subfolder for each
    label), a .csv, an LMDB file or other shards. `pretrain --data OUTPUT` reads
    the shards, as does the package webdataset.
    """
    from hear_models.datasets.gise51 import labelled_clips
    from hear_models.datasets.gise51_check import libraries_below
    from hear_models.datasets.library import Library
    from hear_models.datasets.shards import state_of, write_shards

    library = source.is_dir() and libraries_below(source) == [source]

    def clips() -> Iterator[LabelledClip]:
        return iter(Library(source)) if library else labelled_clips(source)

    done = 0
    with ProgressLine() as line:
        for done in write_shards(clips(), output, per_shard, state_of(clips())):
            line.say(f"{done} clips")
    click.echo(f"{output}: {counted(done, 'clip')} in {counted(-(-done // per_shard), 'shard')}")
