"""Zip archives of strangers: every claim of the directory checked, entries read where they lie or unpacked bounded.

The standard library parses the directory. What it lets pass is refused here: names that leave the archive, links,
entries that overlap or stand there twice, encrypted ones.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import PurePosixPath

from hear_models.checkpoints.pickle_data import printable
from hear_models.checkpoints.windows import CHUNK, Window
from hear_models.errors import CheckpointError

MAX_DIRECTORY_BYTES = 8 << 20  # some 50,000 entries; a ViT-B with optimiser has about 1,000
END_BYTES = 22 + 65535 + 20  # the end record, its comment, and the pointer to the record of large archives
ENCRYPTED, STORED, DEFLATED = 0x1, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


@dataclass(frozen=True)
class Member:
    """A file in the archive: where its bytes are, how they are packed."""

    name: str
    data: Window  # as they lie in the archive
    n_bytes: int  # unpacked
    crc32: int | None  # None: the archive was written without checksums
    compressed: bool


def is_zip(window: Window) -> bool:
    """Whether it begins like a zip archive."""
    return window.length >= 4 and window.read(0, 4) in (b"PK\x03\x04", b"PK\x05\x06")


def read_directory(window: Window) -> dict[str, Member]:
    """The files of an archive by name; CheckpointError for what no honest archive of weights has."""
    try:
        _check_directory_size(window)
        with zipfile.ZipFile(window.stream()) as archive:  # type: ignore[arg-type]
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, struct.error, OverflowError, EOFError, NotImplementedError) as error:
        raise CheckpointError(
            f"its zip directory is damaged or cut off ({printable(str(error))}). Fetch it again."
        ) from error
    members: dict[str, Member] = {}
    taken: list[tuple[int, int, str]] = []
    for entry in entries:
        if entry.is_dir():
            continue
        member, begin = _member(window, entry)
        if member.name in members:
            raise CheckpointError(f"the archive holds {printable(member.name)} twice. Do not use it.")
        members[member.name] = member
        taken.append((begin, member.data.start - window.start + member.data.length, member.name))
    taken.sort()
    for (_, end, first), (begin, _, second) in pairwise(taken):
        if begin < end:
            raise CheckpointError(f"in the archive {printable(first)} and {printable(second)} overlap. Do not use it.")
    if not any(member.crc32 for member in members.values()):  # torch.serialization.set_crc32_options(False)
        return {name: replace(member, crc32=None) for name, member in members.items()}
    return members


def _check_directory_size(window: Window) -> None:
    """Before the library builds an object for every entry: how large the directory says that it is."""
    tail = window.read(max(0, window.length - END_BYTES), min(END_BYTES, window.length))
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise CheckpointError("its end is missing; the download or the copy is incomplete. Fetch it again.")
    (size,) = struct.unpack("<L", tail[at + 12 : at + 16])
    if size == 0xFFFFFFFF and tail[at - 20 : at - 16] == b"PK\x06\x07":
        (place,) = struct.unpack("<Q", tail[at - 12 : at - 4])
        record = window.read(place, 56)
        (size,) = struct.unpack("<Q", record[40:48])
    if size > MAX_DIRECTORY_BYTES:
        raise CheckpointError(f"its zip directory would have {size} bytes, which no checkpoint's has. Fetch it again.")


def _member(window: Window, entry: zipfile.ZipInfo) -> tuple[Member, int]:
    """(member, where its header begins)."""
    name = entry.orig_filename
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name[:2] or "\0" in name or not path.parts:
        raise CheckpointError(f"the archive has an entry named {printable(name)!r}, outside of itself. Do not use it.")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise CheckpointError(f"the archive's entry {printable(name)} is a link. Unpack it yourself if you trust it.")
    if entry.flag_bits & ENCRYPTED:
        raise CheckpointError(f"the archive's entry {printable(name)} is encrypted. Unpack it first.")
    if entry.compress_type not in (STORED, DEFLATED):
        raise CheckpointError(
            f"the archive's entry {printable(name)} is packed by method {entry.compress_type}. Unpack it first."
        )
    header = window.read(entry.header_offset, 30)
    signature, name_bytes, extra_bytes = struct.unpack("<4s22xHH", header)
    stored_name = window.read(entry.header_offset + 30, name_bytes)
    encoding = "utf-8" if struct.unpack("<6xH22x", header)[0] & 0x800 else "cp437"
    if signature != b"PK\x03\x04" or stored_name.decode(encoding, "replace") != name:
        raise CheckpointError(f"the archive's entry {printable(name)} is not where its directory says. Fetch it again.")
    data = window.part(entry.header_offset + 30 + name_bytes + extra_bytes, entry.compress_size)
    compressed = entry.compress_type == DEFLATED
    if not compressed and entry.file_size != entry.compress_size:
        raise CheckpointError(f"the archive's entry {printable(name)} has two sizes. Fetch it again.")
    return Member(name, data, entry.file_size, entry.CRC, compressed), entry.header_offset


def unpacked(member: Member) -> Iterator[bytes]:
    """The bytes of a member, piece by piece, never more than it declares; its checksum is verified at the end."""
    crc, n_bytes = 0, 0
    for piece in _inflated(member) if member.compressed else member.data.pieces():
        n_bytes += len(piece)
        if n_bytes > member.n_bytes:
            break
        crc = zlib.crc32(piece, crc)
        yield piece
    if n_bytes != member.n_bytes or member.crc32 not in (None, crc):
        raise CheckpointError(
            f"the bytes of {printable(member.name)} are damaged: their checksum is wrong. Fetch the file again."
        )


def _inflated(member: Member) -> Iterator[bytes]:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in member.data.pieces():
            while piece:
                yield inflate.decompress(piece, CHUNK)
                piece = inflate.unconsumed_tail
            if inflate.eof:
                return
        while data := inflate.decompress(b"", CHUNK):
            yield data
    except zlib.error as error:
        raise CheckpointError(
            f"the packed bytes of {printable(member.name)} are damaged ({error}). Fetch the file again."
        ) from error
