"""Batches of normalised crops, each a function of (seed, step) alone: a resumed run sees what it would have seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hear_models.training.batches import Batches
from hear_models.training.degrade import Degrade, degrade
from hear_models.training.features import Source
from hear_models.training.recipe import Data

GAP_FLOOR = -15.9  # log-mel of digital silence; a gap lies between it and the quiet part of its neighbours


class Batch(NamedTuple):
    """`units` is what the network sees, `target` what it predicts; the same array unless the recipe degrades."""

    units: np.ndarray
    target: np.ndarray


class Crops(Batches[Batch]):
    """Draws crops from a mixture of sources.

    Args:
        sources: (source, share) pairs; shares are relative.
        data: gaps and shares of the recipe.
        frames: length of a crop.
        view: the family's `training_view(clip, rng)`: a clip's log-mel [frames, bands] → a normalised crop.
        seed: of the run.
        how: degradations of what the network sees; the target stays clean.
        band_hz: centres of the bands, for the degradations.
    """

    def __init__(
        self,
        sources: list[tuple[Source, float]],
        data: Data,
        frames: int,
        view: Callable[[np.ndarray, np.random.Generator], np.ndarray],
        seed: int,
        how: Degrade | None = None,
        band_hz: np.ndarray | None = None,
    ) -> None:
        self.sources = [source for source, _ in sources]
        shares = np.array([share for _, share in sources], dtype=np.float64)
        self.shares = shares / shares.sum()
        # a crop is drawn from every second of sound alike, so long recordings are drawn more often
        self.odds = [np.cumsum(s.frames / s.frames.sum()) for s in self.sources]
        self.data, self.frames, self.view, self.seed = data, frames, view, seed
        self.how = how if how is not None and how.active else None
        self.band_hz = band_hz

    def clip(self, rng: np.random.Generator) -> np.ndarray:
        """One clip's unnormalised log-mel, float32 [frames, bands]; at least a crop long, or one short one alone."""
        which = rng.choice(len(self.sources), p=self.shares)
        source, odds = self.sources[which], self.odds[which]

        def draw() -> np.ndarray:
            return source[min(int(np.searchsorted(odds, rng.random(), side="right")), len(source) - 1)]

        recording = draw()
        if len(recording) >= self.frames or rng.random() < self.data.alone:
            return recording
        pieces: list[np.ndarray] = []
        length = 0
        while length < self.frames or not pieces:
            gap = self._gap(recording, rng)
            pieces += [gap, recording]
            length += len(gap) + len(recording)
            recording = draw()
        return np.concatenate(pieces)

    def _gap(self, neighbour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Random-length near-silence before `neighbour`: each band between digital silence and its quietest frames."""
        frames = round(rng.uniform(*self.data.gap_ms) / 10)
        quiet = np.quantile(neighbour, 0.05, axis=0)
        level = GAP_FLOOR + rng.random() * (quiet - GAP_FLOOR)
        # a band of noise smoothed by its mel filter scatters by about 0.5 in the logarithm
        noise = 0.5 * rng.standard_normal((frames, len(level)))
        gap: np.ndarray = np.maximum(level + noise, GAP_FLOOR).astype(np.float32)
        return gap

    def batch(self, step: int, size: int) -> Batch:
        """The crops of one step: what the network sees and what it predicts, each float32 [size, frames, bands]."""
        rng = np.random.Generator(np.random.PCG64([self.seed, step]))
        seen, clean = [], []
        for _ in range(size):
            clip, place = self.clip(rng), int(rng.integers(2**62))
            clean.append(self.view(clip, np.random.default_rng(place)))
            if self.how is not None:
                assert self.band_hz is not None
                seen.append(self.view(degrade(clip, self.how, self.band_hz, rng), np.random.default_rng(place)))
        target = np.stack(clean)
        return Batch(np.stack(seen) if seen else target, target)
