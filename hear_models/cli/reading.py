"""What commands share that read many recordings: windows, progress, and the list of what could not be read."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hear_models.cli.terminal import ProgressLine

if TYPE_CHECKING:
    from hear_models.corpus.discover import Failure
    from hear_models.corpus.run import CorpusSummary

SHOWN_FAILURES = 20
BAR = 20
WINDOW = click.option(
    "--window",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Read window by window, at constant memory; 0: whole.  [default: recordings longer than 5 min]",
)
INDEX = click.option(
    "--index",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep embeddings there.  [default: the cache folder]",
)
SKIP_BAD = click.option("--skip-bad", is_flag=True, help="List what cannot be read, and exit with 0 if anything could.")


def window_of(seconds: float | None) -> float | str | None:
    """What --window said, as functions take it."""
    from hear_models.corpus.options import AUTO

    return AUTO if seconds is None else (seconds or None)


def telling(line: ProgressLine, window_s: float | None, verb: str = "embedding") -> Callable[[CorpusSummary], None]:
    """For `progress=`: keeps a line up to date, and says once that long recordings have windows."""
    told = False

    def tell(summary: CorpusSummary) -> None:
        nonlocal told
        if summary.windowed and not told:
            told = True
            line.note(windows_line(window_s))
        line.say(progress_line(verb, summary))

    return tell


def windows_line(window_s: float | None) -> str:
    """What is done with long recordings unless it is said how."""
    from hear_models.corpus.options import LONG_S

    return (
        f"recordings longer than {LONG_S / 60:g} min are read in windows of {window_s:g} s "
        "(--window SECONDS: others; --window 0: whole)"
    )


def progress_line(verb: str, summary: CorpusSummary) -> str:
    """ "embedding [#####...............]  27 %  0/2 files  146 s audio/s  3 min left" """
    done = summary.embedded + summary.skipped + len(summary.failed)
    return _line(verb, summary.done_share, f"{done}/{summary.files}", summary.audio_s_per_s, summary.left_s)


def _line(verb: str, share: float, files: str, speed: float, left_s: float | None) -> str:
    from hear_models.evaluation.runs.estimate import duration

    filled = int(BAR * share)
    bar = f"[{'#' * filled}{'.' * (BAR - filled)}] {100 * share:3.0f} %"
    left = "" if left_s is None else f"  {duration(left_s)} left"
    return f"{verb} {bar}  {files} files  {speed:.0f} s audio/s{left}"


class PartsOfFiles:
    """Progress of a command that reads files one after the other, each in pieces.

    Args:
        line: where it is shown.
        verb: what is done: "tagging".
        n_bytes: of the files.
        long_window_s: the windows of long files, of which a line is said; None where somebody asked for them.
    """

    def __init__(self, line: ProgressLine, verb: str, n_bytes: Sequence[int], long_window_s: float | None) -> None:
        from hear_models.corpus.progress import Progress

        self.line, self.verb, self.files, self.long_window_s = line, verb, len(n_bytes), long_window_s
        self.work = Progress()
        self.work.begin(n_bytes)
        self._began, self._audio_s, self._told = time.monotonic(), 0.0, False

    def of(self, number: int) -> Callable[[float, float | None], None]:
        """For one file: called with the seconds of it that are done, and all of its seconds where they are known."""
        from hear_models.corpus.options import LONG_S

        before = self._audio_s
        for earlier in range(number):
            self.work.part(earlier, 1.0)

        def tell(done_s: float, all_s: float | None) -> None:
            self._audio_s = before + done_s
            if all_s:
                self.work.part(number, done_s / all_s)
            if self.long_window_s is not None and not self._told and max(done_s, all_s or 0.0) > LONG_S:
                self._told = True
                self.line.note(windows_line(self.long_window_s))
            speed = self._audio_s / max(1e-3, time.monotonic() - self._began)
            self.line.say(_line(self.verb, self.work.share, f"{number}/{self.files}", speed, self.work.left_s))

        return tell


def report_failures(
    failed: Sequence[Failure], of: int, what: str, *, notes: Sequence[Failure] = (), skip_bad: bool = False
) -> None:
    """The end of a command: what was odd, what failed, and exit code 1 if something did (with --skip-bad: if all did).

    Args:
        failed: of `of` files.
        what: that could not be done to them: "embedded".
        notes: on files to which it was done.
        skip_bad: --skip-bad was given.
    """
    for kind, found in (("warning", notes), ("failed", failed)):
        for one in found[:SHOWN_FAILURES]:
            click.echo(f"{kind}: {one.error.rstrip('.')}.", err=True)
        if len(found) > SHOWN_FAILURES:
            click.echo(f"and {len(found) - SHOWN_FAILURES} more (--json lists all)", err=True)
    if not failed:
        return
    files = f"{len(failed)} file{'' if len(failed) == 1 else 's'} of {of}"
    if skip_bad and len(failed) < of:
        click.echo(f"left out: {files} could not be {what}", err=True)
        return
    click.echo(f"error: {files} could not be {what}", err=True)
    sys.exit(1)
