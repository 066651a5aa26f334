"""Makes torch files for tests: by torch.save, and by hand from a pickle's bytes, honest or not."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

LONG_NAME = "checkpoint-7"


def torch_bytes(content: Any, **options: Any) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def torch_zip(
    data_pkl: bytes, storages: Mapping[str, np.ndarray] | None = None, extra: Mapping[str, bytes] | None = None
) -> bytes:
    """The container of torch.save around any pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{LONG_NAME}/data.pkl", data_pkl)
        archive.writestr(f"{LONG_NAME}/byteorder", "little")
        for key, values in (storages or {}).items():
            archive.writestr(f"{LONG_NAME}/data/{key}", values.tobytes())
        archive.writestr(f"{LONG_NAME}/version", "3\n")
        for name, data in (extra or {}).items():
            archive.writestr(name, data)
    return buffer.getvalue()


def written(folder: Path, data: bytes, name: str = "checkpoint-7.pth") -> Path:
    """A file with these bytes."""
    path = folder / name
    path.write_bytes(data)
    return path


class Call:
    """Pickles as a call of anything with any arguments: `pickle.loads` would make it."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args


# ------------------------------------------------------------------- opcodes by hand, for what Python does not write
def text(value: str) -> bytes:
    """BINUNICODE."""
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def named(module: str, name: str, stack: bool = False) -> bytes:
    """GLOBAL, or STACK_GLOBAL."""
    return text(module) + text(name) + b"\x93" if stack else f"c{module}\n{name}\n".encode()


def plain(value: Any) -> bytes:
    """The opcodes of plain data, without PROTO, FRAME and STOP."""
    return pickle.dumps(value, 2)[2:-1]


def called(module: str, name: str, args: bytes = b")", stack: bool = False) -> bytes:
    """REDUCE; `args` are the opcodes of a tuple."""
    return named(module, name, stack) + args + b"R"


def storage(key: str, n_values: int, kind: str = "FloatStorage", device: str = "cpu") -> bytes:
    """A persistent id of a storage."""
    head = text("storage") + named("torch", kind) + text(key) + text(device)
    return b"(" + head + plain(n_values) + b"tQ"


def tensor(key: str, n_values: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """A call of `torch._utils._rebuild_tensor_v2`."""
    hooks = called("collections", "OrderedDict")
    args = storage(key, n_values) + plain(offset) + plain(shape) + plain(strides) + b"\x89" + hooks
    return called("torch._utils", "_rebuild_tensor_v2", b"(" + args + b"t")


def state_dict(**entries: bytes) -> bytes:
    """A whole pickle of a dict with these entries."""
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u."
