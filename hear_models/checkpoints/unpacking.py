"""Packed files are unpacked to a temporary file without a name, never beyond what honest weights could reach."""

from __future__ import annotations

import lzma
import tempfile
from collections.abc import Iterable, Iterator

from hear_models.checkpoints.windows import CHUNK, OpenFile, Window
from hear_models.checkpoints.zip_archive import Member, unpacked
from hear_models.errors import CheckpointError

MAX_RATIO = 200  # weights pack to nine tenths; a checkpoint with constant moments was seen at 32
SMALL_BYTES = 1 << 20  # below this no ratio is asked for
MAX_UNPACKED_BYTES = 16 << 30
XZ_MEMORY_BYTES = 256 << 20  # of the decoder; xz -9 needs 65 MiB


def unpack_member(member: Member) -> Window:
    """A member of an archive: where it lies if it is not packed, else a temporary file."""
    if not member.compressed:
        return member.data
    _check(member.n_bytes, member.data.length)
    return _to_file(unpacked(member), member.data.length)


def unpack_xz(window: Window) -> Window:
    """An xz file, unpacked to a temporary file."""
    return _to_file(_decompressed(window), window.length)


def _decompressed(window: Window) -> Iterator[bytes]:
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY_BYTES)
    try:
        for piece in window.pieces():
            data = decoder.decompress(piece, CHUNK)
            while True:
                if data:
                    yield data
                if decoder.eof or decoder.needs_input:
                    break
                data = decoder.decompress(b"", CHUNK)
            if decoder.eof:
                break
    except (lzma.LZMAError, EOFError) as error:
        raise CheckpointError(f"its xz packing is damaged ({error}). Fetch it again.") from error
    if not decoder.eof:
        raise CheckpointError("it ends too early; the download or the copy is incomplete. Fetch it again.")


def _to_file(data: Iterable[bytes], packed_bytes: int) -> Window:
    n_bytes = 0
    try:
        file = OpenFile(tempfile.TemporaryFile(prefix="hear-models-"))  # noqa: SIM115  OpenFile closes it
        for piece in data:
            n_bytes += len(piece)
            _check(n_bytes, packed_bytes)
            file.handle.write(piece)
        file.handle.flush()
    except OSError as error:
        raise CheckpointError(f"it cannot be unpacked: {error.strerror or error}. Free some space.") from error
    return Window(file, 0, n_bytes)


def _check(n_bytes: int, packed_bytes: int) -> None:
    limit = max(SMALL_BYTES, min(MAX_UNPACKED_BYTES, MAX_RATIO * packed_bytes))
    if n_bytes > limit:
        raise CheckpointError(
            f"its {packed_bytes:,} packed bytes become more than {limit:,}, which no weights do. Do not use it; if you "
            "trust it, unpack it yourself."
        )
