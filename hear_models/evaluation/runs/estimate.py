"""When a run will be done: from the times that its own jobs took, never from a guess made elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field


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
