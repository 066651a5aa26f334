"""What `hear-models embed` wrote, read back: a matrix, and what each of its rows is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.corpus.npz import read_whole
from hear_models.corpus.parquet import verified_groups
from hear_models.corpus.settings import window_ends_ms
from hear_models.errors import FileError, InputError
from hear_models.files import shown
from hear_models.foreign import read_arrays, reading, walk

TIMES = {  # in a file → in a row
    "timestamps_ms": "timestamp_ms",
    **{f"{what}_starts_ms": "start_ms" for what in ("window", "segment")},
    **{f"{what}_ends_ms": "end_ms" for what in ("window", "segment")},
    "segment_rows": "row",
    "clock": "clock",
}
COLUMNS = ("path", "start_ms", "end_ms", "timestamp_ms", "row", "clock")
AGAIN = "Embed the recordings again."


def load_embeddings(path: str | os.PathLike[str]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Embeddings as `hear-models embed` wrote them, every byte of them verified.

    Args:
        path: the folder of `.npz` files, one such file, or the `.parquet` table.

    Returns:
        X float32 [rows, dim], and as many rows: {"path": the recording's name below what was embedded} and "start_ms",
        "end_ms" (of the recording, a window or a segment) or "timestamp_ms" (of a step); "row" of a segment,
        "clock" if it was asked for.

    Raises:
        InputError: there are none. FileError: a file is damaged, not ours, or of another width than the others.
    """
    source = Path(path)
    if source.suffix.lower() == ".parquet" and not source.is_dir():
        found = _of_table(source)
    elif source.is_dir():
        names = [where / name for where, _, files in walk(source) for name in files]
        found = [_of_file(file, source) for file in names if file.suffix == ".npz" and not file.name.startswith(".")]
    elif source.exists():
        found = [_of_file(source, source.parent)]
    else:
        raise InputError(f"{shown(source)} is not there. Give what `hear-models embed` wrote.")
    if not found:
        raise InputError(f"{shown(source)} holds no embeddings. Give what `hear-models embed` wrote.")
    if len(widths := {block.shape[1] for block, _ in found}) > 1:
        raise FileError(f"{shown(source)} holds embeddings of {sorted(widths)} dimensions. Keep models apart.")
    return np.concatenate([block for block, _ in found]), [row for _, rows in found for row in rows]


def name_of_output(file: Path, folder: Path) -> str:
    """`sub/a.wav.npz` in the output folder is `sub/a.wav` among the recordings."""
    return file.relative_to(folder).as_posix().removesuffix(".npz")


def embeddings_of(file: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """One file of embeddings, verified: [rows, dim] float32, and its times in ms, by the name of their column.

    A recording that was embedded whole has an "end_ms" only.
    """
    metadata = read_whole(file)
    with reading(file, FileError, AGAIN, what="a file of embeddings"):
        arrays = read_arrays(file)
        times = {name: arrays[stored] for stored, name in TIMES.items() if stored in arrays}
        if "timestamp_ms" not in times and "end_ms" not in times:  # whole, or of a version that stored starts alone
            starts, window_s = times.get("start_ms", np.zeros(1)), metadata["settings"]["window_s"]
            times["end_ms"] = window_ends_ms(starts, window_s, float(metadata["source"]["duration_s"]))
        return np.atleast_2d(arrays["embeddings"]).astype(np.float32), times


def _of_file(file: Path, folder: Path) -> tuple[np.ndarray, list[dict[str, Any]]]:
    embeddings, times = embeddings_of(file)
    if "timestamp_ms" not in times:
        times.setdefault("start_ms", np.zeros(1))
    names = [name for name in COLUMNS if name in times]
    path, columns = name_of_output(file, folder), [times[name].tolist() for name in names]
    return embeddings, [{"path": path, **dict(zip(names, row, strict=True))} for row in zip(*columns, strict=True)]


def _of_table(table: Path) -> list[tuple[np.ndarray, list[dict[str, Any]]]]:
    blocks = []
    with reading(table, FileError, AGAIN, what="a table of embeddings"):
        for group in verified_groups(table):
            names = [name for name in COLUMNS if name in group.column_names]
            width = group.schema.field("embedding").type.list_size
            flat = group.column("embedding").combine_chunks().flatten().to_numpy(zero_copy_only=False)
            columns = {name: group.column(name).to_pylist() for name in names}
            rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
            blocks.append((flat.astype(np.float32).reshape(-1, width), rows))
    return blocks
