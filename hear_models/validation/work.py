"""How much a call computes, counted instead of timed: what else the machine does changes no count."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class Counted:
    """What a call returned, and its operations; 0 where they cannot be counted."""

    result: Any
    operations: int


def counted(call: Callable[[], Any]) -> Counted:
    """Call once and count: values read and written by torch's operations of this thread, and multiplications.

    What is computed elsewhere (numpy, compiled kernels, threads) is not seen. A module that cannot be watched is called
    again, unwatched.
    """
    counter = _Counter()
    try:
        with counter:
            result = call()
    except Exception:  # what fails without being watched, too, fails below
        return Counted(call(), 0)
    return Counted(result, counter.operations)


class _Counter(TorchDispatchMode):
    operations = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch would import its compiler for that: more than a second, and nothing is compiled in here."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not getattr(func, "is_view", False):
            self.operations += _values((args, kwargs, result))
            if (flops := flop_registry.get(func._overloadpacket)) is not None:
                self.operations += int(flops(*args, **(kwargs or {}), out_val=result))
        return result


def _values(found: Any) -> int:
    if isinstance(found, Tensor):
        return found.numel()
    if isinstance(found, dict):
        return sum(map(_values, found.values()))
    return sum(map(_values, found)) if isinstance(found, (tuple, list)) else 0
