"""The global random states that a module must leave alone: torch, numpy, python."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

GENERATORS = ("torch", "numpy", "python")


@dataclass(frozen=True)
class RandomState:
    """A snapshot of the three global generators (torch's CUDA ones too, where CUDA is already in use)."""

    torch_state: bytes
    cuda_states: tuple[bytes, ...]
    numpy_state: tuple[Any, ...]
    python_state: tuple[Any, ...]

    def changed(self, other: RandomState | None = None) -> tuple[str, ...]:
        """Names of the generators whose state differs from `other` (None: from now)."""
        now = random_state() if other is None else other
        return tuple(
            name
            for name, same in (
                ("torch", self.torch_state == now.torch_state and self.cuda_states == now.cuda_states),
                ("numpy", self.numpy_state == now.numpy_state),
                ("python", self.python_state == now.python_state),
            )
            if not same
        )


def random_state() -> RandomState:
    """The states as they are now; taking the snapshot changes none of them."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    name, keys, *rest = np.random.get_state(legacy=True)
    return RandomState(
        torch.get_rng_state().numpy().tobytes(),
        tuple(state.numpy().tobytes() for state in cuda),
        (name, np.asarray(keys).tobytes(), *rest),
        random.getstate(),
    )


def seed_all(seed: int) -> None:
    """Put the three generators into a known state (used to tell "consumes randomness" from "sets a seed")."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


class preserved_randomness:
    """A `with` block after which the three generators are as before: the checks leave no trace themselves."""

    def __enter__(self) -> None:
        self._states = (torch.get_rng_state(), np.random.get_state(), random.getstate())

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self._states[0])
        np.random.set_state(self._states[1])
        random.setstate(self._states[2])
