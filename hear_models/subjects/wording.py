"""How a HEAR module's calls and faults are told: one line each."""

from __future__ import annotations

from typing import Any

ADVICE = "`hear-models validate` checks a module against the API."


def describe(error: BaseException) -> str:
    """An exception in one line: its type and the first line of its message, at most 300 characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}{'...' if len(text) > 300 else ''}" if text else type(error).__name__


def call_text(function: str, *args: Any) -> str:
    """The call as a person would write it, tensors by shape: get_scene_embeddings(audio[2, 16000], model)."""
    if function == "load_model":
        return f"load_model({', '.join(repr(arg) for arg in args)})"
    shape = getattr(args[0], "shape", None)
    dtype = str(getattr(args[0], "dtype", "")).removeprefix("torch.")
    return f"{function}(audio {dtype}{list(shape) if shape is not None else '?'}, model)"
