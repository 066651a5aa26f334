"""Sizes in a stranger's header, held against the tensors that the file has, before anything of that size is built.

A header of a kilobyte can ask for a filter bank of gigabytes, or for a thousand million blocks.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from hear_models.errors import CheckpointError

LARGEST = 1 << 20  # any whole number; the largest of ours are windows of 480,000 samples
LARGEST_OF = {"mels": 4096, "filters": 4096, "bands": 4096, "freq": 1 << 16, "width": 1 << 14, "dim": 1 << 14}
LONGEST = 10_000  # of a list: AudioSet has 527 classes
FEWEST = 64  # blocks that any network may have
SPARE = 4  # parameters that are built, for each that stays
NO_SIZES = ("seed",)  # what a number is for that is none


def check_sizes(config: Mapping[str, Any], n_tensors: int, name: str) -> None:
    """Raise CheckpointError for a number of a configuration that no network with `n_tensors` tensors can have."""
    for field, value in config.items():
        if field.endswith(NO_SIZES):
            continue
        values = value if isinstance(value, (list, tuple)) else [value]
        if len(values) > LONGEST:
            raise CheckpointError(f"the configuration of {name} is wrong: {field} has {len(values):,} entries.")
        most = next((limit for word, limit in LARGEST_OF.items() if word in field), LARGEST)
        if "depth" in field:
            most = max(FEWEST, n_tensors)
        for number in values:
            if isinstance(number, (int, float)) and abs(number) > most and not isinstance(number, bool):
                raise CheckpointError(
                    f"the configuration of {name} is wrong: {field} is {number}, which no file with {n_tensors} "
                    "tensors has. Do not use it."
                )


@contextlib.contextmanager
def at_most_parameters(n_tensors: int, name: str) -> Iterator[None]:
    """While a network is built: stop it when it has far more parameters than the file has tensors."""
    most, built, thread = SPARE * n_tensors + FEWEST, 0, threading.get_ident()

    def count(*_: Any) -> None:
        nonlocal built
        if threading.get_ident() == thread:
            built += 1
            if built > most:
                raise CheckpointError(
                    f"the configuration of {name} is wrong: it asks for more than {most} tensors, the file has "
                    f"{n_tensors}. Do not use it."
                )

    hook = nn.modules.module.register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
