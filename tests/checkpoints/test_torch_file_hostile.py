"""Files made to run code when they are opened: nothing runs, and the error names what was wanted and where."""

from __future__ import annotations

import argparse
import codecs
import collections
import copyreg
import operator
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_maker import Call, called, named, plain, state_dict, storage, tensor, text, torch_bytes, torch_zip, written

from hear_models.checkpoints.pickle_data import Instance
from hear_models.checkpoints.pickle_opcodes import HANDLERS
from hear_models.checkpoints.pickle_reader import Machine
from hear_models.checkpoints.torch_file import find_state_dict, read_torch_file
from hear_models.checkpoints.torch_names import TorchNames
from hear_models.errors import CheckpointError, HearModelsError

PROTOCOLS = range(6)
# what the interpreter reports when code is run, made, looked up for a pickle, or a process is started
ALARMING = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "exec",
    "compile",
    "pickle.find_class",
)
watching: list[str] | None = None


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if watching is not None and event in ALARMING:
        watching.append(event)


sys.addaudithook(_audit)  # there is no way to take one away again; it does nothing outside of `watched`


@contextmanager
def watched() -> Iterator[list[str]]:
    """The alarming events inside of the block, and modules that were imported: there must be none."""
    global watching
    from hear_models.checkpoints import torch_opening  # noqa: F401  what the reader imports when it is first used

    for codec in ("raw_unicode_escape", "unicode_escape", "latin1", "cp437", "ascii"):
        codecs.lookup(codec)  # Python imports them when they are first used
    modules = set(sys.modules)
    watching = events = []
    try:
        yield events
    finally:
        watching = None
        events.extend(f"import {name}" for name in sys.modules if name not in modules)


def opened(path: Path) -> Any:
    """Everything a user could do with a file: its content, plain data, tensors."""
    file = read_torch_file(path)
    for each in file.tensors.values():
        each.tensor()
    return file.values


def refused(path: Path, match: str) -> None:
    with watched() as events, pytest.raises(CheckpointError, match=match):
        opened(path)
    assert events == []


def as_file(folder: Path, payload: bytes, container: str) -> Path:
    """The payload (a whole pickle) where a torch file has its content."""
    if container == "zip":
        return written(folder, torch_zip(payload))
    head = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    return written(folder, head + payload + pickle.dumps([], 2))


# ----------------------------------------------------------------------------------------- live payloads, as written
class SetState:
    """Its state is handed to a function of the file's choice, the sixth element of what __reduce__ may return."""

    def __init__(self, command: list[str]) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (self.command,), 0, None, None, subprocess.call


def live(canary: Path) -> dict[str, Any]:
    """Objects that make the file `canary` when Python unpickles them."""
    command = f"touch {canary}"
    run = Call(os.system, command)
    return {
        "reduce": run,
        "in a state dict": {"model": collections.OrderedDict(a=1, b=run)},
        "in a Namespace": argparse.Namespace(a=[(run,)]),
        "as a key": {Call(operator.pos, run): 1},
        "process": Call(subprocess.check_output, ["sh", "-c", command]),
        "eval": Call(eval, f"__import__('os').system({command!r})"),
        "exec": Call(exec, f"import os; os.system({command!r})"),
        "open": Call(open, str(canary), "w"),
        "tensor's size": Call(torch._utils._rebuild_tensor_v2, run, 0, (1,), (1,), False, {}),
        "tensor's own type": Call(torch._tensor._rebuild_from_type_v2, os.system, torch.Tensor, (command,), None),
        "as an argument": Call(str, run),
        "setter of state": SetState(["touch", str(canary)]),
    }


ROUTES_OF_PYTHON = tuple(live(Path("x")))
WANTED = (
    r"the file wants (posix\.system|(subprocess|commands)\.(check_output|call)|builtins\.(eval|exec)|io\.open) "
    r"to be called with \(.*refused, nothing was run.*byte \d+ of "
)


