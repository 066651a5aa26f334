"""What the names in a torch file mean: the few constructions that describe data, each a function here; no other runs.

Everything that is not in the table becomes an inert record. Names in `ALARMS`, when a file wants them called, end the
reading at once: nothing would happen here, but such a file was made to harm whoever opens it elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from hear_models.checkpoints.pickle_data import Instance, Name, shown
from hear_models.checkpoints.pickle_reader import Machine
from hear_models.checkpoints.torch_tensor import STORED, LazyTensor, Storage, lazy_tensor

Args = tuple[Any, ...]

# An alarm, not the wall: the reader has no way to call anything at all. Names that honest objects have stay out.
# fmt: off
ALARMS = frozenset(
    {
        # the operating system, processes, the network, files
        "os", "posix", "nt", "posixpath", "ntpath", "subprocess", "_posixsubprocess", "sys", "socket", "shutil", "pty",
        "commands", "popen2", "webbrowser", "asyncio", "tempfile", "fileinput", "urllib.request", "ftplib", "smtplib",
        "telnetlib", "requests", "io.open", "io.open_code", "io.FileIO", "_io.open", "_io.open_code", "_io.FileIO",
        # whatever runs or imports code
        "runpy", "codeop", "code.interact", "code.InteractiveInterpreter", "code.InteractiveConsole", "ctypes",
        "importlib", "imp", "pkgutil", "zipimport", "pdb", "timeit", "trace.Trace", "cProfile", "profile.run",
        "profile.runctx", "profile.Profile", "doctest", "distutils", "setuptools", "pip", "ensurepip", "venv",
        "idlelib", "linecache", "operator.methodcaller", "types.CodeType", "types.FunctionType",
        # readers that run code themselves
        "marshal", "pickle", "_pickle", "dill", "cloudpickle", "shelve", "numpy.load", "numpy.fromfile",
        "numpy.memmap", "numpy.testing", "torch.load", "torch.hub", "torch.jit.load", "torch.ops", "torch.package",
        "torch.serialization.load", "torch.storage._load_from_bytes", "torch.utils.cpp_extension", "torch._inductor",
        # built-in functions
        "builtins.eval", "builtins.exec", "builtins.compile", "builtins.execfile", "builtins.__import__",
        "builtins.open", "builtins.file", "builtins.input", "builtins.breakpoint", "builtins.apply",
        "builtins.setattr", "builtins.delattr", "builtins.globals", "builtins.vars",
    }
)
# fmt: on
STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
COPIED_BYTES_PER_STEP = 64  # what copying a text or bytes costs in the machine's count
NUMPY_CODES = re.compile(r"[<>=|]?([biufc][1248]|c16|[?])")  # flat numbers; no objects, no records, no texts


class ArrayShell:
    """A NumPy array between its creation and the state that fills it."""


class TorchNames:
    """The interpretation of a torch file's pickle; `open_storage` finds the bytes of (key, dtype or None, numel)."""

    def __init__(self, open_storage: Callable[[Machine, Args], Storage]) -> None:
        self.open_storage = open_storage

    def make(self, name: Name, args: Args, kwargs: dict[Any, Any], machine: Machine) -> Any:
        full = f"{name.module}.{name.name}"
        if _alarm(name):
            raise machine.wrong(
                f"the file wants {name} to be called with {_arguments(args)}; this is refused, nothing was run. "
                "No checkpoint needs that: do not open the file with any other program"
            )
        function = KNOWN.get(full)
        if function is None or kwargs:
            return machine.record(name, args, kwargs)
        try:
            return function(machine, *args)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise machine.wrong(f"{name} has impossible arguments: {error}") from error

    def build(self, target: Any, state: Any, machine: Machine) -> Any:
        if isinstance(target, (dict, LazyTensor)):  # attributes beside the content: a state dict's `_metadata`
            return target
        if isinstance(target, (_Dtype, ArrayShell)):
            try:
                return _dtype_with(target, state) if isinstance(target, _Dtype) else _array_of(machine, state)
            except (TypeError, ValueError) as error:
                raise machine.wrong(f"a NumPy value is damaged: {error}") from error
        raise machine.wrong(f"{shown(target)} is given attributes")

    def persistent(self, identity: Any, machine: Machine) -> Any:
        if not (isinstance(identity, tuple) and identity and identity[0] == "storage"):
            raise machine.wrong("it refers to something outside that is not a tensor's storage")
        return self.open_storage(machine, identity[1:])


def storage_dtype(kind: Any) -> str | None:
    """The dtype of a storage class by name, None for one of bytes; ValueError for anything else."""
    if isinstance(kind, Name):
        if kind.name == "UntypedStorage" and kind.module in ("torch", "torch.storage"):
            return None
        if kind.module in ("torch", "torch.cuda", "torch.storage") and kind.name in STORAGES:
            return STORAGES[kind.name]
    raise ValueError(f"{shown(kind)} is no kind of storage that is known")


