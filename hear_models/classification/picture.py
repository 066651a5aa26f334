"""The confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hear_models.pictures import new_figure, save_figure

MOST_NUMBERS = 20  # classes, up to which every cell has its number


def draw_confusion(path: Path, classes: Sequence[str], confusion: Sequence[Sequence[int]], title: str = "") -> None:
    """Rows are labels, columns what was said; colours are shares of the row."""
    counts = np.asarray(confusion)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    size = max(4.0, 1.6 + 0.45 * len(classes))
    figure = new_figure(size, size)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="said", ylabel="label", title=title)
    if len(classes) <= MOST_NUMBERS:
        for row, line in enumerate(counts):
            for column, count in enumerate(line):
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    save_figure(figure, path)
