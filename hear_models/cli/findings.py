"""How every `check` command prints what it found."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hear_models.datasets.findings import Finding

WIDTH = 79
SHOWN = 5  # files of a finding, and a quarter of the findings of a report, before "and N more"
COLOURS = {"error": "red", "warning": "yellow", "note": None}


def print_findings(found: Sequence[Finding], show_all: bool) -> None:
    """A paragraph for each finding, its files below it."""
    findings = found if show_all else found[: 4 * SHOWN]
    for finding in findings:
        label = click.style(finding.level, fg=COLOURS[finding.level])
        text = wrapped(f"{finding.level}: {finding.text}.", " " * 6).replace(finding.level, label, 1)
        click.echo(text)
        files = finding.files if show_all else finding.files[:SHOWN]
        for file in files:
            click.echo(f"        {file}")
        if len(finding.files) > len(files):
            click.echo(f"        and {len(finding.files) - len(files)} more (--all names them)")
    if len(found) > len(findings):
        click.echo(f"      and {len(found) - len(findings)} more findings (--all)")


def wrapped(text: str, first: str) -> str:
    """Text in lines, the later ones below the first one's text."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
        break_long_words=False,
    )


def counted(number: int, what: str) -> str:
    """1 clip, 2 clips."""
    return f"{number} {what}{'' if number == 1 else 's'}"
