"""`hear-models classify`: a classifier from labelled recordings, and what it says of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hear_models.cli.networks import DEVICE, SETTINGS, UNTRAINED, load_network
from hear_models.cli.reading import SKIP_BAD, WINDOW, report_failures, telling, window_of
from hear_models.cli.tables import csv_text
from hear_models.cli.terminal import ProgressLine
from hear_models.corpus.clock import began_at, clock_times
from hear_models.files import as_text

if TYPE_CHECKING:
    from hear_models.classification.fitting import Answer

FILE = click.Path(path_type=Path, dir_okay=False)
NAME_WIDTH = 30


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """From labelled recordings to a classifier, and from it to answers.

    A linear probe on the embeddings of a model; tested on recordings that it
    did not see. Needs hear-models[eval].
    """


@command.command("fit")
@click.argument("source", type=click.Path(path_type=Path), metavar="FOLDER|CSV")
@click.option("-o", "--output", required=True, type=FILE, metavar="FILE.classifier", help="What is written.")
@click.option(
    "--audio", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where a CSV's files are."
)
@click.option("-m", "--model", default="mwmae-nano", show_default=True, metavar="NAME", help="Gives the embeddings.")
@SETTINGS
@click.option(
    "--probe",
    type=click.Choice(["linear", "mlp"]),
    default="linear",
    show_default=True,
    help="mlp: the papers' network with a hidden layer.",
)
@click.option("--plot", type=FILE, metavar="FILE.png", help="Draw the confusion matrix (needs hear-models[plots]).")
@click.option("--no-baseline", is_flag=True, help="Leave the comparison with logmel_stats out.")
@click.option("--skip-bad", is_flag=True, help="Leave out recordings that cannot be read, and list them.")
@DEVICE
@UNTRAINED
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def fit_command(
    source: Path,
    output: Path,
    audio: Path | None,
    model: str,
    settings: tuple[str, ...],
    probe: str,
    plot: Path | None,
    no_baseline: bool,
    skip_bad: bool,
    device: str | None,
    allow_untrained: bool,
    as_json: bool,
) -> None:
    """Fit a classifier on a folder of classes, or a table.

    FOLDER holds a folder of recordings for each class (CLASS/a.wav; those of
    one recorder or speaker together: CLASS/GROUP/a.wav). CSV has the columns
    path,label (several labels: a;b) and, if it likes, group. Recordings of one
    group are never in training and test at once.

    Exit code 1: recordings cannot be read (without --skip-bad).
    """
    from hear_models.extras import check_installed

    check_installed("sklearn", "Classifiers need", "eval")
    if plot is not None:
        from hear_models.pictures import check_picture

        check_picture(plot)
    from hear_models.classification.fitting import BASELINE, fit
    from hear_models.classification.recordings import read_labelled
    from hear_models.classification.store import save_classifier
    from hear_models.files import check_writable

    check_writable(output)
    labelled = read_labelled(source, audio)
    network = load_network(model, settings, device, allow_untrained)
    baseline = None if no_baseline else load_network(BASELINE, (), device, False)
    with ProgressLine() as line:
        classifier, failures = fit(labelled, network, kind=probe, baseline=baseline, progress=telling(line, None))
    if failures and not skip_bad:
        click.echo("nothing was written. Repair these recordings, or leave them out with --skip-bad.", err=True)
    report_failures(failures, len(labelled.files), "read", skip_bad=skip_bad)
    save_classifier(output, classifier)
    if plot is not None and classifier.figures["confusion"] is not None:
        from hear_models.classification.picture import draw_confusion

        draw_confusion(plot, classifier.probe.classes, classifier.figures["confusion"])
    _report(classifier.settings["model"], classifier.figures, as_json)
    if not as_json:
        click.echo(str(output))


@command.command("report")
@click.argument("classifier", type=FILE, metavar="FILE.classifier")
@click.option("--plot", type=FILE, metavar="FILE.png", help="Draw the confusion matrix (needs hear-models[plots]).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def report_command(classifier: Path, plot: Path | None, as_json: bool) -> None:
    """Show what a classifier was worth when it was fitted."""
    from hear_models.classification.store import load_classifier
    from hear_models.errors import FileError, UsageError
    from hear_models.foreign import reading

    found = load_classifier(classifier)
    if plot is not None:
        from hear_models.classification.picture import draw_confusion
        from hear_models.pictures import check_picture

        check_picture(plot)
        if found.figures["confusion"] is None:
            raise UsageError("recordings may have several labels here, so there is no confusion matrix.")
        draw_confusion(plot, found.probe.classes, found.figures["confusion"])
    with reading(classifier, FileError, "Fit it again: hear-models classify fit.", what="a classifier"):
        _report(found.settings["model"], found.figures, as_json)


@command.command("predict")
@click.argument("classifier", type=FILE, metavar="FILE.classifier")
@click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar="AUDIO...")
@click.option("-o", "--output", type=FILE, metavar="FILE.csv", help="Write the table there.  [default: print it]")
@WINDOW
@click.option("--clock", is_flag=True, help="Add the time of day, where names tell it (20240501_040000.WAV).")
@click.option("-m", "--model", metavar="NAME", help="The embedding model's name here.  [default: as in the file]")
@SKIP_BAD
@DEVICE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def predict_command(
    classifier: Path,
    paths: tuple[str, ...],
    output: Path | None,
    window: float | None,
    clock: bool,
    model: str | None,
    skip_bad: bool,
    device: str | None,
    as_json: bool,
) -> None:
    """Say what recordings are: path, label, and a chance for each class.

    Several labels are joined by ";". Where windows are answered for, each row
    has start_ms and end_ms; recordings longer than 5 minutes have windows of
    10 s unless --window 0 is given. Exit code 1: some could not be read.
    """
    from hear_models.classification.fitting import predict
    from hear_models.classification.store import load_classifier
    from hear_models.corpus.clock import without_clock
    from hear_models.corpus.options import AUTO, check_window, windows
    from hear_models.files import check_writable, write_atomically

    window_s = window_of(window)
    check_window(window_s)
    found = load_classifier(classifier)
    if output is not None:
        check_writable(output)
    options = [f"{key}={json.dumps(value)}" for key, value in found.settings.get("model_options", {}).items()]
    network = load_network(model or str(found.settings["model"]), tuple(options), device, True)
    with ProgressLine() as line:
        tell = telling(line, windows(AUTO)[0])
        answers, failures = predict(found, paths, network, window_s=window_s, progress=tell)
    timed = any(answer.start_ms is not None for answer in answers)
    rows = [_row(found.probe.classes, found.probe.multilabel, answer, timed, clock) for answer in answers]
    if clock and (lacking := without_clock(list(dict.fromkeys(answer.path for answer in answers)))):
        click.echo(lacking, err=True)
    text = json.dumps(rows, indent=1) + "\n" if as_json else csv_text(rows)
    if output is not None:
        write_atomically(output, text.encode())
        click.echo(str(output))
    else:
        click.echo(text, nl=False)
    report_failures(failures, len({answer.path for answer in answers}) + len(failures), "read", skip_bad=skip_bad)


def _row(classes: tuple[str, ...], multilabel: bool, answer: Answer, timed: bool, clock: bool) -> dict[str, Any]:
    chances = {name: round(float(chance), 4) for name, chance in zip(classes, answer.chances, strict=True)}
    said = (
        [name for name, chance in chances.items() if chance >= 0.5]
        if multilabel
        else [max(chances, key=chances.__getitem__)]
    )
    when: dict[str, Any] = {}
    if timed:
        when = {"start_ms": answer.start_ms or 0.0, "end_ms": answer.end_ms}
    if clock:
        when |= {"clock": clock_times(began_at(answer.path), [answer.start_ms or 0.0])[0]}
    return {"path": as_text(answer.path), **when, "label": ";".join(said), **chances}


def _report(model: str, figures: dict[str, Any], as_json: bool) -> None:
    f = figures
    if as_json:
        click.echo(json.dumps({"model": model, **f}, indent=1))
        return
    probe = "" if f.get("probe", "linear") == "linear" else f", probe {f['probe']}"
    click.echo(f"{f['recordings']} recordings in {f['groups']} groups, {len(f['per_class'])} classes; {model}{probe}")
    score, low, high = (100 * f[name] for name in ("score", "low", "high"))
    floor = "the commonest class" if f["metric"] == "accuracy" else "chance"
    several = f["metric"] == "mAP"
    click.echo(
        f"{f['metric'] + ' on held-out groups':<30}{score:5.1f} % (95 %: {low:.1f} to {high:.1f}), {f['folds']} folds"
    )
    click.echo(f"{floor:<30}{100 * f['floor']:5.1f} %")
    if f["logmel"] is not None:
        click.echo(f"{'the same on logmel_stats':<30}{100 * f['logmel']:5.1f} %")
    if f["low"] <= f["floor"]:
        click.echo("As far as these recordings tell, this is no better than guessing.")
    click.echo(
        f"\n{'class':<{NAME_WIDTH}} {'n':>6} {'precision':>10} {'recall':>8}{'AP':>8}"
        if several
        else f"\n{'class':<{NAME_WIDTH}} {'n':>6} {'precision':>10} {'recall':>8}"
    )
    for row in f["per_class"]:
        precision = "-" if row["precision"] is None else f"{100 * row['precision']:.1f}"
        name = row["name"] if len(row["name"]) <= NAME_WIDTH else row["name"][: NAME_WIDTH - 1] + "…"
        ap = "" if row["average_precision"] is None else f"{100 * row['average_precision']:8.1f}"
        click.echo(f"{name:<{NAME_WIDTH}} {row['recordings']:>6} {precision:>10} {100 * row['recall']:>8.1f}{ap}")
