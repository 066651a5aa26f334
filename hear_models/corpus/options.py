"""The options of a run and which go together; importable without torch, so that a wrong one is told at once."""

from __future__ import annotations

import math

from hear_models.errors import UsageError

KINDS = ("scene", "timestamps")
DTYPES = ("float32", "float16")


def check_options(
    kind: str,
    dtype: str,
    window_s: float | None,
    hop_s: float | None,
    workers: int | None,
    batch_seconds: float | None,
) -> None:
    """Raise UsageError for an option out of range or two that do not go together."""
    if kind not in KINDS:
        raise UsageError(f"kind={kind!r} is unknown. Use one of {', '.join(KINDS)}.")
    if dtype not in DTYPES:
        raise UsageError(f"dtype={dtype!r} is unknown. Use one of {', '.join(DTYPES)}.")
    if window_s is not None and not 0.01 <= window_s < 86_400:
        raise UsageError(f"A window of {window_s} s is out of range. Give 0.01 seconds to a day.")
    if hop_s is not None and (window_s is None or not 0.01 <= hop_s <= window_s):
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


def check_segments(kind: str, window_s: float | None) -> None:
    """Raise UsageError for options that do not go together with a table of segments."""
    if kind != "scene" or window_s is not None:
        raise UsageError("A table of segments gives one scene embedding a row. Leave --kind and --window out.")
