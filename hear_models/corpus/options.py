"""The options of a run and which go together; importable without torch, so that a wrong one is told at once."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Literal

from hear_models.errors import UsageError
from hear_models.files import shown

KINDS = ("scene", "timestamps")
Kind = Literal["scene", "timestamps"]
Channel = Literal["mix", "left", "right", "each"] | int
Resampler = Literal["soxr", "resampy"]
DTYPES = ("float32", "float16")
AUTO = "auto"
LONG_S = 300.0  # recordings beyond it are embedded window by window, unless it is said how
LONG_WINDOW_S = {"scene": 10.0, "timestamps": 60.0}  # then; each window of timestamps costs the steps at two more ends
TABLE = ".parquet"
OTHER_FILES = (  # endings of files that people would like to have, and of which no folder should have the name
    *(".npz", ".npy", ".csv", ".tsv", ".txt", ".json", ".jsonl", ".h5", ".hdf5", ".mat", ".xls", ".xlsx", ".zip"),
    *(".pt", ".pth", ".pkl", ".pickle", ".safetensors", ".feather", ".arrow", ".arff", ".sqlite", ".db", ".html"),
    *(".wav", ".flac", ".mp3", ".ogg", ".m4a"),
)


def check_options(
    kind: str,
    dtype: str,
    window_s: float | str | None,
    hop_s: float | None,
    workers: int | None,
    batch_seconds: float | None,
) -> None:
    """Raise UsageError for an option out of range or two that do not go together."""
    if kind not in KINDS:
        raise UsageError(f"kind={kind!r} is unknown. Use one of {', '.join(KINDS)}.")
    if dtype not in DTYPES:
        raise UsageError(f"dtype={dtype!r} is unknown. Use one of {', '.join(DTYPES)}.")
    check_window(window_s)
    if hop_s is not None and (window_s is None or isinstance(window_s, str) or not 0.01 <= hop_s <= window_s):
        raise UsageError(f"A hop of {hop_s} s needs a window at least as long. Give --window SECONDS.")
    if hop_s is not None and kind == "timestamps" and hop_s != window_s:
        raise UsageError("Overlapping windows would give two embeddings for one time. Use --hop with scenes only.")
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers decode nothing. Give at least 1.")
    if batch_seconds is not None:
        check_batch_seconds(batch_seconds)


def check_batch_seconds(batch_seconds: float) -> None:
    """Raise UsageError unless it is a number of seconds."""
    if not 0 < batch_seconds < math.inf:
        raise UsageError(f"batch_seconds={batch_seconds} is out of range. Give seconds above zero.")


def check_window(window_s: float | str | None) -> None:
    """Raise UsageError unless it is "auto", None, or seconds that a window may have."""
    if isinstance(window_s, str):
        if window_s != AUTO:
            raise UsageError(f"window_s={window_s!r} is unknown. Give seconds, {AUTO!r}, or None.")
    elif window_s is not None and not 0.01 <= window_s < 86_400:
        raise UsageError(f"A window of {window_s} s is out of range. Give 0.01 seconds to a day.")


def windows(window_s: float | str | None, kind: str = "scene") -> tuple[float | None, float | None]:
    """What a caller said of windows → (their seconds, those beyond which recordings are cut into them).

    A number is for recordings of any length; "auto" for long ones; None for none.
    """
    check_window(window_s)
    if isinstance(window_s, str):
        return LONG_WINDOW_S[kind], LONG_S
    return window_s, None


def check_output(output: str | os.PathLike[str]) -> None:
    """Raise UsageError for a name that is neither a folder's nor a table's."""
    if not os.fspath(output):
        raise UsageError("The output's name is empty. Give a folder, or a name that ends in .parquet.")
    path = Path(output)
    if path.suffix.lower() in OTHER_FILES and not path.is_dir():
        raise UsageError(
            f"{shown(output)} would be a folder with one .npz for each recording, and its name ends in {path.suffix}. "
            f"Give a folder's name, such as {shown(path.with_suffix(''))}, or one that ends in .parquet."
        )


def check_segments(kind: str, window_s: float | str | None) -> None:
    """Raise UsageError for options that do not go together with a table of segments."""
    if kind != "scene" or window_s not in (None, AUTO):
        raise UsageError("A table of segments gives one scene embedding a row. Leave --kind and --window out.")
