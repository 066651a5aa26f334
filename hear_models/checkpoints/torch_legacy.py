"""The container of torch.save before 1.6 (and with `_use_new_zipfile_serialization=False`): five pickles, then values.

The pickles are a magic number, a version, facts on the machine, what was saved, and the keys of the storages; after
them lie the storages in the order of those keys, each a count of values (int64) and the values. There are no checksums.
"""

from __future__ import annotations

import struct
from typing import Any

from hear_models.checkpoints.pickle_reader import MAX_BYTES, Machine
from hear_models.checkpoints.torch_names import TorchNames, storage_dtype
from hear_models.checkpoints.torch_tensor import ITEM_BYTES, Storage
from hear_models.checkpoints.torch_zip import check_identity
from hear_models.checkpoints.windows import Window
from hear_models.errors import CheckpointError

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
HEAD_BYTES = 64
MAGIC_BYTES = MAGIC.to_bytes(10, "little")


def is_legacy(window: Window) -> bool:
    """Whether it begins with the pickle of the magic number, of whatever protocol."""
    return is_legacy_head(window.read(0, min(HEAD_BYTES, window.length)))


def is_legacy_head(head: bytes) -> bool:
    """The same of a file's first `HEAD_BYTES` bytes."""
    return MAGIC_BYTES in head or str(MAGIC).encode() in head


def read_torch_legacy(window: Window) -> tuple[Any, Machine]:
    """(what was saved, with lazy tensors; the machine that read it, for what it met)."""
    storages: dict[str, Storage] = {}
    values_at: dict[str, Window] = {}  # filled after the pickles

    def open_storage(machine: Machine, identity: tuple[Any, ...]) -> Storage:
        kind, key, n_values = check_identity(machine, identity)
        if len(identity) > 4 and identity[4] is not None:
            raise machine.wrong("a storage is a view of another, which only versions before 0.4 wrote")
        try:
            dtype = storage_dtype(kind)
        except ValueError as error:
            raise machine.wrong(str(error)) from error
        n_bytes = n_values * (ITEM_BYTES[dtype] if dtype else 1)
        if n_bytes > window.length:
            raise machine.wrong(f"a storage would have {n_values} values, more than the file has bytes")
        found = storages.get(key)
        if found is None:
            found = storages[key] = Storage(key, dtype, n_bytes, big_endian, lambda at, n: values_at[key].read(at, n))
        elif (found.dtype, found.n_bytes) != (dtype, n_bytes):
            raise machine.wrong("a storage is described in two ways")
        return found

    machine = Machine(window.read(0, min(MAX_BYTES, window.length)), TorchNames(open_storage), "the file")
    magic, version, facts = machine.load(), machine.load(), machine.load()
    if magic != MAGIC or version != VERSION or not isinstance(facts, dict):
        raise CheckpointError("it begins like a file of torch.save before 1.6, but goes on otherwise. Fetch it again.")
    big_endian = facts.get("little_endian") is False
    content, keys = machine.load(), machine.load()
    if not isinstance(keys, list) or set(storages) - {key for key in keys if isinstance(key, str)}:
        raise machine.wrong("the values of a storage are missing")
    at = machine.position
    for key in keys:
        if key not in storages or key in values_at:
            raise machine.wrong("the list of storages names one that nothing uses, or one twice")
        storage = storages[key]
        (n_values,) = struct.unpack("<q", window.read(at, 8))
        if n_values * (ITEM_BYTES[storage.dtype] if storage.dtype else 1) != storage.n_bytes:
            raise CheckpointError(f"a storage has {n_values} values, other than described. Fetch it again.")
        values_at[key] = window.part(at + 8, storage.n_bytes)
        at += 8 + storage.n_bytes
    if at != window.length:
        raise CheckpointError(f"{window.length - at} bytes follow after its end. Fetch it again.")
    return content, machine
