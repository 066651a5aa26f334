"""Where a sequence of embeddings changes: novelty by a checkerboard kernel (Foote 2000), and its peaks.

Foote slides a checkerboard, tapered by a Gaussian, along the diagonal of the self-similarity matrix. With a separable
taper and an inner product as similarity that is the squared length of a difference: the weighted mean of what comes
after minus that of what came before. So nothing of the matrix is ever computed. The inner product is that of whitened
embeddings: a direction counts by how little it varies from one window to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TAPER = 0.5  # deviation of the Gaussian, in half widths of the kernel
SHRINKAGE = 0.1  # of the covariance of the noise towards a sphere
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
    x = _whitened(embeddings)
    taper = np.exp(-0.5 * ((np.arange(half_width) + 0.5) / (TAPER * half_width)) ** 2)
    before, spread_before = _means(x, taper)
    after, spread_after = (part[::-1] for part in _means(x[::-1], taper))
    # means of the windows up to i - 1, and from i on
    gap = after[1:] - before[:-1]
    found[1:] = (gap**2).mean(1) / (spread_before[:-1] + spread_after[1:])
    return found


def peaks(values: np.ndarray, least_apart: int, threshold: float) -> list[Peak]:
    """Local maxima of novelty, `least_apart` windows from each other, the strongest first chosen, in order of time.

    Their strength is the novelty divided by its median, which is that of a stretch without changes; at least
    `threshold`.
    """
    usual = float(np.median(values[1:])) if len(values) > 1 else 0.0
    if usual <= LEAST:  # a constant sequence, or one that changes at a few places only
        usual = max(1.0, usual)
    chosen: list[int] = []
    for index in np.argsort(-values, kind="stable"):
        if values[index] / usual < threshold:
            break
        if all(abs(int(index) - other) >= least_apart for other in chosen):
            chosen.append(int(index))
    return [Peak(index, float(values[index] / usual)) for index in sorted(chosen)]


def _means(x: np.ndarray, taper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means of each window and those before it, and what their variance is beside that of one window."""
    n = len(x)
    totals, weights, squares = np.zeros_like(x), np.zeros(n), np.zeros(n)
    for back, weight in enumerate(taper[:n]):
        totals[back:] += weight * x[: n - back]
        weights[back:] += weight
        squares[back:] += weight**2
    return totals / weights[:, None], squares / weights**2


def _whitened(embeddings: np.ndarray) -> np.ndarray:
    """[windows, dim] → float64 in which the difference of neighbours is noise of deviation sqrt(2) in all directions."""
    x = embeddings.astype(np.float64) - embeddings.mean(0, dtype=np.float64)
    steps = np.diff(x, axis=0)
    # a change is a large step: steps far beyond the usual length say nothing of the noise
    lengths = np.linalg.norm(steps, axis=1)
    steps = steps * np.minimum(1.0, 2 * np.median(lengths) / np.maximum(lengths, LEAST))[:, None]
    noise = steps.T @ steps / (2 * len(steps))
    level = np.trace(noise) / len(noise)
    if level <= LEAST:
        return np.zeros_like(x) if not x.any() else x / max(LEAST, np.abs(x).max())
    noise = (1 - SHRINKAGE) * noise + SHRINKAGE * level * np.eye(len(noise))
    values, vectors = np.linalg.eigh(noise)
    return x @ (vectors / np.sqrt(values))
