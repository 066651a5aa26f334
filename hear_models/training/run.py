"""Where and how a recipe is run, apart from what it computes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """Where and how a recipe is run. Only `folders`, `validation` and `init` change what is computed."""

    output: Path
    folders: tuple[Path, ...] = ()  # recordings; for taggers also files of labelled clips (.csv, LMDB)
    validation: tuple[Path, ...] = ()  # never trained on, in the forms of `folders`
    cache: Path | None = None  # features; None = in the output folder
    init: str | Path | None = None  # begin with the weights of this model or checkpoint (a second stage)
    device: str = "cpu"
    workers: int = 2  # threads that read audio
    save_every_s: float = 300.0
    log_every: int = 50
    go_on_with_changed: tuple[str, ...] = ()  # tables of the recipe that may be other ones than the run began with
    stop_after: int | None = None  # updates in this call, then save and return
    curves: bool = False  # draw the log when the call ends
    tensorboard: bool = False  # write its events beside the log
    synthetic_batch: bool = False  # train on one batch again and again: what the loop does without the data path

    @property
    def features(self) -> Path:
        """The folder that keeps the features."""
        return self.cache or self.output / "features"