@lru_cache(maxsize=1024)
def _alarm(name: Name) -> bool:
    """Whether the name, or what a dotted name passes through ("torch" + "serialization.os.system"), is in `ALARMS`."""
    parts = f"{name.module}.{name.name}".split(".")
    starts = [0, *range(len(parts) - name.name.count("."), len(parts))]
    return any(".".join(parts[i:j]) in ALARMS for i in starts for j in range(i + 1, len(parts) + 1))


def _arguments(args: Args) -> str:
    return "(" + ", ".join(shown(value) for value in args[:3]) + (", ..." if len(args) > 3 else "") + ")"


# --------------------------------------------------------------------------------------------------------- tensors
def _tensor(
    machine: Machine, storage: Any, offset: Any, shape: Any, strides: Any, gradient: Any = False, *rest: Any
) -> LazyTensor:
    return lazy_tensor(storage, offset, shape, strides, gradient is True)


def _tensor_with_dtype(
    machine: Machine,
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    gradient: Any,
    hooks: Any,
    dtype: Any,
    *_: Any,
) -> LazyTensor:
    if not (isinstance(dtype, Name) and dtype.module == "torch" and dtype.name in STORED):
        raise ValueError(f"{shown(dtype)} is no dtype that is known")
    return lazy_tensor(storage, offset, shape, strides, gradient is True, dtype.name)


def _parameter(machine: Machine, data: Any, *_: Any) -> Any:
    if not isinstance(data, LazyTensor):
        return machine.record(Name("torch._utils", "_rebuild_parameter"), (data,))
    return LazyTensor(data.dtype, data.shape, data.strides, data.offset, data.storage, True)


def _tensor_of_type(machine: Machine, function: Any, kind: Any, args: Any, state: Any) -> Any:
    if not isinstance(args, tuple):
        raise ValueError("not a tensor's description")
    return _made(machine, function, args)


def _made(machine: Machine, kind: Any, args: Args = (), kwargs: dict[Any, Any] | None = None) -> Any:
    """What a helper of Python's would make of the class that it is handed; helpers are not handed helpers."""
    if not isinstance(kind, Name):
        raise ValueError("an object has no class")
    if kind.module in ("copyreg", "torch._tensor"):
        raise ValueError(f"{kind} is no class")
    return machine.interpretation.make(kind, args, kwargs or {}, machine)


# ------------------------------------------------------------------------------------------------ Python's own types
def _sequence(machine: Machine, values: Any = ()) -> list[Any]:
    """The members of a container that is copied; text, numbers and everything else are no containers here."""
    if not isinstance(values, (list, tuple, set, frozenset, dict)):
        raise ValueError(f"{shown(values)} is not a list of values")
    machine.spend(len(values))
    return list(values)


def _dictionary(machine: Machine, values: Any = ()) -> dict[Any, Any]:
    if isinstance(values, dict):
        machine.spend(len(values))
        return dict(values)
    pairs = _sequence(machine, values)
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise ValueError("not pairs of key and value")
    return {machine.key(key): value for key, value in pairs}


def _default_dictionary(machine: Machine, factory: Any = None, values: Any = ()) -> dict[Any, Any]:
    return _dictionary(machine, values)


