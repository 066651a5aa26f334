"""Pickles read as data: a stack machine that builds values and calls nothing.

Python's own unpickler imports what a file names and calls it. This one has no way to do either: a name becomes a
`Name`, an object an `Instance`, and the few constructions that torch.save needs are functions of ours, chosen by an
`Interpretation`. Every step is counted, so that a small file cannot ask for much memory or time.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any, Protocol

from hear_models.checkpoints.pickle_data import Instance, Name, shown
from hear_models.errors import CheckpointError

MAX_STEPS = 2_000_000  # opcodes, and values copied by them; an official ViT-B with optimiser has fewer than 100,000
MAX_BYTES = 64 << 20  # of one pickle; tensors lie outside of it
MAX_NAME_CHARACTERS = 500
MAX_NAME_DOTS = 24
MAX_KEY_DEPTH = 4  # of tuples as keys: hashing a deep tuple would overflow the interpreter's stack
OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "exceptions": "builtins"}  # of protocols below 3
RECORD_STEPS = 10  # a record takes as much memory as ten lists
STOP = ord(b".")
MARK = object()


class Interpretation(Protocol):
    """What names mean; whoever reads a format says so, by functions of their own."""

    def make(self, name: Name, args: tuple[Any, ...], kwargs: dict[Any, Any], machine: Machine) -> Any:
        """The value of `name(*args, **kwargs)`; an `Instance` for what is not known; CheckpointError to refuse."""

    def build(self, target: Any, state: Any, machine: Machine) -> Any:
        """`target` after its attributes were restored from `state`; called for what is no Instance."""

    def persistent(self, identity: Any, machine: Machine) -> Any:
        """What lies outside of the pickle under this identity."""


class Machine:
    """One pickle after another in `data`, from `position` on."""

    def __init__(self, data: bytes, interpretation: Interpretation, what: str = "the pickle") -> None:
        self.data = data
        self.interpretation = interpretation
        self.what = what  # for messages, for instance "data.pkl"
        self.position = 0
        self.opcode_at = 0
        self.steps = 0
        self.records: Counter[Name] = Counter()  # how many Instances there are of each name
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The value of the pickle at `position`, which is its end afterwards."""
        from hear_models.checkpoints.pickle_opcodes import HANDLERS

        self.stack, self.memo = [], {}
        data, handlers = self.data, HANDLERS
        try:
            while True:
                self.opcode_at = self.position
                code = data[self.position]
                self.position += 1
                self.spend(1)
                if code == STOP:
                    value = self.pop()
                    if self.stack:
                        raise self.wrong("values are left over at its end")
                    return value
                handler = handlers.get(code)
                if handler is None:
                    raise self.wrong(f"{bytes([code])!r} is no opcode")
                handler(self)
        except IndexError as error:  # the only subscripts here: the next byte, the top of the stack
            raise self.wrong("it ends too early, or takes a value that is not there") from error
        except (ValueError, OverflowError, TypeError, struct.error, MemoryError, RecursionError) as error:
            raise self.wrong(f"a value cannot be read ({type(error).__name__})") from error

    # -------------------------------------------------------------------------------------- for the interpretation
    def wrong(self, reason: str) -> CheckpointError:
        """The error for what is wrong at the current opcode."""
        return CheckpointError(f"{reason} (byte {self.opcode_at} of {self.what}).")

    def spend(self, steps: int) -> None:
        """Count work that is more than one opcode's: values that are copied."""
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise self.wrong(f"it unfolds to more than {MAX_STEPS:,} values")

    def key(self, value: Any, depth: int = 0) -> Any:
        """`value` if it can be the key of a dictionary or the member of a set without harm."""
        if isinstance(value, tuple) and depth < MAX_KEY_DEPTH:
            self.spend(len(value))
            for part in value:
                self.key(part, depth + 1)
            return value
        if isinstance(value, int) and abs(value) < 1 << 63:  # of larger ones many would have one hash
            return value
        if value is None or isinstance(value, (str, bytes, float, Name, Instance)):
            return value
        raise self.wrong(f"{shown(value)} is used as a key")

    def record(self, name: Name, args: tuple[Any, ...] = (), kwargs: dict[Any, Any] | None = None) -> Instance:
        """An inert record of an object that is not made."""
        self.spend(RECORD_STEPS)
        self.records[name] += 1
        return Instance(name, args, kwargs)

    # ------------------------------------------------------------------------------------------------------ bytes
    def take(self, n_bytes: int) -> bytes:
        end = self.position + n_bytes
        if end > len(self.data):
            raise self.wrong(f"{n_bytes} bytes are announced, {len(self.data) - self.position} are left")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def number(self, n_bytes: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(n_bytes), "little", signed=signed)

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise self.wrong("a line has no end")
        piece = self.data[self.position : end]
        self.position = end + 1
        return piece

    # ------------------------------------------------------------------------------------------------------ stack
    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            raise self.wrong("a mark stands where a value should")
        return value

    def top(self) -> Any:
        value = self.stack[-1]
        if value is MARK:
            raise self.wrong("a mark stands where a value should")
        return value

    def pop_to_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is MARK:
                values = self.stack[index + 1 :]
                del self.stack[index:]
                return values
        raise self.wrong("no mark was set")

    # ------------------------------------------------------------------------------------------------------ opcodes
    def name(self, module: Any, name: Any) -> Name:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise self.wrong("a class is named by something that is not text")
        if max(len(module), len(name)) > MAX_NAME_CHARACTERS or f"{module}.{name}".count(".") > MAX_NAME_DOTS:
            raise self.wrong("a class has an impossibly long name")
        return Name(OLD_MODULES.get(module, module), name)

    def make(self, name: Any, args: Any, kwargs: Any = None) -> None:
        if not isinstance(name, Name):
            raise self.wrong(f"{shown(name)} would be called; only classes and functions by name are")
        if not isinstance(args, tuple) or not isinstance(kwargs, (dict, type(None))):
            raise self.wrong(f"{name} has no proper arguments")
        self.push(self.interpretation.make(name, args, kwargs or {}, self))

    def append(self, values: list[Any]) -> None:
        target = self.top()
        if isinstance(target, Instance):
            target = target.items
        if not isinstance(target, list):
            raise self.wrong(f"values are appended to {shown(target)}")
        target.extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.top()
        if isinstance(target, Instance):
            target = target.entries
        if not isinstance(target, dict):
            raise self.wrong(f"entries are set in {shown(target)}")
        target.update(self.pairs(values))

    def pairs(self, values: list[Any]) -> dict[Any, Any]:
        if len(values) % 2:
            raise self.wrong("a key has no value")
        return {self.key(key): value for key, value in zip(values[::2], values[1::2], strict=True)}

    def members(self, values: list[Any]) -> set[Any]:
        return {self.key(value) for value in values}

    def build(self) -> None:
        state, target = self.pop(), self.pop()
        if isinstance(target, Instance):
            if target.state is not None:
                raise self.wrong(f"the state of an object of {target.of} is set twice")
            target.state = state
        elif isinstance(target, Name):
            raise self.wrong(f"{target} itself would be changed, not an object of it")
        else:
            target = self.interpretation.build(target, state, self)
        self.push(target)
