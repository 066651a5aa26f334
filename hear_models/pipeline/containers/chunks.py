"""Containers of chunks: RIFF and RF64 WAV, W64, AIFF, IFF, CAF. Their length stands before the samples.

A recorder that was cut off, or a program that writes to a pipe, leaves a length of 0 or of all ones: then the audio
goes on to the end of the file.
"""

from __future__ import annotations

import struct

from hear_models.pipeline.containers.layout import AS_IT_IS, UNKNOWN_NOTE, WRONG_NOTE, Layout, NeedsFfmpeg, Part, Source
from hear_models.pipeline.containers.mpeg import look_at_frames

MOST_CHUNKS = 10_000
LONGEST_HEADER = 1 << 24  # bytes that are copied to correct one
MPEG_TAGS = (0x50, 0x55)  # of WAVE: layers I and II; layer III
_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of the chunk names "fmt " and "data"; "riff" has another


def _is_unknown(size: int) -> bool:
    """0, all ones (less a header), or what sox writes to a pipe."""
    return size == 0 or size >= 0xFFFFFF00 or 0x7FFFF000 <= size <= 0x7FFFFFFF


def look_at_wave(source: Source) -> Layout:
    """RIFF, RIFX, RF64 and BW64: walk to the data, hold its length against the file's."""
    order = ">" if source.head[:4] == b"RIFX" else "<"
    long_size: int | None = None
    tag, frame_bytes = 0, 1
    at = 12
    for _ in range(MOST_CHUNKS):
        chunk = source.read(at, 8)
        if len(chunk) < 8:
            return AS_IT_IS  # libsndfile says what it thinks of a file without data
        name, size = struct.unpack(f"{order}4sI", chunk)
        if name == b"ds64":
            long_size = struct.unpack("<Q", source.read(at + 16, 8).ljust(8, b"\0"))[0]
        elif name == b"fmt " and len(body := source.read(at + 8, 14)) == 14:
            tag, frame_bytes = struct.unpack(f"{order}H10xH", body)
        elif name == b"data":
            start = at + 8
            if size == 0xFFFFFFFF and long_size:
                size = long_size
            elif _is_unknown(size) and source.size > start and (size or not _is_chunk(source, start)):
                return _to_the_end(source, tag, start, order)
            stop = start + size
            source.check_end(stop, frame_bytes)
            if tag in MPEG_TAGS:
                return look_at_frames(source, start, min(stop, source.size))
            if _goes_on(source, stop, frame_bytes):
                return _to_the_end(source, tag, start, order, WRONG_NOTE)
            return AS_IT_IS
        at += 8 + size + size % 2
    return AS_IT_IS


def _is_chunk(source: Source, at: int) -> bool:
    """Whether a chunk with a printable name stands at byte `at`, and not samples."""
    head = source.read(at, 8)
    return all(32 <= byte < 127 for byte in head[:4]) and int.from_bytes(head[4:], "little") <= source.size - at - 8


def _goes_on(source: Source, stop: int, frame_bytes: int) -> bool:
    """Whether more audio than the header counts follows: what comes after it is no chunk, no tag and no padding."""
    at = stop + stop % 2
    if source.size - at < max(1024, 2 * frame_bytes) or _is_chunk(source, at):
        return False
    after = source.read(at, 1 << 16)
    return any(after) and after[:3] not in (b"TAG", b"ID3")


def _to_the_end(source: Source, tag: int, start: int, order: str, note: str = UNKNOWN_NOTE) -> Layout:
    """The same file with a length that reaches its end."""
    if tag in MPEG_TAGS:
        found = look_at_frames(source, start, source.size)
        return Layout(found.parts, (note, *found.notes), found.frames)
    length = source.size - start
    prefix = _header(source, start)
    if prefix[12:16] == b"ds64":  # the lengths of the file, of the data, and of the frames, which may be left open
        prefix = prefix[:20] + struct.pack("<QQQ", source.size - 8, length, 0) + prefix[44:-4] + b"\xff" * 4
    elif length > 0xFFFFFFFE:
        raise NeedsFfmpeg("a WAV header cannot say that it is longer than 4 GiB")
    else:
        total = struct.pack(f"{order}I", min(0xFFFFFFFE, source.size - 8))
        prefix = prefix[:4] + total + prefix[8:-4] + struct.pack(f"{order}I", length)
    return Layout((Part(prefix, start, source.size),), (note,))


def _header(source: Source, stop: int) -> bytes:
    """What stands before byte `stop`, where the audio begins."""
    if stop > LONGEST_HEADER:
        raise NeedsFfmpeg(f"its audio begins at byte {stop:,} only, and its length is not told")
    return source.read(0, stop)


def look_at_w64(source: Source) -> Layout:
    """Sony Wave64: names of 16 bytes, lengths of 8, which count the name and themselves."""
    at = 40
    for _ in range(MOST_CHUNKS):
        chunk = source.read(at, 24)
        if len(chunk) < 24:
            return AS_IT_IS
        size = struct.unpack("<Q", chunk[16:])[0]
        if chunk[:4] == b"data" and chunk[4:16] == _W64_TAIL:
            if size <= 24 or size >= 1 << 62:
                return _noted(source, at + 24)
            source.check_end(at + size)
            return AS_IT_IS
        if size < 24:
            return AS_IT_IS
        at += (size + 7) // 8 * 8
    return AS_IT_IS


def look_at_iff(source: Source) -> Layout:
    """AIFF, AIFF-C and Amiga's 8SVX: big-endian chunks, the samples in SSND or BODY."""
    at = 12
    for _ in range(MOST_CHUNKS):
        chunk = source.read(at, 8)
        if len(chunk) < 8:
            return AS_IT_IS
        name, size = struct.unpack(">4sI", chunk)
        if name in (b"SSND", b"BODY"):
            if _is_unknown(size):
                return _patched(source, at + 4, struct.pack(">I", max(0, source.size - at - 8)), at + 8)
            source.check_end(at + 8 + size)
            return AS_IT_IS
        at += 8 + size + size % 2
    return AS_IT_IS


def look_at_caf(source: Source) -> Layout:
    """Apple's Core Audio Format: chunk lengths of 8 bytes; that of the data may be -1."""
    at = 8
    for _ in range(MOST_CHUNKS):
        chunk = source.read(at, 12)
        if len(chunk) < 12:
            raise source.cut_off("it ends before its audio")
        name, size = struct.unpack(">4sq", chunk)
        if name == b"data":
            if size <= 0:
                return _patched(source, at + 4, struct.pack(">q", source.size - at - 12), at + 12)
            source.check_end(at + 12 + size)
            return AS_IT_IS
        if size < 0:
            return AS_IT_IS
        at += 12 + size
    return AS_IT_IS


def _patched(source: Source, place: int, length: bytes, start: int) -> Layout:
    """The file with another length at byte `place`, which stands before the audio at byte `start`."""
    if source.size <= start:
        return AS_IT_IS
    prefix = bytearray(_header(source, start))
    prefix[place : place + len(length)] = length
    return Layout((Part(bytes(prefix), start, source.size),), (UNKNOWN_NOTE,))


def _noted(source: Source, start: int) -> Layout:
    return _patched(source, start - 8, struct.pack("<Q", source.size - start + 24), start)
