"""Embeddings inside scikit-learn's pipelines: `from hear_models.sklearn import Embedder`."""

from hear_models.sklearn.embedder import Embedder

__all__ = ["Embedder"]
