"""`hear-models validate`: every check of the HEAR API, and the faults that the official validator lets pass."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING

import click

from hear_models.errors import UsageError

if TYPE_CHECKING:
    from hear_models.validation import CheckResult, Report

LABELS = {"ok": "ok", "info": "ok", "warning": "WARNING", "error": "ERROR"}
COLOURS = {"ok": "green", "info": "green", "warning": "yellow", "error": "red"}
WIDTH = 79
INDENT = " " * 9


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("module", metavar="MODULE_OR_NAME")
@click.option(
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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    module: str, models: tuple[str, ...], device: str, quick: bool, long_: bool, only: tuple[str, ...], as_json: bool
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

    Everything that hear-validator 2021.0.6 checks, and what it lets pass:
    clips that influence each other, times that drift or are shifted, NaN for
    silence, short clips, memory that grows without bound, and more.

    Exit status: 0 without errors (warnings are allowed), 1 with errors,
    2 for wrong use, for instance a module that cannot be imported.
    """
    if quick and long_:
        raise UsageError("--quick and --long exclude each other. Give one of them, or none for 10 minutes of audio.")
    if len(models) > 2:
        raise UsageError(f"--model was given {len(models)} times. Give it once, or twice to compare two files.")

    from hear_models.validation import load_module, validate

    found = load_module(module, model_path=models[0] if models else "", device=device)
    if not as_json:
        weights = f", weights {found.model_path}" if found.model_path else ""
        click.echo(f"checking {found.name} on {device}{weights}\n")
    report = validate(
        found,
        other_model_path=models[1] if len(models) == 2 else "",
        length="quick" if quick else "long" if long_ else "normal",
        only=only or None,
        progress=None if as_json else print_result,
    )
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=1))
    else:
        print_summary(report)
    if not report.ok:
        raise click.exceptions.Exit(1)


def print_result(result: CheckResult) -> None:
    """One line a check, and below it what was found; the checks that were not run stand in the summary."""
    if result.skipped:
        return
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
    if report.ok:
        click.echo(f"{report.module} keeps the HEAR API.")
    else:
        click.echo(f"{report.module} does not keep the HEAR API.\nMend the first error first.")


def counted(number: int, what: str) -> str:
    """1 error, 2 errors."""
    return f"{number} {what}{'' if number == 1 else 's'}"
