"""The keys of a network's tensors as trainers save them: what wrappers put in front, and parts chosen by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from hear_models.errors import CheckpointError

T = TypeVar("T")

LEADING = "module."  # of DataParallel, DistributedDataParallel, AveragedModel, timm's ModelEma: before every key
# of torch.compile, FSDP and activation checkpointing: before the whole network or any part of it
ANYWHERE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
COUNTERS = ("n_averaged", "num_updates", "decay")  # beside averaged weights, and no weights themselves
FLATTENED = "_flat_param"


def unwrapped(state: Mapping[str, T]) -> dict[str, T]:
    """The tensors by the network's own keys.

    Raises CheckpointError where two keys become one, or FSDP flattened the weights.
    """
    found: dict[str, T] = {}
    for key, tensor in state.items():
        short = ".".join(part for part in key.split(".") if part not in ANYWHERE)
        if short.rpartition(".")[2].startswith(FLATTENED):
            raise CheckpointError(
                f"{key}: FSDP saved flattened weights, which do not say where one ends. Save a full state dict."
            )
        if short in found:
            raise CheckpointError(f"two tensors are called {short} below what wrappers put in front. Save one network.")
        found[short] = tensor
    while True:
        weights = [key for key in found if key not in COUNTERS]
        if not weights or not all(key.startswith(LEADING) for key in weights):
            return found
        found = {key.removeprefix(LEADING): found[key] for key in weights}


def below(state: Mapping[str, T], key: str) -> dict[str, T]:
    """The tensors whose keys begin with `key` and a dot or slash, by the rest; none if there is no such part."""
    return {
        name[len(key) + 1 :]: tensor
        for name, tensor in state.items()
        if name.startswith((f"{key}.", f"{key}/")) and len(name) > len(key) + 1
    }


def parts_of(state: Mapping[str, object]) -> list[str]:
    """What the keys begin with, for an error."""
    return sorted({key.replace("/", ".").partition(".")[0] for key in state})
