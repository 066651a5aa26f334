"""`hear-models validate`: every check of the HEAR API, and the faults that the official validator lets pass."""

from __future__ import annotations

import json
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from hear_models.cli.terminal import ProgressLine, stdout_for_json
from hear_models.errors import HearModelsError, UsageError

if TYPE_CHECKING:
    from hear_models.validation import CheckResult, Report
    from hear_models.validation.findings import Part, Severity
    from hear_models.validation.official import Official

LABELS = {"ok": "ok", "info": "ok", "warning": "WARNING", "error": "ERROR"}
COLOURS = {"ok": "green", "info": "green", "warning": "yellow", "error": "red"}
WIDTH = 79
INDENT = " " * 9
ABOUT: dict[Part, str] = {"scores": "What scores rest on", "manners": "Good manners, which the API does not ask for"}
HEADINGS: dict[Part, str] = {
    "api": "What the HEAR API says",
    "scores": "Stricter than the API: what scores rest on",
    "manners": "Stricter than the API: good manners",
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("module", metavar="MODULE_OR_NAME")
@click.option(
    "-m",
    "--model",
    "models",
    metavar="PATH",
    multiple=True,
    help="Weights, handed to load_model. Given twice, the two files must give different embeddings.",
)
@click.option("--device", default="cpu", show_default=True, help="Where the model runs, for instance cuda.")
@click.option("--quick", is_flag=True, help="Recordings up to 2 minutes only.")
@click.option("--long", "long_", is_flag=True, help="Up to 20 minutes, however long it takes.")
@click.option("--only", metavar="CHECK", multiple=True, help="Only this check, and those it needs; repeatable.")
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="Option of load_model; repeatable.")
@click.option("-v", "--verbose", is_flag=True, help="Show the tracebacks of the module's exceptions.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    module: str,
    models: tuple[str, ...],
    device: str,
    quick: bool,
    long_: bool,
    only: tuple[str, ...],
    settings: tuple[str, ...],
    verbose: bool,
    as_json: bool,
) -> None:
    """Check a HEAR module: yours, or one of this package.

    MODULE_OR_NAME is the dotted name or .py file of a module with load_model,
    get_timestamp_embeddings and get_scene_embeddings (the current folder is
    importable, as with python -m; MODULE:FILE gives it weights), or a model of
    this package: a name of `hear-models list`, a file, hf://ORG/REPO.

    \b
      hear-models validate my_package.my_model
      hear-models validate my_package.my_model --model weights.pt --long
      hear-models validate mwmae-nano

    First it says whether hear-validator 2021.0.6 would pass. Then come the checks
    of what the HEAR API says, and apart from them the stricter ones of this
    project: clips that influence each other, times that drift or are shifted,
    NaN for silence, short clips, memory that grows without bound, and more. The
    verdict is about the API alone.

    Exit status: 0 without errors (warnings are allowed), 1 with errors,
    2 for wrong use, for instance a module that cannot be imported.
    """
    if quick and long_:
        raise UsageError("--quick and --long exclude each other. Give one of them, or none for 10 minutes of audio.")
    if len(models) > 2:
        raise UsageError(f"--model was given {len(models)} times. Give it once, or twice to compare two files.")

    from hear_models.fields import parse_settings
    from hear_models.validation import load_module, validate

    options = parse_settings(settings)
    with stdout_for_json(as_json), ProgressLine() as line, tracebacks_of_imports(verbose):
        parts: list[Part] = []

        def show(result: CheckResult) -> None:
            line.say("")
            if as_json or result.skipped:
                return
            if parts[-1:] != [result.part]:
                parts.append(result.part)
                click.echo(f"\n{HEADINGS[result.part]}")
            print_result(result, verbose)

        def show_official(verdict: Official) -> None:
            if not as_json:
                click.echo(verdict_text(verdict))

        found = load_module(module, model_path=models[0] if models else "", device=device, options=options)
        if not as_json:
            weights = f", weights {found.model_path}" if found.model_path else ""
            said = f", {' '.join(settings)}" if settings else ""
            click.echo(f"checking {found.name} on {device}{weights}{said}")
        report = validate(
            found,
            other_model_path=models[1] if len(models) == 2 else "",
            length="quick" if quick else "long" if long_ else "normal",
            only=only or None,
            progress=show,
            first=show_official,
            begins=lambda check: line.say(f"{check.name}: {check.title}"),
        )
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=1))
    else:
        print_summary(report)
    if not report.ok:
        raise click.exceptions.Exit(1)


@contextmanager
def tracebacks_of_imports(wanted: bool) -> Iterator[None]:
    """Before an error that an exception of the module is behind, its traceback on stderr."""
    try:
        yield
    except HearModelsError as error:
        if wanted and error.__cause__ is not None:
            click.echo("".join(traceback.format_exception(error.__cause__)), err=True, nl=False)
        raise


def print_result(result: CheckResult, verbose: bool = False) -> None:
    """One line a check, and below it what was found."""
    label = click.style(f"{LABELS[result.status]:<8}", fg=COLOURS[result.status])
    click.echo(f"{label} {result.name:<17} {result.title}")
    for finding in result.findings:
        if finding.severity == "info":
            paragraph("note: ", finding.found)
            continue
        paragraph(f"{finding.severity}: ", finding.found)
        if finding.expected:
            paragraph("  expected: ", finding.expected)
        if finding.example:
            paragraph("  for example: ", finding.example)
        if verbose and finding.traceback:
            click.echo(textwrap.indent(finding.traceback, INDENT))


def verdict_text(verdict: Official) -> str:
    """Whether the official validator would pass, in one sentence."""
    from hear_models.validation.official import VALIDATOR

    said = "would pass" if verdict.passes else f"would refuse it: {verdict.refusal}"
    return textwrap.fill(f"{VALIDATOR} {said}.", WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def paragraph(label: str, text: str) -> None:
    """Label and text, wrapped to 80 columns, continued below the text."""
    continued = INDENT + " " * (len(label) - len(label.lstrip())) + "  "
    wrapped = textwrap.wrap(
        label + text, WIDTH, initial_indent=INDENT, subsequent_indent=continued, break_on_hyphens=False
    )
    click.echo("\n".join(wrapped))


def print_summary(report: Report) -> None:
    """The last lines: how many, how long, what was not run, and the verdict."""
    skipped = [result for result in report.results if result.skipped]
    run = len(report.results) - len(skipped)
    seconds = sum(result.seconds for result in report.results)
    errors, warnings = len(report.findings("error")), len(report.findings("warning"))
    click.echo(
        f"\n{counted(run, 'check')} in {seconds:.1f} s, {counted(errors, 'error')}, {counted(warnings, 'warning')}"
    )
    if skipped:
        names = ", ".join(result.name for result in skipped)
        text = f"{counted(len(skipped), 'check')} not run, because what they need failed: {names}"
        click.echo(textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False))
    if report.official is not None:
        click.echo(verdict_text(report.official))
    click.echo(f"{report.module} {'keeps' if report.keeps_api else 'does not keep'} the HEAR API.")
    kinds: tuple[Severity, ...] = ("error", "warning")
    for part, about in ABOUT.items():
        if counts := [counted(n, kind) for kind in kinds if (n := report.of(part, kind))]:
            click.echo(f"{about}: {', '.join(counts)}.")
    if not report.ok:
        click.echo("Mend the first error first.")


def counted(number: int, what: str) -> str:
    """1 error, 2 errors."""
    return f"{number} {what}{'' if number == 1 else 's'}"
