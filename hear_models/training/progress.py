"""What a validation set says about a run: how fast it still learns, which weights are kept, and when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from hear_models.errors import UsageError
from hear_models.fields import one_of
from hear_models.training.recipe import Optimiser

SCHEDULES = ("cosine", "plateau")


@dataclass(frozen=True)
class Looks:
    """How often a run looks at what it never trains on, and what follows; the numbers are those of GISE-51's code."""

    every: int = 0  # updates from one look to the next; 0: as the objective says
    schedule: str = "cosine"  # or "plateau": after the warm-up the rate stays, and falls when the score stands still
    factor: float = 0.1  # by which it then falls
    patience: int = 5  # looks without a better score that it outlives
    threshold: float = 1e-4  # a better score is better by this share (for the rate; for the end any gain counts)
    stop_after: int = 0  # looks in a row without a better score that end the run (the authors: 10); 0: none do

    def __post_init__(self) -> None:
        """Refuse what no run can follow, with a UsageError."""
        one_of(self, schedule=SCHEDULES)
        if self.every < 0 or self.stop_after < 0:
            raise UsageError("every and stop_after must be 0 or more. Correct them.")
        if not (0 < self.factor < 1 and self.patience >= 0 and self.threshold >= 0):
            raise UsageError("factor lies between 0 and 1, patience and threshold are 0 or more. Correct them.")

    @property
    def decides(self) -> bool:
        """Whether a run goes another way than without looks."""
        return self.schedule == "plateau" or self.stop_after > 0


@dataclass(frozen=True)
class Watched:
    """What an objective tells the loop about its validation set."""

    settings: Looks
    every: int  # updates, at least 1
    figure: str  # of those of `validate()` the one that decides
    least: bool = False  # less of it is better


@dataclass
class Standing:
    """How a run stands with its validation set; it belongs to what a run resumes from. Of a loss its negative."""

    best: float = float("-inf")  # the best score so far
    idle: int = 0  # looks since
    reference: float = float("-inf")  # the best score by more than the threshold
    stale: int = 0  # looks since, or since the rate fell
    falls: int = 0  # how often the rate fell


class Progress:
    """The learning rate of every update, and the end of a run that learns no more.

    Args:
        optimiser: the rate without a validation set.
        watched: None: there is no such set.
    """

    def __init__(self, optimiser: Optimiser, watched: Watched | None) -> None:
        self.optimiser, self.watched, self.standing = optimiser, watched, Standing()

    def rate(self, step: int) -> float:
        """Learning rate of update `step`, counted from 0."""
        o = self.optimiser
        if self.watched is None or self.watched.settings.schedule == "cosine" or step < o.warmup_steps:
            return o.rate(step)
        peak: float = o.peak * self.watched.settings.factor**self.standing.falls
        return peak

    def due(self, step: int) -> bool:
        """Whether the set is looked at after `step` updates."""
        return self.watched is not None and (step % self.watched.every == 0 or step == self.optimiser.steps)

    def see(self, figures: Mapping[str, float]) -> bool:
        """Take note of a look; True if the weights are the best so far.

        The rate falls as torch's ReduceLROnPlateau lets it (mode "max", relative threshold), the run ends as
        Lightning's EarlyStopping ends it (mode "max").
        """
        assert self.watched is not None
        score = -figures[self.watched.figure] if self.watched.least else figures[self.watched.figure]
        now, s = self.standing, self.watched.settings
        if score > now.reference + abs(now.reference) * s.threshold or now.reference == float("-inf"):
            now.reference, now.stale = score, 0
        else:
            now.stale += 1
        if now.stale > s.patience:
            now.falls, now.stale = now.falls + 1, 0
        better = score > now.best
        now.best, now.idle = (score, 0) if better else (now.best, now.idle + 1)
        return better

    @property
    def ended(self) -> bool:
        """Whether the score has stood still for too long."""
        limit = self.watched.settings.stop_after if self.watched is not None else 0
        return 0 < limit <= self.standing.idle

    def as_dict(self) -> dict[str, float]:
        """For the run's state; nothing without a validation set."""
        return asdict(self.standing) if self.watched is not None else {}

    def restore(self, saved: Mapping[str, float]) -> None:
        """From `as_dict()`; nothing leaves it as it is."""
        if saved:
            self.standing = Standing(**saved)  # type: ignore[arg-type]
