"""Older containers whose header tells how much they hold: AU, AVR, NIST, VOC, MAT, MPC 2000 and WVE."""

from __future__ import annotations

import re
import struct

from hear_models.pipeline.containers.layout import AS_IT_IS, UNKNOWN_NOTE, Layout, Part, Source

MOST_BLOCKS = 100_000
MAT4_BYTES = (8, 4, 4, 2, 2, 1)  # of an element, by the tens of its type


def look_at_au(source: Source) -> Layout:
    """Sun and NeXT: offset and length of the data behind the name; all ones (or 0) where it was not known."""
    order = ">" if source.head[:4] == b".snd" else "<"
    if len(source.head) < 24:
        return AS_IT_IS
    offset, length = struct.unpack(f"{order}II", source.head[4:12])
    if length in (0, 0xFFFFFFFF):
        prefix = source.head[:8] + struct.pack(f"{order}I", 0xFFFFFFFF) + source.read(12, max(0, offset - 12))
        return Layout((Part(prefix, offset, source.size),), (UNKNOWN_NOTE,)) if source.size > offset else AS_IT_IS
    source.check_end(offset + length)
    return AS_IT_IS


def look_at_avr(source: Source) -> Layout:
    """Atari: frames at byte 26, samples from byte 128."""
    if len(source.head) >= 30:
        stereo, bits, frames = struct.unpack(">HH10xI", source.head[12:30])
        source.check_end(128 + frames * (2 if stereo else 1) * max(1, bits // 8))
    return AS_IT_IS


def look_at_nist(source: Source) -> Layout:
    """NIST SPHERE: lines of text in a header whose size stands in the second line."""
    size = source.head[8:16].strip()
    if not size.isdigit():
        return AS_IT_IS
    header = source.read(0, min(int(size), 1 << 16))
    fields = dict(re.findall(rb"^(\w+) -i (\d+)", header, re.MULTILINE))
    if b"sample_count" in fields and b"shorten" not in header:
        frame_bytes = int(fields.get(b"channel_count", 1)) * int(fields.get(b"sample_n_bytes", 1))
        source.check_end(int(size) + int(fields[b"sample_count"]) * frame_bytes)
    return AS_IT_IS


def look_at_voc(source: Source) -> Layout:
    """Creative: blocks with a type and a length of 3 bytes, up to one of type 0."""
    at = int.from_bytes(source.head[20:22], "little")
    for _ in range(MOST_BLOCKS):
        block = source.read(at, 4)
        if len(block) < 4 or block[0] == 0:
            return AS_IT_IS
        at += 4 + int.from_bytes(block[1:], "little")
        source.check_end(at)
    return AS_IT_IS


def look_at_mat4(source: Source) -> Layout:
    """MATLAB 4: matrices one after the other, each with its size in front."""
    order = "<" if source.head[:2] == b"\0\0" and source.head[4:8] != b"\0\0\0\1" else ">"
    at = 0
    for _ in range(MOST_BLOCKS):
        head = source.read(at, 20)
        if len(head) < 20:
            return AS_IT_IS
        kind, rows, columns, imaginary, name = struct.unpack(f"{order}5I", head)
        if not kind % 1000 // 10 < len(MAT4_BYTES):
            return AS_IT_IS
        at += 20 + name + rows * columns * MAT4_BYTES[kind % 100 // 10] * (2 if imaginary else 1)
        source.check_end(at)
    return AS_IT_IS


def look_at_mat5(source: Source) -> Layout:
    """MATLAB 5: elements with type and length behind a header of 128 bytes."""
    order = "<" if source.read(126, 2) == b"IM" else ">"
    at = 128
    for _ in range(MOST_BLOCKS):
        tag = source.read(at, 8)
        if len(tag) < 8:
            return AS_IT_IS
        kind, size = struct.unpack(f"{order}II", tag)
        at += 8 if kind >> 16 else 8 + (size + 7) // 8 * 8
        source.check_end(at, 16)  # libsndfile writes 8 too many
    return AS_IT_IS


def look_at_mpc(source: Source) -> Layout:
    """Akai MPC 2000: stereo flag at byte 21, frames at byte 30, 16-bit samples from byte 42."""
    if len(source.head) >= 42:
        stereo, frames = source.head[21], struct.unpack("<I", source.head[30:34])[0]
        source.check_end(42 + frames * (4 if stereo else 2))
    return AS_IT_IS


def look_at_wve(source: Source) -> Layout:
    """Psion: the number of bytes at byte 18, A-law from byte 32."""
    if len(source.head) >= 32:
        source.check_end(32 + struct.unpack(">I", source.head[18:22])[0])
    return AS_IT_IS
