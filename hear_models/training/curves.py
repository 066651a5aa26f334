"""A run's log as curves: a table, a picture, and TensorBoard's events where that is installed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hear_models.errors import UsageError
from hear_models.files import make_folder, write_atomically
from hear_models.foreign import read_bytes, reading
from hear_models.pictures import new_figure, save_figure
from hear_models.training.run import Run

TABLE, PICTURE, EVENTS = "curves.csv", "curves.png", "tensorboard"
FIRST = ("step", "loss", "rate")
FEW = 60  # points of a curve that are marked one by one
PACE = ("updates_per_s", "crops_per_s", "data_wait_share", "seconds")  # not of what is learned


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a `log.jsonl`. UsageError if it is none."""
    with reading(path, UsageError, "Delete it, or give another --output.", what="a log"):
        return [json.loads(line) for line in read_bytes(path).decode().splitlines()]


def write_curves(log: Path, folder: Path) -> None:
    """`curves.csv`, a row a line of the log, and `curves.png`. UsageError without matplotlib, FileError."""
    lines = read_log(log)
    learned = [name for name in dict.fromkeys(name for line in lines for name in line) if name not in (*FIRST, *PACE)]
    table = io.StringIO()
    writer = csv.DictWriter(table, [*FIRST, *learned, *PACE], restval="")
    writer.writeheader()
    writer.writerows(lines)
    write_atomically(folder / TABLE, table.getvalue().encode())
    draw_curves(lines, learned, folder / PICTURE)


def draw_curves(lines: list[dict[str, Any]], learned: list[str], path: Path) -> None:
    """Losses in one picture, every other figure of a validation set in its own, the learning rate below them all."""
    losses = ["loss", *(name for name in learned if name.endswith("loss"))]
    panels = [losses, *([name] for name in learned if name not in losses), ["rate"]]
    figure = new_figure(7, 2.2 * len(panels) + 0.6)
    for axes, names in zip(figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0], panels, strict=True):
        for name in names:
            points = [(line["step"], line[name]) for line in lines if name in line]
            marker = "." if len(points) < FEW else None
            axes.plot(*zip(*points, strict=True), marker=marker, label=name.replace("_", " "))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    axes.set_xlabel("update")
    save_figure(figure, path)


def check_installed(run: Run) -> None:
    """Raise UsageError for what the run is to draw or write without having the library for it."""
    if run.curves:
        new_figure()
    if run.tensorboard:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise UsageError("--tensorboard needs TensorBoard. Install it: pip install tensorboard") from error


class Events:
    """TensorBoard's events of a run, from update `step` on: those of later updates, from before, no longer count."""

    def __init__(self, run: Run, step: int) -> None:
        """Raises OSError for a link that leads out of the run's folder."""
        make_folder(run.output, run.output / EVENTS)
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(run.output / EVENTS), purge_step=step + 1)

    def note(self, line: Mapping[str, Any]) -> None:
        """Take a line of the log."""
        for name, value in line.items():
            if name not in ("step", "seconds"):
                self.writer.add_scalar(name, value, line["step"])
        self.writer.flush()

    def close(self) -> None:
        """End the file."""
        self.writer.close()
