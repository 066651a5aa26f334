"""`hear-models tasks`: what task data there are, whether they are whole, and how to make more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hear_models.cli.findings import counted, print_findings, wrapped
from hear_models.cli.reading import SKIP_BAD, report_failures
from hear_models.cli.tasks_download import download_command, prepare_command
from hear_models.cli.terminal import ProgressLine, Stoppable

if TYPE_CHECKING:
    from hear_models.tasks.check import TaskReport

HELP = {"help_option_names": ["-h", "--help"]}
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(cls=Stoppable, context_settings=HELP)
def command() -> None:
    """Task data for evaluation: list, fetch, check, resample, make.

    \b
      hear-models tasks list
      hear-models tasks download tasks
      hear-models tasks make-small toy-tasks
      hear-models tasks check toy-tasks
    """


command.add_command(download_command)
command.add_command(prepare_command)


# ---------------------------------------------------------------------------------------------------------- list


@command.command("list", context_settings=HELP)
@click.argument("names", metavar="[TASK]...", nargs=-1)
@click.option("--tasks-dir", type=FOLDER, help="Say which of them are in this folder, and what else is.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def list_command(names: tuple[str, ...], tasks_dir: Path | None, as_json: bool) -> None:
    """List the tasks of HEAR 2021; with TASK everything known about it.

    TASK is a folder name, its beginning (esc50), a name of the papers' tables
    (ESC-50, NS-5h), or `paper` for the ten tasks of the papers.
    """
    from dataclasses import asdict

    from hear_models.errors import UsageError
    from hear_models.tasks.known_tasks import known_tasks
    from hear_models.tasks.task import is_called, near_tasks

    chosen = [task for task in known_tasks().values() if not names or any(is_called(task.folder, n) for n in names)]
    unknown = [name for name in names if not any(is_called(folder, name) for folder in known_tasks())]
    if unknown:
        near = near_tasks(unknown[0], known_tasks())
        raise UsageError(f"HEAR has no task {unknown[0]!r}. {near}`hear-models tasks list` shows all of them.")
    present = _present(tasks_dir) if tasks_dir else {}
    if as_json:
        rows = [{**asdict(task), "address": task.address()} for task in chosen]
        if tasks_dir:
            for row in rows:
                row["present"] = present.get(str(row["folder"]))
            strangers = [name for name in present if name not in known_tasks()]
            rows += [{"folder": name, "present": present[name]} for name in strangers]
        click.echo(json.dumps(rows, indent=1))
        return
    if names:
        for task in chosen:
            _print_details(task.folder, present.get(task.folder))
        return
    click.echo(f"{'folder':<35}{'papers':<7}{'clips':>6} {'splits':<9}primary metric")
    for task in chosen:
        mark = "*" if task.folder in present else " "
        splits = "tr/va/te" if task.split_mode == "trainvaltest" else f"{len(task.splits)} folds"
        line = f"{task.folder:<34}{mark}{task.paper_name or '':<7}{task.n_clips:>6} {splits:<9}{task.evaluation[0]}"
        click.echo(line)
    if tasks_dir:
        click.echo(f"\nIn {tasks_dir} (* above):")
        for name, what in present.items():
            click.echo(f"  {name:<35}{what}")
        if not present:
            click.echo("  no task")
    click.echo(
        "\npapers: the name in the tables of the MW-MAE, SSAM and AxLSTM papers."
        "\nEverything about a task, and where its archive is: hear-models tasks list TASK"
    )


def _present(tasks_dir: Path) -> dict[str, str]:
    """Folder name → one clause on what lies there."""
    from hear_models.errors import HearModelsError, UsageError
    from hear_models.tasks.task import METADATA, read_task

    if not tasks_dir.is_dir():
        raise UsageError(f"{tasks_dir} is no folder. Give the folder that holds the task folders.")
    found = {}
    for folder in sorted(tasks_dir.iterdir()):
        if not (folder / METADATA).is_file():
            continue
        try:
            task = read_task(folder)
        except HearModelsError:
            found[folder.name] = "broken: hear-models tasks check says how"
            continue
        rates = ", ".join(f"{rate / 1000:g}" for rate in task.rates()) or "no"
        found[folder.name] = f"{task.origin}, {sum(task.counts.values())} clips, {rates} kHz"
    return found


def _print_details(folder: str, present: str | None) -> None:
    from hear_models.tasks.known_tasks import ALL_RATES, known_tasks

    task = known_tasks()[folder]
    paper = f" ({task.paper_name} in the papers)" if task.paper_name else ""
    seen = "" if task.tarball_name_seen else "  (file name by analogy, not seen)"
    length = "clips keep their length" if task.clip_s is None else f"{task.clip_s:g} s each"
    rows = {
        "task": task.title + paper,
        "kind": f"{task.embedding_type}, {task.prediction_type}",
        "clips": f"{task.n_clips}, {task.hours:g} h, {length}",
        "splits": f"{', '.join(task.splits)} ({task.split_mode})",
        "labels": f"{task.n_classes}" + ("" if task.n_classes_stated else " (inferred from the corpus)"),
        "metrics": f"{', '.join(task.evaluation)} (the first counts)",
        "48 kHz": task.address() + seen,
        "all rates": f"{ALL_RATES}: {task.tarball}",
        "note": task.note,
        "here": present,
    }
    click.echo(folder)
    for name, text in rows.items():
        if text:
            click.echo(wrapped(text, f"  {name:<11}"))
    click.echo()


# --------------------------------------------------------------------------------------------------------- check


@command.command("check", context_settings=HELP)
@click.argument("tasks_dir", metavar="DIR", type=FOLDER)
@click.argument("names", metavar="[TASK]...", nargs=-1)
@click.option("--rate", "rates", type=int, multiple=True, help="Audio at this rate in Hz only; repeatable.")
@click.option("--full", is_flag=True, help="Decode every clip instead of reading its header.")
@click.option("--all", "show_all", is_flag=True, help="Name every file, not the first few.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def check_command(
    tasks_dir: Path, names: tuple[str, ...], rates: tuple[int, ...], full: bool, show_all: bool, as_json: bool
) -> None:
    """Say what is missing, extra or broken in the tasks of DIR.

    TASK is as for `hear-models tasks list`; without it everything in DIR is
    checked. DIR may also be one task. Errors make a judge fail or a score wrong, this project's or that of
    the released kit; warnings are worth knowing.

    Exit status: 0 without errors, 1 with errors, 2 for wrong use.
    """
    from dataclasses import asdict

    from hear_models.tasks.check import check_tasks

    with ProgressLine(wanted=not as_json) as line:

        def progress(name: str, done: int, total: int) -> None:
            line.say(f"{name}: {done} of {total} clips")

        reports = check_tasks(tasks_dir, names, sample_rates=rates, full=full, progress=progress)
    if as_json:
        click.echo(json.dumps([{**asdict(report), "ok": report.ok} for report in reports], indent=1))
    else:
        for report in reports:
            _print_report(report, show_all)
        errors = sum(finding.level == "error" for report in reports for finding in report.findings)
        checked = sum(report.is_task for report in reports)
        click.echo(f"\n{counted(checked, 'task')} checked, {counted(errors, 'error')}.")
    if not all(report.ok for report in reports):
        raise click.exceptions.Exit(1)


def _print_report(report: TaskReport, show_all: bool) -> None:
    rates = ", ".join(f"{rate / 1000:g}" for rate in report.rates)
    what = f"  {report.origin}, {report.clips} clips, {rates or 'no'} kHz" if report.origin else ""
    status = click.style("ok   ", fg="green") if report.ok else click.style("ERROR", fg="red")
    click.echo(f"{status} {report.name}{what}" if report.is_task else f"{status} the folder {report.name} itself")
    print_findings(report.findings, show_all)


# ------------------------------------------------------------------------------------------------------ resample


@command.command("resample", context_settings=HELP)
@click.argument("tasks_dir", metavar="DIR", type=FOLDER)
@click.argument("names", metavar="[TASK]...", nargs=-1)
@click.option("--rate", type=int, default=16000, show_default=True, help="The rate to make, in Hz.")
@click.option("--from", "source_rate", type=int, help="The rate to make it from  [default: the highest there is]")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Threads.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def resample_command(
    tasks_dir: Path, names: tuple[str, ...], rate: int, source_rate: int | None, workers: int, as_json: bool
) -> None:
    """Make the audio of the tasks in DIR at another sample rate.

    Zenodo has 48 kHz only, most models take 16 kHz. RATE/ appears beside the
    rate that is there, once it is complete; a stopped run goes on where it was.
    """
    from hear_models.tasks.resample_task import resample_task
    from hear_models.tasks.task import list_tasks

    rows = []
    for task in list_tasks(tasks_dir, names):
        with ProgressLine() as line:

            def progress(done: int, total: int, name: str = task.name, line: ProgressLine = line) -> None:
                line.say(f"{name}: {done} of {total} clips")

            written = resample_task(task, rate, source_rate=source_rate, workers=workers, progress=progress)
        kept = sum(task.counts.values()) - written
        rows.append({"task": task.name, "rate": rate, "written": written, "kept": kept})
        if not as_json:
            click.echo(f"{task.name}: {written} clips written at {rate} Hz" + (f", {kept} were there" if kept else ""))


# ----------------------------------------------------------------------------------------------------------- new


@command.command("new", context_settings=HELP)
@click.argument("source", metavar="FOLDER|CSV", type=click.Path(path_type=Path))
@click.argument("folders", metavar="[AUDIO_DIR] OUT", nargs=-1, required=True, type=FOLDER)
@click.option("--sample-duration", type=float, metavar="SECONDS", help="Trim or pad every clip to this length.")
@click.option("--folds", type=int, metavar="K", help="Draw K folds  [default: 5 folds]")
@click.option("--split", metavar="A/B/C", help="Draw train/valid/test in these shares, for instance 60/20/20.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the drawing.")
@click.option("--prediction", type=click.Choice(["multiclass", "multilabel"]), help="One label a clip, or any number.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Repeatable; the first one counts.")
@click.option(
    "--rate", "rates", type=int, multiple=True, default=(16000,), show_default=True, help="In Hz; repeatable."
)
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Threads.")
@SKIP_BAD
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def new_command(
    source: Path,
    folders: tuple[Path, ...],
    sample_duration: float | None,
    folds: int | None,
    split: str | None,
    seed: int,
    prediction: str | None,
    metrics: tuple[str, ...],
    rates: tuple[int, ...],
    workers: int,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Build the task OUT from labelled recordings: a folder for each class, or a CSV.

    \b
      hear-models tasks new sounds mine/birds-v1-full           CLASS/a.wav
      hear-models tasks new t.csv recordings mine/birds-v1-full

    FOLDER holds CLASS/a.wav; CLASS/GROUP/a.wav keeps a GROUP (a speaker, a
    site) in one split; train/CLASS, valid/CLASS, test/CLASS give the splits.
    The CSV's columns, other usual names of them are understood too:

    \b
      file,label                  one label a clip; a;b;c for several
      file,label,group            clips of a group stay in one split
      file,label,split            train, valid, test as given
      file,label,fold             folds as given
      file,label,start_ms,end_ms  an event a row

    File names are relative to AUDIO_DIR (the CSV's folder, if it is left out), in
    any audio format. OUT is the new task's folder, by custom NAME-VERSION-MODE.
    """
    from hear_models.errors import UsageError
    from hear_models.tasks.new_task import TaskOptions, new_task

    *before, out = folders
    if len(before) > 1:
        raise UsageError(f"{len(folders) + 1} names are too many. Give FOLDER OUT, or CSV AUDIO_DIR OUT.")
    audio_dir = before[0] if before else None
    options = TaskOptions(sample_duration, rates, prediction, folds, _shares(split), metrics, seed, workers, skip_bad)
    with ProgressLine() as line:
        made = new_task(source, audio_dir, out, options, lambda done, total: line.say(f"{done} of {total} clips"))
    if as_json:
        from dataclasses import asdict

        click.echo(json.dumps(asdict(made), indent=1, default=str))
        report_failures(made.failed, sum(made.counts.values()) + len(made.failed), "used", skip_bad=True)
        return
    splits = ", ".join(f"{name} {count}" for name, count in made.counts.items())
    click.echo(f"{made.folder}: {made.kind}, {sum(made.counts.values())} clips, {made.labels} labels")
    click.echo(wrapped(splits, "  clips    "))
    for note in made.notes:
        click.echo(wrapped(note, "  note     "))
    for finding in made.findings:
        if finding.level != "note":
            click.echo(wrapped(finding.text, f"  {finding.level:<9}"))
    click.echo(f"Evaluate on it: hear-models evaluate MODEL --tasks-dir {made.folder.parent}")
    report_failures(made.failed, sum(made.counts.values()) + len(made.failed), "used", skip_bad=True)


