"""The filters of a learnable front end: where they are, where they began, where the mel scale would put them."""

from __future__ import annotations

import copy
import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hear_models.checkpoints.safetensors_file import read_header
from hear_models.errors import UsageError
from hear_models.pictures import new_figure, save_figure
from hear_models.zoo import load_model
from hear_models.zoo.families import family_module, new_model

if TYPE_CHECKING:
    from torch import nn

MOVED_MEL = 1.0  # a filter counts as moved if its centre is that far, in mel, from where it began


@dataclass(frozen=True)
class Filters:
    """Centre and bandwidth of every filter in Hz, float64 [n], in the order of the channels.

    The bandwidth is that of the front end's own `bandwidth_hz`: the full width at half height of a Gabor's magnitude
    response (LEAF), or upper less lower edge (SincNet).
    """

    centre: np.ndarray
    bandwidth: np.ndarray


@dataclass(frozen=True)
class Analysis:
    """The filters of a model beside two others of the same number.

    Attributes:
        name: of the model.
        now: its filters.
        began: those that training began with.
        began_with: in words, where `began` comes from.
        mel: those of a new front end of this kind and size on the mel scale.
    """

    name: str
    now: Filters
    began: Filters
    began_with: str
    mel: Filters

    def summary(self) -> dict[str, Any]:
        """Figures: how many filters, how far centres and bandwidths are from where they began and from mel."""
        moved = np.abs(to_mel(self.now.centre) - to_mel(self.began.centre))
        from_mel = np.abs(to_mel(np.sort(self.now.centre)) - to_mel(np.sort(self.mel.centre)))
        return {
            "model": self.name,
            "filters": len(self.now.centre),
            "lowest_centre_hz": float(self.now.centre.min()),
            "highest_centre_hz": float(self.now.centre.max()),
            "began_with": self.began_with,
            "moved": int((moved > MOVED_MEL).sum()),
            "median_move_mel": float(np.median(moved)),
            "largest_move_mel": float(moved.max()),
            "median_bandwidth_over_began": float(np.median(self.now.bandwidth / self.began.bandwidth)),
            "median_distance_from_mel_mel": float(np.median(from_mel)),
            "median_bandwidth_over_mel": float(np.median(self.now.bandwidth) / np.median(self.mel.bandwidth)),
        }

    def csv_text(self) -> str:
        """A row a filter in the order of the channels; the mel filters are in the order of their centres."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        kinds = {"": self.now, "began_": self.began, "mel_": self.mel}
        writer.writerow(["filter", *(f"{kind}{what}_hz" for kind in kinds for what in ("centre", "bandwidth"))])
        for index in range(len(self.now.centre)):
            values = [value[index] for f in kinds.values() for value in (f.centre, f.bandwidth)]
            writer.writerow([index, *(f"{value:.3f}" for value in values)])
        return buffer.getvalue()


def analyse_filters(name: str, before: str | None = None) -> Analysis:
    """The filters of a model whose front end is learned.

    Args:
        name: registry name, file, or address of a model, as `load_model` takes it.
        before: the model whose filters count as those before training; None: new ones as its configuration and the seed
            of its recipe say. Official files name neither, and their recipes begin on the mel scale.

    Raises:
        UsageError: the front end learns no filters, or `before` has another number of them.
    """
    model = load_model(name)
    now = filters_of(model.frontend, name)
    mel = copy.deepcopy(model.frontend)
    cast(Any, mel).draw_filters("mel")
    if before is not None:
        began, source = filters_of(load_model(before).frontend, before), before
    else:
        config, seed = model.config, _seed(model.checkpoint.path if model.checkpoint else None)
        fresh = new_model(family_module(model.family), replace(config), seed=seed)
        began, source = filters_of(fresh.frontend, name), f"init={getattr(config, 'init', 'mel')}, seed {seed}"
    if len(began.centre) != len(now.centre):
        raise UsageError(f"{name} has {len(now.centre)} filters and {before} {len(began.centre)}. Compare equal ones.")
    return Analysis(name, now, began, source, filters_of(mel, name))


def filters_of(frontend: nn.Module, name: str) -> Filters:
    """Those of a front end. UsageError if it has none that are learned."""
    if not hasattr(frontend, "draw_filters"):
        raise UsageError(f"the front end of {name} has no filters that are learned. Analyse leaf-nano or sincnet-nano.")
    learned = cast(Any, frontend)
    centre, bandwidth = (x.detach().double().numpy() for x in (learned.band_hz, learned.bandwidth_hz))
    return Filters(centre, bandwidth)


def to_mel(hz: np.ndarray) -> np.ndarray:
    """The HTK scale."""
    mel: np.ndarray = 2595.0 * np.log10(1.0 + hz / 700.0)
    return mel


def draw_filters(analysis: Analysis, path: Path) -> None:
    """Two panels: centres in order of frequency, and bandwidths over centres."""
    figure = new_figure(9, 4.2)
    left, right = figure.subplots(1, 2)
    kinds = (
        ("mel scale", analysis.mel, "-", "0.6"),
        ("began", analysis.began, "x", "C1"),
        ("now", analysis.now, "o", "C0"),
    )
    for label, filters, style, colour in kinds:
        order = np.argsort(filters.centre)
        options = {"color": colour, "label": label, "markersize": 4, "fillstyle": "none"}
        left.plot(np.arange(len(order)), filters.centre[order], style, **options)
        right.plot(filters.centre[order], filters.bandwidth[order], style, **options)
    left.set(xlabel="filter, in order of frequency", ylabel="centre, Hz", title=analysis.name)
    right.set(xlabel="centre, Hz", ylabel="bandwidth, Hz", xscale="log", yscale="log")
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(lambda hz, _: f"{hz:g}" if f"{hz:g}"[0] in "25" else "")
    for axes in (left, right):
        axes.grid(color="0.9")
    left.legend()
    save_figure(figure, path)


def _seed(path: str | None) -> int:
    """Of the recipe in our own file's header; 0 without one."""
    notes = read_header(path).notes if path else None
    recipe = (notes or {}).get("recipe")
    return int(recipe["seed"]) if isinstance(recipe, dict) and isinstance(recipe.get("seed"), int) else 0
