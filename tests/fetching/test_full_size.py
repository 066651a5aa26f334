"""A folder of the size of the authors': 1.1 GB with the optimiser's state. Time and memory are printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
import numpy as np
import pytest

from hear_models.checkpoints.safetensors_file import read_header

GOLDEN = Path(__file__).parent.parent / "golden" / "mwmae"
LARGEST_SHARE = 2.5  # peak memory of the whole process, of the bytes of the weights
PIECE = 1 << 30


def leaf(values: np.ndarray) -> bytes:
    """An array of Flax's container."""
    inner = msgpack.packb([list(values.shape), values.dtype.name, values.tobytes()])
    return bytes(msgpack.packb(msgpack.ExtType(1, inner)))


def packed(tree: dict, values: dict[str, np.ndarray], prefix: str = "") -> Iterator[bytes]:
    """The container, piece by piece."""
    yield msgpack.Packer().pack_map_header(len(tree))
    for key, inner in tree.items():
        yield msgpack.packb(key)
        if isinstance(inner, dict):
            yield from packed(inner, values, f"{prefix}{key}/")
        else:
            yield leaf(values[f"{prefix}{key}"] if inner is None else np.zeros(inner, np.float32))


def write_official(folder: Path) -> int:
    """`checkpoint_198400` beside config.json, as the official trainer of mwmae-base would; returns bytes of weights."""
    listed = json.loads((GOLDEN / "base_keys.json").read_text())["mwmae_base_4x16"]
    draw, values = np.random.default_rng(0), dict[str, np.ndarray]()
    params: dict = {}
    moments: dict = {}
    for key, (shape, _) in listed["params"].items():
        *folders, name = key.split("/")
        node, moment = params, moments
        for part in folders:
            node, moment = node.setdefault(part, {}), moment.setdefault(part, {})
        node[name], moment[name] = None, shape
        values[f"params/{key}"] = 0.02 * draw.standard_normal(shape, dtype=np.float32)
    tree = {"opt_state": {"0": {"mu": moments, "nu": moments}}, "params": params}
    folder.mkdir()
    with open(folder / "checkpoint_198400", "wb") as file:
        for piece in packed(tree, values):
            file.write(piece)
    return sum(value.nbytes for value in values.values())


def peak_of(arguments: list[str], environment: dict[str, str]) -> tuple[int, float, str]:
    """(bytes of memory at the most, seconds, output) of a Python process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, out
    return usage.ru_maxrss * 1024, time.perf_counter() - start, out


@pytest.mark.slow
def test_a_file_of_a_gigabyte_is_fetched_in_little_memory(tmp_path):
    weights = write_official(tmp_path / "mwmae_base_200_4x16_8x128_default_bfloat16_run1")
    size = (tmp_path / "mwmae_base_200_4x16_8x128_default_bfloat16_run1" / "checkpoint_198400").stat().st_size
    assert size > 1_000_000_000
    environment = {**os.environ, "HEAR_MODELS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = ["-m", "hear_models.cli.main", "fetch", "mwmae-base", "--from", str(tmp_path)]
    peak, seconds, out = peak_of(command, environment)
    share = peak / weights
    print(
        f"{size / 1e9:.2f} GB, {weights / 1e6:.0f} MB of weights: {seconds:.0f} s, {peak / 1e6:.0f} MB, {share:.2f} x"
    )
    assert "load it" in out and share < LARGEST_SHARE
    header = read_header(tmp_path / "cache" / "fetched" / "mwmae-base" / "model.safetensors")
    assert header.source is not None and header.source["bytes"] == size