def _shares(text: str | None) -> tuple[float, float, float] | None:
    """60/20/20, or 60,20,20, or 0.6/0.2/0.2."""
    from hear_models.errors import UsageError

    if text is None:
        return None
    try:
        train, valid, test = (float(part) for part in text.replace(",", "/").split("/"))
    except ValueError as error:
        raise UsageError(f"--split {text!r} is no train/valid/test. Give three shares, such as 60/20/20.") from error
    return train, valid, test


# ---------------------------------------------------------------------------------------------------- make-small


@command.command("make-small", context_settings=HELP)
@click.argument("out", type=FOLDER)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed, other sounds.")
@click.option("--task", "names", multiple=True, metavar="TASK", help="Only this task; repeatable.")
@click.option(
    "--rate", "rates", type=int, multiple=True, default=(16000,), show_default=True, help="In Hz; repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def make_small_command(out: Path, seed: int, names: tuple[str, ...], rates: tuple[int, ...], as_json: bool) -> None:
    """Write toy versions of the papers' ten tasks, and of one event task, to OUT.

    Made of procedural sound in seconds, with folder names, splits, labels and
    metrics in kind as in the real ones. Their metadata say `synthetic: true`:
    scores on them show that an evaluation works, and nothing about a model.
    """
    from hear_models.tasks.make_small import make_small

    def progress(name: str, clips: int) -> None:
        if not as_json:
            click.echo(f"{name}: {clips} clips")

    folders = make_small(out, seed, names, sorted(set(rates)), progress)
    if as_json:
        click.echo(json.dumps([str(folder) for folder in folders], indent=1))
        return
    click.echo(f"Toy tasks in {out}. Check them: hear-models tasks check {out}")
