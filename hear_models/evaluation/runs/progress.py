"""What a person sees while `hear-models evaluate` works: what runs, what is left, when it will be done.

On a terminal a few lines that change; elsewhere (a log, a pipe) one plain line for each thing that ended.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from hear_models.evaluation.runs.estimate import duration

WIDTH = 80
MOST_RUNNING = 8  # running jobs that are listed by name
REDRAW_S = 0.2


@dataclass
class State:
    """Where a run stands; times in seconds."""

    embeddings: int = 0  # model x task pairs whose embeddings are needed
    embeddings_done: int = 0
    embedding: str | None = None  # the pair that is being embedded
    clips: tuple[int, int] | None = None  # of that pair: embedded, all
    jobs: int = 0
    jobs_done: int = 0
    running: list[tuple[str, float]] = field(default_factory=list)
    left_s: float | None = None
    bounds_s: tuple[float, float] | None = None  # of all scores, while none of a kind was measured
    failed: int = 0


def lines(state: State, now: float, width: int = WIDTH) -> list[str]:
    """The changing lines, each at most `width` columns; `now` is `time.time()`."""
    result = []
    if state.embeddings_done < state.embeddings:
        clips = f"  {state.clips[0]}/{state.clips[1]} clips" if state.clips else ""
        result.append(
            _row("embeddings", state.embeddings_done, state.embeddings, f"{state.embedding or ''}", clips, width)
        )
    result.append(_row("scores", state.jobs_done, state.jobs, "", "", width))
    for name, seconds in state.running[:MOST_RUNNING]:
        result.append(fit(f"    {name}", f"  {duration(seconds)}", width))
    if len(state.running) > MOST_RUNNING:
        result.append(f"    and {len(state.running) - MOST_RUNNING} more")
    failed = f"{state.failed} failed; " if state.failed else ""
    result.append(fit(failed + left(state, now), "", width))
    return result


def left(state: State, now: float) -> str:
    """ "7 min left, until 14:32" """
    if state.left_s is None:
        if state.bounds_s is None:
            return "time left: known when the first of its kind is done"
        least, most = state.bounds_s
        return f"{duration(least)} to {duration(most)} for the scores; better known after the first"
    ends = time.localtime(now + state.left_s)
    at = time.strftime("%H:%M" if state.left_s < 20 * 3600 else "%a %d %b, %H:%M", ends)
    return f"{duration(state.left_s)} left, until {at}"


def _row(name: str, done: int, of: int, text: str, tail: str, width: int) -> str:
    filled = round(16 * done / of) if of else 16
    bar = f"[{'#' * filled}{'.' * (16 - filled)}]"
    return fit(f"{name:<11}{bar} {f'{done}/{of}':>9}  {text}", tail, width)


def fit(text: str, tail: str = "", width: int = WIDTH) -> str:
    """`text` and `tail` on one line: `text` is cut in its middle if both are too long."""
    room = max(8, width - len(tail))
    if len(text) > room:
        text = f"{text[: room // 2 - 1]}…{text[-(room - room // 2) :]}"
    return f"{text}{tail}".rstrip()


class Reporter:
    """Writes to stderr; `plain` = one line for each thing that ended. As a context it leaves the terminal clean."""

    def __init__(self, plain: bool | None = None, quiet: bool = False) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.plain = not self.console.is_terminal if plain is None else plain
        self.quiet = quiet
        self.state = State()
        self._live: Any = None
        self._drawn = 0.0

    def __enter__(self) -> Reporter:
        if not self.plain and not self.quiet:
            from rich.live import Live

            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def draw(self, force: bool = False) -> None:
        """Show the state, at most five times a second."""
        now = time.monotonic()
        if self._live is None or (not force and now - self._drawn < REDRAW_S):
            return
        from rich.text import Text

        self._drawn = now
        width = min(self.console.width, 100)
        self._live.update(Text("\n".join(lines(self.state, time.time(), width))), refresh=True)

    def say(self, text: str, style: str | None = None) -> None:
        """A line that stays."""
        if not self.quiet:
            self.console.print(text, style=style, markup=False)

    def embedded(self, name: str, reused: bool, seconds: float) -> None:
        """Embeddings of one model and task are there."""
        self.state.embeddings_done += 1
        if self.plain and not reused:
            self.say(f"[{self.state.embeddings_done}/{self.state.embeddings}] embedded {name} ({duration(seconds)})")
        self.draw()

    def scores_take(self, least: float, most: float) -> None:
        """Bounds of the time for all scores, before the first of them is there."""
        self.state.bounds_s = (least, most)
        if self.plain:
            self.say(f"{self.state.jobs} to make: {left(self.state, time.time())}")
        self.draw(force=True)

    def scored(self, name: str, score: str, seconds: float) -> None:
        """A job ended well."""
        self.state.jobs_done += 1
        if self.plain:
            state = self.state
            rest = f"; {left(state, time.time())}" if state.left_s is not None and state.jobs_done < state.jobs else ""
            head = f"[{state.jobs_done}/{state.jobs}] {name}"
            self.say(fit(head, f": {score} ({duration(seconds)}{rest})"))
        self.draw()

    def finished(self, name: str, seeds: int, mean: str) -> None:
        """All seeds of one model and task ended: on a terminal this is the line that stays."""
        if not self.plain:
            self.say(fit(name, f"  {mean}  ({seeds} seed{'s' if seeds != 1 else ''})"))

    def failed(self, name: str, error: str) -> None:
        """A job, or the embeddings of one model and task, failed."""
        self.state.failed += 1
        if self.plain:  # a terminal shows the list at the end
            self.say(f"failed: {name}: {error}")
        self.draw()
