"""The container of torch.save since 1.6: a zip archive of one pickle and of the storages that it refers to."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from hear_models.checkpoints.pickle_data import printable, shown
from hear_models.checkpoints.pickle_reader import MAX_BYTES, Machine
from hear_models.checkpoints.torch_names import TorchNames, storage_dtype
from hear_models.checkpoints.torch_tensor import ITEM_BYTES, Storage
from hear_models.checkpoints.zip_archive import Member, unpacked
from hear_models.errors import CheckpointError


def root_of(members: Mapping[str, Member]) -> str | None:
    """The folder in which a torch file keeps its entries ("checkpoint-100/"), None if the archive is no torch file."""
    roots = [name.removesuffix("data.pkl") for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
    roots = [root for root in roots if root.count("/") <= 1]
    if len(roots) > 1:
        raise CheckpointError("the archive holds several torch files, unpacked. Save one of them again.")
    return roots[0] if roots else None


def read_torch_zip(members: Mapping[str, Member], root: str) -> tuple[Any, Machine]:
    """(what was saved, with lazy tensors; the machine that read it, for what it met)."""
    if f"{root}constants.pkl" in members or any(name.startswith(f"{root}code/") for name in members):
        raise CheckpointError(
            "this is a TorchScript program, which holds code. Save the network's state_dict() with torch.save instead."
        )
    packed = [member.name for member in members.values() if member.compressed and member.name.startswith(root)]
    if packed:
        raise CheckpointError(
            f"{printable(packed[0])} is compressed inside of the torch file, which torch.save never does. "
            "The file was repacked: fetch the original."
        )
    pickled = members[f"{root}data.pkl"]
    if pickled.n_bytes > MAX_BYTES:
        raise CheckpointError(f"its data.pkl has {pickled.n_bytes:,} bytes; {MAX_BYTES:,} are read at most.")
    big_endian = False
    if order := members.get(f"{root}byteorder"):
        text = b"".join(unpacked(order)) if order.n_bytes <= 16 else b"?"
        if text not in (b"little", b"big"):
            raise CheckpointError(f"its byte order is {printable(repr(text))}. Fetch it again.")
        big_endian = text == b"big"
    storages: dict[str, Storage] = {}

    def open_storage(machine: Machine, identity: tuple[Any, ...]) -> Storage:
        kind, key, n_values = check_identity(machine, identity)
        member = members.get(f"{root}data/{key}")
        if member is None:
            raise machine.wrong(f"the values of storage {shown(key)} are missing")
        dtype = _dtype(machine, kind)
        if n_values * (ITEM_BYTES[dtype] if dtype else 1) != member.n_bytes:
            raise machine.wrong(
                f"storage {shown(key)} would have {n_values} values, the file has {member.n_bytes} bytes"
            )
        found = storages.get(key)
        if found is None or found.dtype != dtype:
            found = Storage(key, dtype, member.n_bytes, big_endian, _Checked(member))
            storages[key] = found
        return found

    machine = Machine(b"".join(unpacked(pickled)), TorchNames(open_storage), "data.pkl")
    content = machine.load()
    if machine.position != len(machine.data):
        raise machine.wrong("bytes follow after its end")
    return content, machine


def check_identity(machine: Machine, identity: tuple[Any, ...]) -> tuple[Any, str, int]:
    """(kind, key, number of values) of a storage, or an error; the device that it lay on is ignored."""
    kind, key, location, n_values = identity[:4] if len(identity) >= 4 else (None,) * 4
    if not (isinstance(key, str) and isinstance(location, str) and type(n_values) is int and 0 <= n_values < 1 << 60):
        raise machine.wrong("a storage has an impossible description")
    return kind, key, n_values


def _dtype(machine: Machine, kind: Any) -> str | None:
    try:
        return storage_dtype(kind)
    except ValueError as error:
        raise machine.wrong(str(error)) from error


class _Checked:
    """Reads from a member whose checksum is verified once, before the first byte is handed out."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.verified = False

    def __call__(self, offset: int, n_bytes: int) -> bytes:
        if not self.verified:
            crc = 0
            for piece in self.member.data.pieces():
                crc = zlib.crc32(piece, crc)
            if self.member.crc32 not in (None, crc):
                raise CheckpointError(
                    f"the values of {printable(self.member.name)} are damaged: their checksum is wrong. Fetch it again."
                )
            self.verified = True
        return self.member.data.read(offset, n_bytes)
