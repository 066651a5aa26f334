"""Writes the Flax container by its description, for tests; shares no code with the reader."""

from __future__ import annotations

import msgpack
import numpy as np


def array(values, dtype=None, shape=None) -> msgpack.ExtType:
    """An array entry; `dtype` and `shape` override what the file claims about it."""
    values = np.asarray(values)
    claimed = [list(values.shape) if shape is None else shape, dtype or values.dtype.name, values.tobytes()]
    return msgpack.ExtType(1, msgpack.packb(claimed))


def pack(tree) -> bytes:
    """Nested dicts whose leaves are arrays or plain values → the bytes of a checkpoint file."""
    if isinstance(tree, dict):
        return msgpack.packb({key: _plain(value) for key, value in tree.items()})
    return msgpack.packb(_plain(tree))


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return array(value) if isinstance(value, np.ndarray) else value


def unflatten(leaves: dict) -> dict:
    """{"params/a/b": leaf} → {"params": {"a": {"b": leaf}}}."""
    tree: dict = {}
    for path, leaf in leaves.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = leaf
    return tree
