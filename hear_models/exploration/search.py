"""What sounds like a recording: the nearest of a collection by cosine, exactly.

A million embeddings of 512 values are compared in 0.2 seconds of one core (docs/search.md), less than it takes to read
them; so there is no approximate index.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hear_models.corpus.embed import embed
from hear_models.errors import UsageError
from hear_models.exploration.collection import Collection
from hear_models.pipeline.audio import read_audio
from hear_models.pipeline.model import HearModel

TINY = 1e-12
ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Hit:
    """A recording, or a window of it (`part_s`, from and to), and how like the query it is: a cosine."""

    file: Path
    name: str
    similarity: float
    part_s: tuple[float, float] | None


def query_vector(path: str | os.PathLike[str], model: HearModel, part_s: tuple[float, float] | None) -> np.ndarray:
    """The scene embedding of a recording, or of a part of it; float32 [dim]. AudioFileError if it cannot be read."""
    if part_s is None:
        return np.asarray(embed(path, model), np.float32)
    start, end = part_s
    samples = read_audio(path, model.sample_rate, start_s=start, duration_s=end - start)
    return np.asarray(embed(samples, model, sample_rate=model.sample_rate))


def check_part(part_s: tuple[float, float] | None) -> None:
    """UsageError unless it begins at 0 or later and ends after that, in seconds."""
    if part_s is not None and not 0 <= part_s[0] < part_s[1] < 1e9:
        raise UsageError(f"--part {part_s[0]:g} {part_s[1]:g} is no part. Give its start and its end in seconds.")


def nearest(
    collection: Collection,
    vector: np.ndarray,
    top: int,
    *,
    query: str | os.PathLike[str] | None = None,
    part_s: tuple[float, float] | None = None,
    once: bool = False,
) -> list[Hit]:
    """The `top` rows most like a vector [dim], best first.

    Args:
        query: the recording that it is of: what of the collection overlaps it (`part_s` of it) is left out.
        once: of each recording its best window alone.
    """
    cosines = _cosines(collection.vectors, vector)
    own = _own(collection, query, part_s)
    cosines[own] = -np.inf
    hits: list[Hit] = []
    taken: set[int] = set()
    for row in _ordered(cosines, top):
        which = int(collection.recording[row])
        if len(hits) == top or cosines[row] == -np.inf:
            break
        if once and which in taken:
            continue
        taken.add(which)
        part = collection.part_s(row)
        hits.append(Hit(collection.files[which], collection.names[which], float(cosines[row]), part))
    return hits


def _cosines(vectors: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """[rows]; by blocks, so that no copy of the whole is made."""
    query = vector / max(float(np.linalg.norm(vector)), TINY)
    found = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        block = vectors[start : start + ROWS_AT_ONCE]
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
        found[start : start + len(block)] = block @ query / np.maximum(lengths, TINY)
    return found


def _ordered(cosines: np.ndarray, top: int) -> Iterator[int]:
    """Rows from the most like on; of equals the first. The first few are found without sorting all."""
    n, few = len(cosines), max(64, 4 * top)
    if n > few:
        bound = np.partition(cosines, n - few)[n - few]
        best = np.flatnonzero(cosines >= bound)
        yield from best[np.argsort(-cosines[best], kind="stable")].tolist()
        rest = np.flatnonzero(cosines < bound)
    else:
        rest = np.arange(n)
    yield from rest[np.argsort(-cosines[rest], kind="stable")].tolist()


def _own(collection: Collection, query: str | os.PathLike[str] | None, part_s: tuple[float, float] | None) -> list[int]:
    """The rows that overlap the query, if it is in the collection."""
    if query is None or not os.path.exists(query):
        return []
    place = os.path.realpath(query)
    same = [index for index, file in enumerate(collection.files) if os.path.realpath(file) == place]
    rows: list[int] = np.flatnonzero(np.isin(collection.recording, same)).tolist()
    if part_s is None:
        return rows
    start, end = part_s
    parts = ((row, collection.part_s(row)) for row in rows)
    return [row for row, part in parts if part is None or (part[0] < end and part[1] > start)]
