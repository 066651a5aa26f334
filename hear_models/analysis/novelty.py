"""Where a sequence of embeddings changes: novelty by a checkerboard kernel (Foote 2000), and its peaks.

Foote slides a checkerboard, tapered by a Gaussian, along the diagonal of the self-similarity matrix. With a separable
taper and an inner product as similarity that is the squared length of a difference: the weighted mean of what comes
after minus that of what came before. So nothing of the matrix is ever computed. The inner product is that of whitened
embeddings: a direction counts by how little it varies from one window to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

TAPER = 0.5  # deviation of the Gaussian, in half widths of the kernel
SHRINKAGE = 0.1  # of the covariance of the noise towards a sphere
FAR = 2.0  # times the usual step from window to window: what is longer is a change, no noise
WIDEST = 512  # wider embeddings are projected at random, so that the covariance stays small
ROWS, COLUMNS = 4096, 32  # that are worked on at a time, in float64
LEAST = 1e-12


@dataclass(frozen=True)
class Peak:
    """A change: the window that begins something else, and how many times the usual novelty it has."""

    index: int
    strength: float


def novelty(embeddings: np.ndarray, half_width: int) -> np.ndarray:
    """How different the `half_width` windows from each one on are from as many before it.

    Args:
        embeddings: [windows, dim], in the order of time.
        half_width: of the kernel, in windows; at the ends it has what there is.

    Returns:
        float64 [windows]: the squared distance of the means, divided by what windows that vary by chance would have
        (1 on average if they were independent of each other). The first window has 0.
    """
    n = len(embeddings)
    found = np.zeros(n)
    if n < 2:
        return found
    x = _narrow(embeddings)
    matrix = _whitening(x)
    taper = np.exp(-0.5 * ((np.arange(half_width) + 0.5) / (TAPER * half_width)) ** 2)
    centre = x.mean(0, dtype=np.float64)
    for start in range(0, matrix.shape[1], COLUMNS):
        y = (x - centre) @ matrix[:, start : start + COLUMNS]
        before, spread_before = _means(y, taper)
        after, spread_after = (part[::-1] for part in _means(y[::-1], taper))
        gap = after[1:] - before[:-1]  # from i on, and up to i - 1
        found[1:] += (gap**2).sum(1) / (spread_before[:-1] + spread_after[1:])
    return found / matrix.shape[1]


def usual(values: np.ndarray) -> float:
    """The novelty of stretches without a change: the median; 1 where that is nothing."""
    middle = float(np.median(values[1:])) if len(values) > 1 else 0.0
    return middle if middle > LEAST else 1.0


def peaks(values: np.ndarray, least_apart: int, threshold: float) -> list[Peak]:
    """Local maxima of novelty, `least_apart` windows from each other, the strongest first chosen, in order of time.

    Their strength, at least `threshold`, is in multiples of the usual novelty.
    """
    level = usual(values)
    chosen: list[int] = []
    for index in np.argsort(-values, kind="stable"):
        if values[index] < threshold * level:
            break
        if all(abs(int(index) - other) >= least_apart for other in chosen):
            chosen.append(int(index))
    return [Peak(index, float(values[index] / level)) for index in sorted(chosen)]


def _means(x: np.ndarray, taper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means of each window and those before it, and what their variance is beside that of one window."""
    n = len(x)
    totals, weights, squares = np.zeros_like(x), np.zeros(n), np.zeros(n)
    for back, weight in enumerate(taper[:n]):
        totals[back:] += weight * x[: n - back]
        weights[back:] += weight
        squares[back:] += weight**2
    return totals / weights[:, None], squares / weights**2


def _narrow(embeddings: np.ndarray) -> np.ndarray:
    """[windows, dim] → [windows, at most WIDEST]."""
    dim = embeddings.shape[1]
    if dim <= WIDEST:
        return embeddings
    return embeddings @ np.random.default_rng(0).standard_normal((dim, WIDEST), np.float32)


def _whitening(x: np.ndarray) -> np.ndarray:
    """[dim, dim]: with it the difference of neighbours is noise, of variance 2 in all directions."""
    usual_length = float(np.median(np.concatenate([np.linalg.norm(steps, axis=1) for steps in _steps(x)])))
    dim = x.shape[1]
    noise = np.zeros((dim, dim))
    for steps in _steps(x):
        lengths = np.linalg.norm(steps, axis=1)
        steps = steps * np.minimum(1.0, FAR * usual_length / np.maximum(lengths, LEAST))[:, None]
        noise += steps.T @ steps / (2 * (len(x) - 1))
    level = float(np.trace(noise)) / dim
    if level <= LEAST:  # the usual step is none: windows are equal but for a few
        return np.eye(dim) / max(LEAST, float(np.abs(x - x[0]).max()))
    values, vectors = np.linalg.eigh((1 - SHRINKAGE) * noise + SHRINKAGE * level * np.eye(dim))
    return np.asarray(vectors / np.sqrt(values))


def _steps(x: np.ndarray) -> Iterator[np.ndarray]:
    """Differences of neighbours, float64."""
    for start in range(0, len(x) - 1, ROWS):
        yield np.diff(x[start : start + ROWS + 1].astype(np.float64), axis=0)
