"""Measures what search and map do with many embeddings: CPU seconds of a search in a million, of a layout of 10,000.

    python benchmarks/exploration.py                      search, and the layout by pca
    python benchmarks/exploration.py --layouts pca tsne   also umap, where umap-learn is installed

The vectors are random. Search: median of --repeats exact searches for the ten nearest of --rows vectors of 512 values
(2 GB of memory), and the same by scikit-learn's `NearestNeighbors`, once, as a yardstick with --yardstick.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from common import machine

from hear_models.exploration.collection import Collection
from hear_models.exploration.layout import lay_out
from hear_models.exploration.search import nearest

DIM = 512


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(CPU seconds of the process, seconds)."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--layouts", nargs="*", default=["pca"], choices=["pca", "tsne", "umap"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--yardstick", action="store_true")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print(machine())
    vectors = rng.standard_normal((args.rows, DIM), dtype=np.float32)
    collection = collection_of(vectors)
    query = rng.standard_normal(DIM, dtype=np.float32)
    found = [timed(lambda: nearest(collection, query, 10)) for _ in range(args.repeats)]
    print(f"search in {args.rows}: {median(c for c, _ in found):.2f} CPU s, {median(w for _, w in found):.2f} s")
    if args.yardstick:
        from sklearn.neighbors import NearestNeighbors

        index = NearestNeighbors(n_neighbors=10, metric="cosine")
        cpu, wall = timed(lambda: index.fit(vectors).kneighbors(query[None]))
        print(f"NearestNeighbors in {args.rows}: {cpu:.2f} CPU s, {wall:.2f} s")
    for layout in args.layouts:
        cpu, wall = timed(lambda layout=layout: lay_out(vectors[: args.points], layout))
        print(f"layout of {args.points} by {layout}: {cpu:.1f} CPU s, {wall:.1f} s")


def collection_of(vectors: np.ndarray) -> Collection:
    """Every vector a recording of its own."""
    n = len(vectors)
    names = tuple(f"{i}.wav" for i in range(n))
    return Collection(tuple(map(Path, names)), names, vectors, np.arange(n), np.full((n, 2), np.nan))


if __name__ == "__main__":
    main()