@pytest.mark.parametrize("container", ["zip", "before 1.6"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("route", ROUTES_OF_PYTHON)
def test_what_python_would_run_is_refused_by_name(route, protocol, container, tmp_path):
    canary = tmp_path / "canary"
    payload = pickle.dumps(live(canary)[route], protocol)
    refused(as_file(tmp_path, payload, container), WANTED)
    assert not canary.exists()


@pytest.mark.parametrize("route", ROUTES_OF_PYTHON)
def test_these_payloads_are_live(route, tmp_path):
    """Else the tests above would prove nothing."""
    canary = tmp_path / "canary"
    with suppress(TypeError, AttributeError):  # some go on with what the command returned
        pickle.loads(pickle.dumps(live(canary)[route], 4))
    assert canary.exists()


# --------------------------------------------------------------------------------- every opcode that makes an object
COMMAND = b"(" + text("touch canary") + b"t"
OBJECT = b"(" + named("collections", "OrderedDict")  # unused mark and name, for OBJ
ROUTES = {
    "REDUCE": named("posix", "system") + COMMAND + b"R",
    "REDUCE by STACK_GLOBAL": named("posix", "system", stack=True) + COMMAND + b"R",
    "NEWOBJ": named("subprocess", "Popen") + COMMAND + b"\x81",
    "NEWOBJ_EX": named("subprocess", "Popen") + COMMAND + b"}" + text("shell") + b"\x88s\x92",
    "INST": b"(" + text("touch canary") + b"iposix\nsystem\n",
    "OBJ": b"(" + named("posix", "system") + text("touch canary") + b"o",
    "nested in args": called("torch.nn", "Net", b"(" + called("posix", "system", COMMAND) + b"t"),
    "nested in state": called("torch.nn", "Net") + b"}" + text("x") + called("posix", "system", COMMAND) + b"sb",
    "as the function": called("builtins", "getattr", b"(" + named("posix", "system") + text("x") + b"t")
    + COMMAND
    + b"R",
    "copyreg": called("copyreg", "__newobj__", b"(" + named("posix", "system") + text("touch canary") + b"t"),
    "copyreg with keywords": called("copyreg", "__newobj_ex__", b"(" + named("posix", "system") + COMMAND + b"}t"),
    "copyreg._reconstructor": called("copy_reg", "_reconstructor", b"(" + named("os", "system") + b"NNt"),
    "Python 2's name": called("__builtin__", "eval", COMMAND),
    "a dotted name": named("torch", "serialization.os.system", stack=True) + COMMAND + b"R",
    "a tensor's storage": called(
        "torch._utils", "_rebuild_tensor_v2", b"(" + called("posix", "system", COMMAND) + b"K\0K\1\x85K\1\x85\x89Nt"
    ),
    "a parameter": called("torch._utils", "_rebuild_parameter", b"(" + called("os", "popen", COMMAND) + b"\x89Nt"),
    "a tensor of a type": called(
        "torch._tensor", "_rebuild_from_type_v2", b"(" + named("posix", "system") + b"N" + COMMAND + b"Nt"
    ),
    "bytes that torch would load": called("torch.storage", "_load_from_bytes", b"(" + plain(b"x") + b"t"),
}


@pytest.mark.parametrize("route", ROUTES)
def test_every_opcode_that_could_call_is_refused_with_the_place(route, tmp_path):
    for container in ("zip", "before 1.6"):
        payload = b"\x80\x04" + ROUTES[route] + b"."
        refused(
            as_file(tmp_path, payload, container), r"refused; nothing|refused, nothing was run|only classes and func"
        )


def test_the_error_gives_class_arguments_and_byte_without_control_characters(tmp_path):
    args = b"(" + text("rm -rf ~\n\x1b[2J") + plain([1]) + plain(7) + b"Nt"
    payload = b"\x80\x02" + called("posix", "system", args) + b"."
    path = as_file(tmp_path, payload, "zip")
    with pytest.raises(CheckpointError) as caught:
        read_torch_file(path)
    assert str(caught.value).startswith(
        f"{path}: the file wants posix.system to be called with ('rm -rf ~\\n\\x1b[2J', a list, 7, ...); "
        "this is refused, nothing was run."
    )
    assert str(caught.value).endswith(f"(byte {payload.index(b'tR.') + 1} of data.pkl).")


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"\x82\x01", "extension code"),  # EXT1
        (b"\x83\x01\x00", "extension code"),
        (b"\x84\x01\x00\x00\x00", "extension code"),
        (b"Pposix.system\n", "'posix.system' outside of it by text"),  # PERSID
        (
            plain(("module", "posix", "x")) + b"Q",
            "not a tensor's storage",
        ),  # BINPERSID of torch before 0.4: source code
        (plain("posix.system") + b"Q", "not a tensor's storage"),
        (
            b"(" + text("storage") + named("posix", "system") + text("0") + text("cpu") + b"K\4tQ",
            "posix.system is no kind",
        ),
        (plain(("storage", 1, 2)) + b"Q", "impossible description"),
        (storage("../../etc/passwd", 4), "storage '../../etc/passwd' are missing"),
        (b"\x97", "buffers outside"),  # NEXT_BUFFER
        (b"\x98", "buffers outside"),
        (named("posix", "system") + b"}b", "posix.system itself would be changed"),  # BUILD on a class
        (b"K\1}b", "1 is given attributes"),
        (b"]}b", "a list is given attributes"),
        (b"K\1)R", "1 would be called"),
        (called("my", "Net") + b")R", "<record of my.Net> would be called"),
        (named("my", "Net") + b"]R", "my.Net has no proper arguments"),
        (named("my", "Net") + b")]\x92", "no proper arguments"),
        (b"K\1K\2\x93", "named by something that is not text"),
        (named("a" * 501, "b"), "impossibly long name"),
        (named("a" + ".a" * 30, "b"), "impossibly long name"),
        (b"}]K\1s", "a list is used as a key"),
        (b"}" + b"K\1" + b"\x85" * 6 + b"K\1s", "a tuple is used as a key"),
        (b"}" + plain(2**80) + b"K\1s", "a huge integer is used as a key"),
        (b"K\1K\1a", "appended to 1"),
        (b"K\1K\1K\1s", "entries are set in 1"),
        (b"K\1(K\1\x90", "members are added to 1"),
        (b"}(K\1u", "a key has no value"),
        (b"\x80\x06", "protocol 6"),
        (b"K\1K\1", "left over"),
        (b"h\x05", "never remembered"),
        (b"p-1\n", "ends too early|negative|not there"),
        (b"\xff", "no opcode"),
        (b"t", "no mark"),
        (b"(", "a mark stands"),
        (b"a", "not there"),
        (b"I1e5\n", "cannot be read"),
        (b"Fabc\n", "cannot be read"),
        (b"S'abc\n", "no quotes"),
        (b"Sabc\n", "no quotes"),
        (b"X\x02\x00\x00\x00\xff\xff", "cannot be read"),
        (b"T\xff\xff\xff\xff", "negative length"),
    ],
)
def test_what_torch_never_writes_is_refused(payload, said, tmp_path):
    path = written(tmp_path, torch_zip(b"\x80\x04" + payload + b".", {"0": np.ones(4, np.float32)}))
    refused(path, f"{said}.*byte \\d+ of data.pkl")