def _bytes(machine: Machine, text: Any = "", encoding: Any = "latin1") -> bytes:
    """bytes, bytearray and _codecs.encode as protocols below 3 write them; never a size, which would allocate it."""
    if isinstance(text, (str, bytes)) and encoding in ("latin1", "latin-1"):
        machine.spend(len(text) // COPIED_BYTES_PER_STEP)
        return text.encode("latin1") if isinstance(text, str) else text
    raise ValueError(f"bytes are made from {shown(text)}")


def _complex(machine: Machine, real: Any = 0.0, imaginary: Any = 0.0) -> complex:
    if not all(isinstance(part, (int, float)) for part in (real, imaginary)):
        raise ValueError("not two numbers")
    return complex(real, imaginary)


def _device(machine: Machine, kind: Any, index: Any = None) -> str:
    if not (isinstance(kind, str) and isinstance(index, (int, type(None)))):
        raise ValueError("not a device")
    return kind if index is None else f"{kind}:{index}"


def _path(machine: Machine, *parts: Any) -> str:
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("not a path")
    machine.spend(sum(map(len, parts)) // COPIED_BYTES_PER_STEP)
    return "/".join(parts).replace("//", "/", 1) if parts[:1] == ("/",) else "/".join(parts)


def _reconstructor(machine: Machine, kind: Any, base: Any = None, state: Any = None, *_: Any) -> Any:
    """copyreg._reconstructor: how protocols 0 and 1 write an object."""
    made = _made(machine, kind)
    if isinstance(made, Instance):
        if isinstance(state, dict):
            made.entries = _dictionary(machine, state)
        elif isinstance(state, (list, set, frozenset)):
            made.items = _sequence(machine, state)
        elif state is not None:
            made.args = (state,)
    return made


def _new_object(machine: Machine, kind: Any, *args: Any) -> Any:
    return _made(machine, kind, args)


def _new_object_with_keywords(machine: Machine, kind: Any, args: Any, kwargs: Any) -> Any:
    if not (isinstance(args, tuple) and isinstance(kwargs, dict)):
        raise ValueError("an object has no arguments")
    return _made(machine, kind, args, kwargs)


# ----------------------------------------------------------------------------------------------------------- NumPy
class _Dtype:
    """A NumPy dtype by its code; `order` comes with its state."""

    def __init__(self, code: str, order: str = "") -> None:
        self.code, self.order = code, order

    def numpy(self) -> np.dtype[Any]:
        code = self.code.lstrip("<>=|")
        big_endian = ">" in (self.order, self.code[:1] if self.order != "<" else "")
        return np.dtype(code).newbyteorder(">" if big_endian else "<")


def _dtype(machine: Machine, code: Any, *_: Any) -> Any:
    code = code.decode("ascii", "replace") if isinstance(code, bytes) else code
    if not (isinstance(code, str) and NUMPY_CODES.fullmatch("?" if code in ("b1", "|b1") else code)):
        return machine.record(Name("numpy", "dtype"), (code,))  # texts, objects, records: not read
    return _Dtype("?" if code in ("b1", "|b1") else code)


def _dtype_with(dtype: _Dtype, state: Any) -> _Dtype:
    if not (isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "=", "|", b"<", b">", b"=", b"|")):
        raise ValueError("the state of a dtype")
    order = state[1].decode() if isinstance(state[1], bytes) else state[1]
    return _Dtype(dtype.code, order)


def _scalar(machine: Machine, dtype: Any, data: Any = None) -> Any:
    if not isinstance(dtype, _Dtype):
        return machine.record(Name("numpy", "scalar"), (dtype,))
    kind = dtype.numpy()
    data = data.encode("latin1") if isinstance(data, str) else data
    if not (isinstance(data, bytes) and len(data) == kind.itemsize):
        raise ValueError("a scalar has not the bytes of its dtype")
    return np.frombuffer(data, kind)[0].item() if kind != "?" else data != b"\0"


def _array_shell(machine: Machine, kind: Any = None, *_: Any) -> ArrayShell:
    if kind != Name("numpy", "ndarray"):
        raise ValueError(f"{shown(kind)} is no array")
    return ArrayShell()


def _array_of(machine: Machine, state: Any) -> Any:
    if not (isinstance(state, tuple) and len(state) == 5):
        raise ValueError("the state of an array")
    _, shape, dtype, fortran, data = state
    return _array(machine, data, dtype, shape, "F" if fortran is True else "C")


def _array(machine: Machine, data: Any, dtype: Any, shape: Any, order: Any = "C") -> Any:
    if not isinstance(dtype, _Dtype):
        return machine.record(Name("numpy", "ndarray"), (shape, dtype))
    data = data.encode("latin1") if isinstance(data, str) else data
    if not (isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 1 << 40 for n in shape) and len(shape) <= 32):
        raise ValueError("the shape of an array")
    if not isinstance(data, bytes) or order not in ("C", "F"):
        raise ValueError("the bytes of an array")
    machine.spend(len(data) // COPIED_BYTES_PER_STEP)
    kind = dtype.numpy()
    flat = np.frombuffer(data, "u1") != 0 if kind == "?" else np.frombuffer(data, kind)
    return flat.reshape(shape, order=order)


KNOWN: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_with_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _tensor_of_type,
    "torch.Size": lambda machine, values=(): tuple(_sequence(machine, values)),
    "torch.device": _device,
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,
    "collections.defaultdict": _default_dictionary,
    "builtins.dict": _dictionary,
    "builtins.list": _sequence,
    "builtins.tuple": lambda machine, values=(): tuple(_sequence(machine, values)),
    "builtins.set": lambda machine, values=(): machine.members(_sequence(machine, values)),
    "builtins.frozenset": lambda machine, values=(): frozenset(machine.members(_sequence(machine, values))),
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "builtins.complex": _complex,
    "_codecs.encode": _bytes,
    "copyreg._reconstructor": _reconstructor,
    "copyreg.__newobj__": _new_object,
    "copyreg.__newobj_ex__": _new_object_with_keywords,
    "numpy.dtype": _dtype,
}
for _module in ("numpy.core", "numpy._core"):  # before and since NumPy 2
    KNOWN[f"{_module}.multiarray.scalar"] = _scalar
    KNOWN[f"{_module}.multiarray._reconstruct"] = _array_shell
    KNOWN[f"{_module}.numeric._frombuffer"] = _array
for _module in ("pathlib", "pathlib._local"):  # the second: Python 3.13
    for _kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"):
        KNOWN[f"{_module}.{_kind}"] = _path
