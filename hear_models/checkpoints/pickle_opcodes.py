"""The opcodes of pickle protocols 0 to 5, each as what it does to the `Machine`; names as in Python's `pickletools`."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from hear_models.checkpoints.pickle_data import Instance, printable, shown
from hear_models.checkpoints.pickle_reader import MARK, Machine

MAX_INTEGER_BYTES = 1024  # torch's magic number has 10, a random generator's state 16
SET_STEPS = 4  # an empty set takes as much memory as four lists


def _text(machine: Machine, size: int) -> None:
    machine.push(str(machine.take(machine.number(size)), "utf-8", "surrogatepass"))


def _bytes(machine: Machine, size: int) -> None:
    machine.push(machine.take(machine.number(size)))


def _old_string(machine: Machine, size: int) -> None:
    """A str of Python 2, whose encoding nobody knows: text if it is ASCII, else bytes."""
    n_bytes = machine.number(size, signed=True)
    if n_bytes < 0:
        raise machine.wrong("a text has a negative length")
    machine.push(_ascii_or_bytes(machine.take(n_bytes)))


def _quoted_string(machine: Machine) -> None:
    line = machine.line().rstrip(b"\r")
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise machine.wrong("a text has no quotes")
    machine.push(_ascii_or_bytes(line[1:-1].decode("unicode_escape").encode("latin1")))


def _ascii_or_bytes(data: bytes) -> str | bytes:
    return data.decode("ascii") if data.isascii() else data


def _integer(machine: Machine, n_bytes: int) -> None:
    if not 0 <= n_bytes <= MAX_INTEGER_BYTES:
        raise machine.wrong(f"an integer of {n_bytes} bytes")
    machine.push(machine.number(n_bytes, signed=True))


def _integer_line(machine: Machine) -> None:
    line = machine.line().rstrip(b"\rL")
    if len(line) > 2 * MAX_INTEGER_BYTES:
        raise machine.wrong(f"an integer of {len(line)} digits")
    machine.push(line == b"01" if line in (b"00", b"01") else int(line))


def _float_line(machine: Machine) -> None:
    line = machine.line()
    if len(line) > MAX_INTEGER_BYTES:
        raise machine.wrong(f"a number of {len(line)} digits")
    machine.push(float(line))


def _long4(machine: Machine) -> None:
    _integer(machine, machine.number(4, signed=True))


def _protocol(machine: Machine) -> None:
    protocol = machine.number(1)
    if protocol > 5:
        raise machine.wrong(f"it is of protocol {protocol}; known are 0 to 5")


def _frame(machine: Machine) -> None:
    n_bytes = machine.number(8)
    if n_bytes > len(machine.data) - machine.position:
        raise machine.wrong(f"a frame of {n_bytes} bytes is announced, fewer are left")


def _global(machine: Machine) -> None:
    machine.push(machine.name(machine.line().decode("utf-8"), machine.line().decode("utf-8")))


def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push(machine.name(module, name))


def _reduce(machine: Machine) -> None:
    args, name = machine.pop(), machine.pop()
    machine.make(name, args)


def _new_object_with_keywords(machine: Machine) -> None:
    kwargs, args, name = machine.pop(), machine.pop(), machine.pop()
    machine.make(name, args, kwargs)


def _inst(machine: Machine) -> None:
    name = machine.name(machine.line().decode("utf-8"), machine.line().decode("utf-8"))
    machine.make(name, tuple(machine.pop_to_mark()))


def _obj(machine: Machine) -> None:
    name, *args = machine.pop_to_mark() or [None]
    machine.make(name, tuple(args))


def _extension(machine: Machine) -> None:
    raise machine.wrong("it uses an extension code of a program that is not known; torch.save writes none")


def _out_of_band(machine: Machine) -> None:
    raise machine.wrong("it refers to buffers outside of the file")


def _persistent_line(machine: Machine) -> None:
    identity = printable(machine.line().decode("ascii", "replace"), 60)
    raise machine.wrong(f"it refers to '{identity}' outside of it by text (protocol 0), which torch cannot read either")


def _persistent(machine: Machine) -> None:
    machine.push(machine.interpretation.persistent(machine.pop(), machine))


def _append(machine: Machine) -> None:
    value = machine.pop()
    machine.append([value])


def _set_item(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


def _append_all(machine: Machine) -> None:
    machine.append(machine.pop_to_mark())


def _set_items(machine: Machine) -> None:
    machine.set_items(machine.pop_to_mark())


def _add_items(machine: Machine) -> None:
    values = machine.pop_to_mark()
    target = machine.top()
    if isinstance(target, Instance):
        target.items.extend(values)
    elif isinstance(target, set):
        target.update(machine.members(values))
    else:
        raise machine.wrong(f"members are added to {shown(target)}")


def _empty_set(machine: Machine) -> None:
    machine.spend(SET_STEPS - 1)
    machine.push(set())


def _frozen_set(machine: Machine) -> None:
    machine.spend(SET_STEPS - 1)
    machine.push(frozenset(machine.members(machine.pop_to_mark())))


def _pop(machine: Machine) -> None:
    machine.stack.pop()  # a mark too, as Python's unpickler does


def _tuple_of(machine: Machine, n: int) -> None:
    values = [machine.pop() for _ in range(n)]
    machine.push(tuple(reversed(values)))


def _put(machine: Machine, index: int) -> None:
    if index < 0:
        raise machine.wrong("a value is remembered under a negative number")
    machine.memo[index] = machine.top()


def _get(machine: Machine, index: int) -> None:
    if index not in machine.memo:
        raise machine.wrong(f"value number {index} was never remembered")
    machine.push(machine.memo[index])


def _line_number(machine: Machine) -> int:
    line = machine.line()
    if len(line) > 20:
        raise machine.wrong("a value is remembered under an impossible number")
    return int(line)


HANDLERS: dict[int, Callable[[Machine], Any]] = {
    ord(code): handler
    for code, handler in {
        b"\x80": _protocol,  # PROTO
        b"\x95": _frame,  # FRAME
        b"(": lambda m: m.push(MARK),
        b"0": _pop,
        b"1": lambda m: m.pop_to_mark(),  # POP_MARK
        b"2": lambda m: m.push(m.top()),  # DUP
        b"N": lambda m: m.push(None),
        b"\x88": lambda m: m.push(True),  # NEWTRUE
        b"\x89": lambda m: m.push(False),  # NEWFALSE
        b"I": _integer_line,
        b"L": _integer_line,
        b"J": lambda m: m.push(m.number(4, signed=True)),  # BININT
        b"K": lambda m: m.push(m.number(1)),  # BININT1
        b"M": lambda m: m.push(m.number(2)),  # BININT2
        b"\x8a": lambda m: _integer(m, m.number(1)),  # LONG1
        b"\x8b": _long4,
        b"F": _float_line,
        b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),  # BINFLOAT
        b"S": _quoted_string,
        b"T": lambda m: _old_string(m, 4),  # BINSTRING
        b"U": lambda m: _old_string(m, 1),  # SHORT_BINSTRING
        b"B": lambda m: _bytes(m, 4),  # BINBYTES
        b"C": lambda m: _bytes(m, 1),  # SHORT_BINBYTES
        b"\x8e": lambda m: _bytes(m, 8),  # BINBYTES8
        b"\x96": lambda m: _bytes(m, 8),  # BYTEARRAY8: kept as bytes, nothing here changes them
        b"V": lambda m: m.push(str(m.line(), "raw-unicode-escape")),  # UNICODE
        b"X": lambda m: _text(m, 4),  # BINUNICODE
        b"\x8c": lambda m: _text(m, 1),  # SHORT_BINUNICODE
        b"\x8d": lambda m: _text(m, 8),  # BINUNICODE8
        b")": lambda m: m.push(()),
        b"t": lambda m: m.push(tuple(m.pop_to_mark())),
        b"\x85": lambda m: _tuple_of(m, 1),
        b"\x86": lambda m: _tuple_of(m, 2),
        b"\x87": lambda m: _tuple_of(m, 3),
        b"]": lambda m: m.push([]),
        b"l": lambda m: m.push(m.pop_to_mark()),  # LIST
        b"a": _append,
        b"e": _append_all,  # APPENDS
        b"}": lambda m: m.push({}),
        b"d": lambda m: m.push(m.pairs(m.pop_to_mark())),  # DICT
        b"s": _set_item,
        b"u": _set_items,
        b"\x8f": _empty_set,
        b"\x90": _add_items,
        b"\x91": _frozen_set,
        b"p": lambda m: _put(m, _line_number(m)),
        b"q": lambda m: _put(m, m.number(1)),  # BINPUT
        b"r": lambda m: _put(m, m.number(4)),  # LONG_BINPUT
        b"\x94": lambda m: _put(m, len(m.memo)),  # MEMOIZE
        b"g": lambda m: _get(m, _line_number(m)),
        b"h": lambda m: _get(m, m.number(1)),  # BINGET
        b"j": lambda m: _get(m, m.number(4)),  # LONG_BINGET
        b"c": _global,
        b"\x93": _stack_global,
        b"R": _reduce,
        b"\x81": _reduce,  # NEWOBJ: for a record the same
        b"\x92": _new_object_with_keywords,  # NEWOBJ_EX
        b"i": _inst,
        b"o": _obj,
        b"b": lambda m: m.build(),
        b"P": _persistent_line,
        b"Q": _persistent,  # BINPERSID
        b"\x82": _extension,  # EXT1
        b"\x83": _extension,  # EXT2
        b"\x84": _extension,  # EXT4
        b"\x97": _out_of_band,  # NEXT_BUFFER
        b"\x98": _out_of_band,  # READONLY_BUFFER
    }.items()
}