def test_registered_extension_codes_stay_unused(tmp_path):
    copyreg.add_extension("posix", "system", 0x7A)
    try:
        payload = b"\x80\x02\x82\x7a" + COMMAND + b"R."
        refused(as_file(tmp_path, payload, "zip"), "extension code")
    finally:
        copyreg.remove_extension("posix", "system", 0x7A)


class Armed:
    """A class that is really there, with every method that unpickling may call."""

    touched: ClassVar[list[str]] = []

    def __new__(cls, *args: Any, **kwargs: Any) -> Armed:
        Armed.touched.append("__new__")
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        Armed.touched.append("__setstate__")

    def append(self, value: Any) -> None:
        Armed.touched.append("append")

    def extend(self, values: Any) -> None:
        Armed.touched.append("extend")

    def add(self, value: Any) -> None:
        Armed.touched.append("add")

    def __setitem__(self, key: Any, value: Any) -> None:
        Armed.touched.append("__setitem__")


def test_objects_of_existing_classes_are_not_made_and_their_methods_not_called(tmp_path):
    kind = named(Armed.__module__, "Armed")
    made = kind + b"K\7\x85\x81"
    state = b"}" + text("__class__") + named("posix", "system") + b"s" + b"}" + text("slot") + b"K\1s\x86"
    payload = (
        made + b"K\1a(K\2K\3e" + text("k") + b"K\4s(K\5\x90" + b"}" + text("__dict__") + b"}sb" + b"0"
        b"" + kind + b")R" + state + b"b"
    )
    with watched() as events:
        file = read_torch_file(as_file(tmp_path, b"\x80\x04" + payload + b".", "zip"))
        values = file.values
    assert events == [] and Armed.touched == []
    assert isinstance(file.content, Instance)
    assert values == {"class": f"{Armed.__module__}.Armed", "state": [{"__class__": "posix.system"}, {"slot": 1}]}
    assert file.notes == (f"2 objects of {Armed.__module__}.Armed: kept as a record, not made",)
    pickle.loads(b"\x80\x04" + made + b"}(K\1K\2ub.")  # the class is armed
    assert Armed.touched == ["__new__", "__setstate__"]


def test_a_record_where_a_tensor_should_be_is_named(tmp_path):
    data = np.ones(4, np.float32)
    good, bad = tensor("0", 4, 0, (4,), (1,)), called("my.nets", "Secret", b"(K\1t")
    path = written(tmp_path, torch_zip(state_dict(w=good, x=bad), {"0": data}))
    with pytest.raises(CheckpointError, match=r"x is <record of my\.nets\.Secret>, which is not a tensor"):
        find_state_dict(read_torch_file(path).content)


