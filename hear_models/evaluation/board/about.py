"""What stands in a table about a model besides its scores: dimensions, parameters, its weights' licence, dates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

from hear_models.checkpoints.manifest import Manifest, read_manifests
from hear_models.checkpoints.safetensors_file import part_of
from hear_models.evaluation.board.results import Result
from hear_models.evaluation.runs.record import ModelFacts

UNKNOWN = "-"


@dataclass(frozen=True)
class About:
    """None: not known."""

    dims: int | None = None  # of the embeddings that were judged
    parameters: int | None = None  # of the encoder's file
    licence: str | None = None  # of the weights
    paper: str | None = None

    @property
    def size(self) -> str:
        """The parameters as people say them: "1.2 M", "860 k"; "-" if not known."""
        if self.parameters is None:
            return UNKNOWN
        n = self.parameters
        return f"{n / 1e6:.1f} M" if n >= 1e6 else f"{n / 1e3:.0f} k" if n >= 1e3 else str(n)

    @property
    def words(self) -> str:
        """What is known, on one line: "512 dims, 1.2 M parameters, Apache-2.0"; "" if nothing is."""
        parts = [
            f"{self.dims} dims" if self.dims is not None else "",
            f"{self.size} parameters" if self.parameters is not None else "",
            f"licence {self.licence}" if self.licence == "not stated" else self.licence or "",
        ]
        return ", ".join(part for part in parts if part)


def about(model: ModelFacts, results: Iterable[Result]) -> About:
    """Of one model with its results: from the records, and for a model of this package from its manifest and file."""
    dims = {result.record.embeddings.dim for result in results if result.record.embeddings is not None}
    manifest = manifest_of(model)
    size = min(dims, default=None) if len(dims) < 2 else None
    if manifest is None:
        return About(dims=size)
    file = manifest.path or manifest.fetched
    parameters = 0 if manifest.status == "parameterless" else _parameters(file) if file else None
    return About(size if dims else manifest.scene_embedding_size, parameters, manifest.licence, manifest.paper)


def manifest_of(model: ModelFacts) -> Manifest | None:
    """The manifest of a model of this package; None for somebody else's, whatever it is called."""
    if model.family is None:
        return None
    manifests = read_manifests()
    manifest = manifests.get(model.name) or manifests.get(Path(model.name).stem)
    return manifest if manifest and manifest.family == model.family else None


@cache
def _parameters(file: Path) -> int | None:
    """Of the encoder in a file of ours, by the file's header alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            shapes = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None  # a damaged file is told where it is loaded, not here
    return sum(prod(shape) for name, shape in shapes.items() if part_of(name) != "decoder")


def dates(results: Iterable[Result]) -> str:
    """When the results were computed: "2026-01-30", "2026-01-30 to 2026-01-31"; "" if none says so."""
    days = sorted({result.record.finished[:10] for result in results if result.record.finished})
    return "" if not days else days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
