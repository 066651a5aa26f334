"""Pictures of error rates: DET curves on probit axes, and error rates against what was dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from hear_models.pictures import new_figure, save_figure

SMALLEST = 1e-6  # rates are clipped for drawing only: a probit of 0 is infinite
TICKS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9)
STYLES = ("-", "--", ":", "-.")  # curves differ by their dashes, not by colour alone


def probit(rates: Any) -> np.ndarray:
    """Rates, clipped to [1e-6, 1 - 1e-6] → quantiles of the normal distribution."""
    clipped = np.clip(np.asarray(rates, np.float64), SMALLEST, 1 - SMALLEST)
    return np.array([NormalDist().inv_cdf(float(rate)) for rate in clipped.ravel()]).reshape(clipped.shape)


def draw_det(path: Path, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str = "") -> None:
    """DET curves, one a name: (false positive rates, false negative rates) as of `metrics.det_points`."""
    figure = new_figure()
    axes = figure.add_subplot()
    for index, (name, (fpr, fnr)) in enumerate(curves.items()):
        axes.plot(probit(fpr), probit(fnr), STYLES[index % len(STYLES)], label=name, drawstyle="steps-post")
    ends = probit([TICKS[0] / 2, TICKS[-1]])
    axes.plot(ends, ends, color="0.7", linewidth=0.8)  # where both rates are equal
    for set_ticks in (axes.set_xticks, axes.set_yticks):
        set_ticks(probit(TICKS), [f"{100 * tick:g}" for tick in TICKS])
    axes.set(xlim=ends, ylim=ends, xlabel="false alarms, %", ylabel="misses, %", title=title)
    _finish(figure, axes, path)


def draw_curves(path: Path, shares: Sequence[float], curves: Mapping[str, Sequence[float]], what: str) -> None:
    """Error rates against the share of what was dropped, one curve a name."""
    figure = new_figure()
    axes = figure.add_subplot()
    for index, (name, rates) in enumerate(curves.items()):
        style = STYLES[index % len(STYLES)]
        axes.plot([100 * share for share in shares], [100 * rate for rate in rates], f"o{style}", label=name)
    axes.set(xlabel=f"dropped {what}, %", ylabel="EER, %")
    axes.set_ylim(bottom=0)
    _finish(figure, axes, path)


def _finish(figure: Any, axes: Any, path: Path) -> None:
    axes.grid(color="0.9")
    axes.legend()
    save_figure(figure, path)