@pytest.mark.parametrize(
    ("described", "said"),
    [
        (tensor("0", 4, 0, (5,), (1,)), "reaches to value 4 of a storage of 4"),
        (tensor("0", 4, 1, (4,), (1,)), "reaches to value 4"),
        (tensor("0", 4, 0, (2, 2), (3, 1)), "reaches to value 4"),
        (tensor("0", 4, 0, (1 << 40,), (1,)), "reaches to value"),
        (tensor("0", 4, 0, (2,), (-1,)), "whole numbers"),
        (tensor("0", 4, -1, (2,), (1,)), "whole numbers"),
        (tensor("0", 4, 0, (1 << 40, 1 << 40), (0, 0)), "impossibly many"),
        (tensor("0", 4, 0, (2, 2), (1,)), "two tuples of one length"),
        (tensor("0", 5, 0, (2,), (1,)), "would have 5 values, the file has 16 bytes"),
        (tensor("0", 1 << 59, 0, (2,), (1,)), "would have"),
        (tensor("1", 4, 0, (2,), (1,)), "storage '1' are missing"),
    ],
)
def test_tensors_that_reach_outside_of_their_storage_are_refused(described, said, tmp_path):
    path = written(tmp_path, torch_zip(state_dict(w=described), {"0": np.ones(4, np.float32)}))
    with pytest.raises(CheckpointError, match=f"{said}.*byte \\d+ of data.pkl"):
        read_torch_file(path)


# ------------------------------------------------------------------------------------------------- the machine itself
plain_data = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=[]))
    | st.binary()
    | st.builds(bytearray, st.binary()),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.tuples(inner, inner, inner, inner)
        | st.dictionaries(st.text() | st.integers(-1000, 1000) | st.tuples(st.text()), inner)
        | st.sets(st.integers(-5, 5) | st.text())
        | st.frozensets(st.booleans())
    ),
    max_leaves=30,
)


def nothing_stored(machine: Machine, identity: Any) -> Any:
    raise machine.wrong("no storages")


@given(plain_data, st.sampled_from(PROTOCOLS))
@settings(max_examples=300, deadline=None)
def test_plain_data_of_every_protocol_are_what_python_reads(value, protocol):
    machine = Machine(pickle.dumps(value, protocol), TorchNames(nothing_stored))
    assert machine.load() == value
    assert machine.position == len(machine.data)


@given(plain_data, st.sampled_from(PROTOCOLS), st.data())
@settings(max_examples=100, deadline=None)
def test_a_pickle_that_is_cut_off_is_an_error(value, protocol, data):
    whole = pickle.dumps([value, "end"], protocol)
    with pytest.raises(CheckpointError, match="byte"):
        Machine(whole[: data.draw(st.integers(0, len(whole) - 1))], TorchNames(nothing_stored)).load()


HONEST = torch_bytes(
    {
        "model": collections.OrderedDict(w=torch.ones(2, 3), b=torch.nn.Parameter(torch.ones(2))),
        "args": argparse.Namespace(size=torch.Size([1, 2]), np=np.float32(1), arr=np.arange(3), s={1}, t=(1, "x")),
    }
)


def _pickled(data: bytes) -> bytes:
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read("archive/data.pkl")


@given(st.lists(st.tuples(st.integers(0, len(_pickled(HONEST)) - 1), st.integers(1, 255)), min_size=1, max_size=5))
@settings(max_examples=400, deadline=None)
def test_an_altered_pickle_is_read_or_refused_and_runs_nothing(edits):
    data = bytearray(_pickled(HONEST))
    for at, change in edits:
        data[at] ^= change
    _survives(bytes(data))


@given(
    st.lists(
        st.sampled_from([bytes([code]) for code in [*HANDLERS, ord(".")]])
        | st.sampled_from([*ROUTES.values(), COMMAND, plain(3), plain("a"), plain((1,)), plain({"a": 1}), plain([0])])
        | st.sampled_from([named("collections", "OrderedDict"), named("builtins", "set"), named("torch", "Size")])
        | st.sampled_from([named("numpy", "dtype"), named("torch._utils", "_rebuild_tensor_v2"), named("my", "Net")])
        | st.sampled_from([named("numpy.core.multiarray", "_reconstruct"), named("numpy.core.multiarray", "scalar")])
        | st.binary(max_size=3),
        max_size=40,
    )
)
@settings(max_examples=400, deadline=None)
def test_any_sequence_of_opcodes_is_read_or_refused_and_runs_nothing(pieces):
    _survives(b"\x80\x04" + b"".join(pieces) + b".")


def _survives(data: bytes) -> None:
    with watched() as events:
        try:
            Machine(data, TorchNames(nothing_stored)).load()
        except HearModelsError as error:
            assert str(error).isprintable()
    assert events == []
