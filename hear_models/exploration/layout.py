"""Embeddings as points of a plane: UMAP if it is installed, else t-SNE, and principal components of very many."""

from __future__ import annotations

import warnings

import numpy as np

from hear_models.errors import UsageError
from hear_models.extras import check_installed, is_installed

LAYOUTS = ("umap", "tsne", "pca")
NAMES = {"umap": "UMAP", "tsne": "t-SNE", "pca": "principal components"}
MOST_TSNE = 12_000  # points, above which t-SNE takes many minutes of a core
FEWEST = 8  # points, below which neighbourhoods mean nothing
COMPONENTS = 50
PERPLEXITY = 30.0
NEIGHBOURS = 15


def choose_layout(wanted: str, n: int | None = None) -> str:
    """What lays `n` points out (None: not known yet). `wanted` is one of LAYOUTS, or "auto".

    Raises UsageError: its package is not installed; to be called before anything is embedded.
    """
    if wanted not in (*LAYOUTS, "auto"):
        raise UsageError(f"the layout {wanted!r} is unknown. Use one of auto, {', '.join(LAYOUTS)}.")
    if wanted == "umap":
        check_installed("umap", "The layout umap needs", "map")
    if wanted == "tsne":
        check_installed("sklearn", "The layout tsne needs", "eval")
    if n is not None and n < FEWEST:
        return "pca"
    if wanted != "auto":
        return wanted
    if is_installed("umap"):
        return "umap"
    if is_installed("sklearn") and (n is None or n <= MOST_TSNE):
        return "tsne"
    return "pca"


def lay_out(vectors: np.ndarray, layout: str) -> np.ndarray:
    """Embeddings [points, dim] → places [points, 2] in [0, 1], the longer side of the plane filled.

    Cosine distances; the same vectors give the same places on the same machine.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = (vectors / np.maximum(lengths, 1e-12)).astype(np.float64)
    reduced = _principal(directions, COMPONENTS)
    if layout == "umap":
        places = _umap(reduced)
    elif layout == "tsne":
        places = _tsne(reduced)
    else:
        places = reduced[:, :2]
    return _in_unit_square(places)


def _principal(x: np.ndarray, n: int) -> np.ndarray:
    """The first principal components [points, at most n, at least 2], the sign of each fixed."""
    centred = x - x.mean(0)
    covariance = centred.T @ centred
    values, axes = np.linalg.eigh(covariance)
    axes = axes[:, np.argsort(values)[::-1][:n]]
    axes = axes * np.where(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    found = centred @ axes
    return np.pad(found, ((0, 0), (0, max(0, 2 - found.shape[1]))))


def _umap(x: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a fixed seed takes one thread
        from umap import UMAP

        neighbours = min(NEIGHBOURS, len(x) - 1)
        return np.asarray(UMAP(n_neighbors=neighbours, random_state=0).fit_transform(x))


def _tsne(x: np.ndarray) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(x) - 1) / 3)
    return np.asarray(TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(x.astype(np.float32)))


def _in_unit_square(places: np.ndarray) -> np.ndarray:
    low, high = places.min(0), places.max(0)
    side = float((high - low).max()) or 1.0
    middle: np.ndarray = 0.5 + (places - (low + high) / 2) / side
    return middle
