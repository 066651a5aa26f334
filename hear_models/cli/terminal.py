"""What commands share where a person sits: a line of progress that overwrites itself, and an orderly end by Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

WIDTH = 78
STDOUT, STDERR = 1, 2
CLEARED = "\r\x1b[2K"  # the line, and the cursor at its start


class ProgressLine:
    """A context for one line on stderr that is gone afterwards; where nobody looks (a log, a pipe) it says nothing."""

    def __init__(self, wanted: bool = True) -> None:
        self._live = wanted and sys.stderr.isatty()

    def __enter__(self) -> ProgressLine:
        return self

    def say(self, text: str) -> None:
        """Replace the line."""
        if self._live:
            click.echo(f"{CLEARED}{text[:WIDTH]}", nl=False, err=True)

    def clear(self) -> None:
        """Take the line away, before something is printed."""
        if self._live:
            click.echo(CLEARED, nl=False, err=True)

    def note(self, text: str) -> None:
        """A line that stays, also where nobody looks."""
        click.echo(f"{CLEARED if self._live else ''}{text}", err=True)

    def __exit__(self, *_: object) -> None:
        self.clear()


@contextmanager
def stdout_for_json(wanted: bool) -> Iterator[None]:
    """What anybody prints meanwhile goes to stderr, from Python or below it, so that one JSON text is all of stdout."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        with contextlib.suppress(OSError, ValueError):  # no such descriptors, as under a test runner
            if sys.__stdout__ is not None and sys.__stdout__.fileno() == STDOUT:
                kept = os.dup(STDOUT)
                stack.callback(os.close, kept)
                stack.callback(os.dup2, kept, STDOUT)
                os.dup2(STDERR, STDOUT)
        yield


@contextmanager
def stopping_with(message: str) -> Iterator[None]:
    """Ctrl-C ends the command with one line on stderr, which says what is kept, and with exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(message, err=True)
        sys.exit(130)


class Stoppable(click.Group):
    """Ctrl-C in any command below: one line, exit code 130, and no half-made folder."""

    def invoke(self, ctx: click.Context) -> Any:
        with stopping_with("stopped; what was complete is kept"):
            return super().invoke(ctx)
