"""How much of a run over recordings is done, and how long the rest will take: by bytes, which every recording tells."""

from __future__ import annotations

import time
from collections.abc import Sequence

KNOWN_AFTER_S = 2.0  # an estimate from less means nothing


class Progress:
    """Parts of recordings as they are finished. What a run before had finished costs nothing, and tells nothing.

    share: of all bytes, 0 to 1. left_s: seconds until all is done; None while nobody knows.
    """

    def __init__(self) -> None:
        self._bytes: list[int] = []
        self._shares: dict[int, float] = {}
        self._done = self._known = 0.0
        self._began = time.monotonic()

    def begin(self, n_bytes: Sequence[int]) -> None:
        """The recordings to come, by their sizes."""
        self._bytes = [max(1, size) for size in n_bytes]

    def was_done(self, index: int, share: float) -> None:
        """So much of a recording was finished before this run."""
        self.part(index, share)
        self._known += self._bytes[index] * min(1.0, share)

    def part(self, index: int, share: float) -> None:
        """A recording is finished up to that share of it."""
        before, now = self._shares.get(index, 0.0), min(1.0, share)
        if now > before:
            self._done += self._bytes[index] * (now - before)
            self._shares[index] = now

    @property
    def share(self) -> float:
        return min(1.0, round(self._done / sum(self._bytes), 6)) if self._bytes else 1.0

    @property
    def left_s(self) -> float | None:
        seconds, here = time.monotonic() - self._began, self._done - self._known
        if not self._bytes or here <= 0 or seconds < KNOWN_AFTER_S:
            return None
        return max(0.0, seconds * (sum(self._bytes) - self._done) / here)
