"""When a run will be done: by the times of its own jobs; before the first of them, between two bounds measured here."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from hear_models.evaluation.judges.protocols import FIXED

BATCH_ROWS = 1024  # of the judge
EPOCHS = (60, FIXED["max_epochs"][0])  # of a probe: the patience of early stopping, and the longest


@dataclass(frozen=True)
class Work:
    """A piece of work: pieces of one `kind` cost the same per unit; `units` compare pieces of different size."""

    kind: str  # "judge:builtin", "embed:mwmae-nano"
    group: str  # pieces of one group take the same time: the task's name
    units: float


@dataclass
class Estimate:
    """Seconds that work will take, from what the same kind of work took before in this run."""

    _spent: dict[str, tuple[float, float]] = field(default_factory=lambda: defaultdict(lambda: (0.0, 0.0)))

    def measured(self, work: Work, seconds: float) -> None:
        """A piece of work took `seconds`."""
        for key in (work.kind, f"{work.kind}/{work.group}"):
            units, spent = self._spent[key]
            self._spent[key] = units + work.units, spent + seconds

    def seconds(self, work: Work) -> float | None:
        """How long a piece will take: by its own group if one of it was measured, else by its kind; None if neither."""
        for key in (f"{work.kind}/{work.group}", work.kind):
            units, spent = self._spent.get(key, (0.0, 0.0))
            if units > 0:
                return spent * work.units / units
        return None

    def left(
        self, waiting: Iterable[Work], running: Iterable[tuple[Work, float]] = (), at_once: int = 1
    ) -> float | None:
        """Seconds until all is done, `at_once` pieces side by side; None while a kind of work was never measured.

        `running` are pieces in flight, and for how many seconds each has been.
        """
        total, longest = 0.0, 0.0
        for work, elapsed in [*((work, 0.0) for work in waiting), *running]:
            seconds = self.seconds(work)
            if seconds is None:
                return None
            rest = max(seconds - elapsed, 0.0)
            total, longest = total + rest, max(longest, rest)
        return max(total / max(1, at_once), longest)


def row_seconds(dim: int) -> float:
    """Seconds of training a probe on a row of an epoch, measured now, in one thread."""
    import torch

    threads = torch.get_num_threads()
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(BATCH_ROWS, dim, generator=generator)
    with torch.random.fork_rng(devices=[]):
        probe = torch.nn.Sequential(torch.nn.Linear(dim, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 50))
    try:
        torch.set_num_threads(1)
        probe(rows).square().mean().backward()
        begin = time.perf_counter()
        probe(rows).square().mean().backward()
        return (time.perf_counter() - begin) / BATCH_ROWS
    finally:
        torch.set_num_threads(threads)


def bounds(waiting: Iterable[Work], row_s: float, at_once: int) -> tuple[float, float]:
    """Seconds that judging takes if every probe stops as early as it may, and if none stops before the end."""
    works = [work.units * row_s for work in waiting]
    side_by_side = max(sum(works) / max(1, at_once), max(works, default=0.0))
    return side_by_side * EPOCHS[0], side_by_side * EPOCHS[1]


def duration(seconds: float) -> str:
    """A duration as people say it: "40 s", "7 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{round(minutes / 1440)} days"
