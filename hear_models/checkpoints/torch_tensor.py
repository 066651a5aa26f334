"""A tensor of a torch file as it is described there; its values are read when they are asked for, and not before."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hear_models.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

MAX_RANK = 64  # torch's own limit
MAX_VALUES = 1 << 60

# name in torch → how one value is stored; bfloat16 and the 8-bit floats, which NumPy lacks, as their bits
STORED = {
    "float32": "f4",
    "float64": "f8",
    "float16": "f2",
    "bfloat16": "u2",
    "uint8": "u1",
    "int8": "i1",
    "int16": "i2",
    "int32": "i4",
    "int64": "i8",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
    "bool": "u1",
    "complex64": "c8",
    "complex128": "c16",
    "float8_e4m3fn": "u1",
    "float8_e5m2": "u1",
    "float8_e4m3fnuz": "u1",
    "float8_e5m2fnuz": "u1",
    "float8_e8m0fnu": "u1",
}
ITEM_BYTES = {name: np.dtype(code).itemsize for name, code in STORED.items()}
BITS_ONLY = tuple(name for name in STORED if name.startswith("float8"))


@dataclass(frozen=True, slots=True)
class Storage:
    """A flat piece of the file: what torch.save calls a storage; several tensors may share one."""

    key: str
    dtype: str | None  # of a typed storage; None: bytes
    n_bytes: int
    big_endian: bool
    read: Callable[[int, int], bytes]  # (first byte, number of bytes) → bytes, the whole storage's checksum verified


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A view of a storage, as torch.save describes it; checked to lie inside of the storage when it is made."""

    dtype: str  # torch's name without "torch.": "float32"
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in values
    offset: int  # in values
    storage: Storage
    parameter: bool = False  # an nn.Parameter, or a tensor that required gradients

    def __repr__(self) -> str:
        return f"<{self.dtype} tensor {list(self.shape)}, not read>"

    @property
    def n_values(self) -> int:
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        return self.n_values * ITEM_BYTES[self.dtype]

    def bits(self) -> np.ndarray:
        """The values as they are stored (bfloat16 and 8-bit floats as unsigned integers), in the machine's byte order.

        Contiguous and of its own memory. Raises CheckpointError if the bytes are damaged.
        """
        kind = np.dtype(STORED[self.dtype])
        if self.n_values == 0:
            return np.empty(self.shape, kind)
        span = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        data = self.storage.read(self.offset * kind.itemsize, span * kind.itemsize)
        flat = np.frombuffer(data, kind.newbyteorder(">" if self.storage.big_endian else "<"))
        strides = tuple(stride * kind.itemsize for stride in self.strides)
        view = np.lib.stride_tricks.as_strided(flat, self.shape, strides, writeable=False)
        return np.array(view, kind, order="C", copy=True)

    def array(self) -> np.ndarray:
        """The values as a NumPy array of the same dtype; bfloat16 becomes float32, exactly."""
        bits = self.bits()
        if self.dtype == "bool":  # any byte but 0 is true: a bool view of other bytes would be undefined
            return bits != 0
        if self.dtype == "bfloat16":  # the upper half of a float32
            return (bits.astype(np.uint32) << 16).view(np.float32)
        if self.dtype in BITS_ONLY:
            raise CheckpointError(f"values of {self.dtype} have no NumPy type. Read them with `tensor()`.")
        return bits

    def tensor(self) -> Tensor:
        """The values as a torch tensor of the same dtype, contiguous, on the CPU, without gradient."""
        import torch

        bits = self.bits() if self.dtype != "bool" else self.array()
        kind = getattr(torch, self.dtype, None)
        if kind is None:
            raise CheckpointError(f"this version of torch has no {self.dtype}. Use a newer one.")
        if not bits.size:
            return torch.empty(self.shape, dtype=kind)
        return torch.from_numpy(bits.reshape(-1).view(np.uint8)).view(kind).reshape(self.shape)


def lazy_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, parameter: bool = False, dtype: str | None = None
) -> LazyTensor:
    """A view, after its description was checked against the storage; ValueError says what is impossible in it."""
    if not isinstance(storage, Storage):
        raise ValueError("it has no storage")
    kind = dtype or storage.dtype or "uint8"
    if kind not in STORED:
        raise ValueError(f"its dtype {kind} is not known")
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= MAX_RANK):
        raise ValueError("shape and strides are not two tuples of one length")
    if not all(type(number) is int and 0 <= number < MAX_VALUES for number in (offset, *shape, *strides)):
        raise ValueError("offset, shape or strides are not whole numbers of a possible size")
    if math.prod(shape) >= MAX_VALUES:
        raise ValueError("it has impossibly many values")
    if 0 not in shape:
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if (last + 1) * ITEM_BYTES[kind] > storage.n_bytes:
            raise ValueError(
                f"it reaches to value {last} of a storage of {storage.n_bytes // ITEM_BYTES[kind]} ({storage.key})"
            )
    return LazyTensor(kind, shape, strides, offset, storage, parameter)
