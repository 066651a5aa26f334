"""MPEG audio (MP1, MP2, MP3): a stream of frames without a length of its own, unless an Info frame stands in front.

libsndfile believes that frame, or guesses from the first frames and the size of the file, and reads no further. Here
every frame is counted, and a stream that does not tell its length, or tells it wrong, gets an Info frame that does.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

from hear_models.pipeline.containers.layout import Layout, NeedsFfmpeg, Part, Source

# kbit/s by (version 1 or 2, layer)
_KBITS = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by the two bits of the version
INFO_BYTES = 20  # of the fields in an Info frame of ours
INFO_FLAGS = 15  # all fields announced, and a frame without room for them: what mpg123 would cut off as delay stays
TOLERATED_GAP = 1 << 16  # bytes between frames that are passed over in search of the next one


@dataclass(frozen=True)
class Frame:
    """What the four bytes of a frame's header say: bytes, samples, Hz, channels, layer, and where Info would stand."""

    size: int
    samples: int
    rate: int
    channels: int
    layer: int
    info_at: int

    @property
    def kind(self) -> tuple[int, int, int]:
        """What does not change within a stream."""
        return self.rate, self.channels, self.layer


@dataclass
class Run:
    """Frames [start, stop) that belong together; `told`: how many the Info frame in front promises."""

    start: int
    stop: int
    first: Frame
    header: bytes
    frames: int = 0
    info: bytes = b""
    told: int | None = None


def parse_header(head: bytes) -> Frame | None:
    """The header of a frame; None for other bytes, and for free bit rates, which tell no size."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    kbits_index, rate_index = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or kbits_index in (0, 15) or rate_index == 3:
        return None
    family = 1 if version == 3 else 2
    bits, rate, padding = _KBITS[family, layer][kbits_index] * 1000, _RATES[version][rate_index], head[2] >> 1 & 1
    samples = 384 if layer == 1 else 1152 if layer == 2 or family == 1 else 576
    size = (12 * bits // rate + padding) * 4 if layer == 1 else samples // 8 * bits // rate + padding
    channels = 1 if head[3] >> 6 == 3 else 2
    side = ((17, 32) if family == 1 else (9, 17))[channels - 1]
    return Frame(size, samples, rate, channels, layer, 4 + side)


def look_at_mpeg(source: Source) -> Layout:
    """A file of MPEG frames, with tags of other formats before, between and behind them."""
    return look_at_frames(source, 0, source.size)


def look_at_frames(source: Source, start: int, stop: int) -> Layout:
    """MPEG frames in the bytes [start, stop) of a file; AudioFileError where the last one is not whole."""
    with source.content() as data:
        runs = _runs(source, data, start, stop)
    if not runs:
        return Layout()
    if len({run.first.kind[:2] for run in runs}) > 1:
        raise NeedsFfmpeg("recordings of different rates or channels are joined in it")
    if any(run.told is not None and run.told > run.frames + 1 for run in runs):
        run = next(run for run in runs if run.told is not None and run.told > run.frames + 1)
        raise source.cut_off(f"its header promises {run.told:,} frames, it holds {run.frames:,}")
    if len(runs) == 1 and runs[0].told == runs[0].frames and not start:
        return Layout()
    if runs[0].first.layer != 3:
        # no Info frame there, and libsndfile's guess is right where all frames are of one size: the reader looks
        return Layout(frames=sum(run.frames * run.first.samples for run in runs)) if not start else _bare(runs)
    return Layout(tuple(_part(run) for run in runs))


def _bare(runs: list[Run]) -> Layout:
    parts = tuple(Part(b"", run.start, run.stop) for run in runs)
    return Layout(parts, frames=sum(run.frames * run.first.samples for run in runs))


def _part(run: Run) -> Part:
    """A run behind an Info frame with the right number: its own, corrected, or one of ours."""
    if run.told == run.frames:
        return Part(run.info, run.start, run.stop)
    at = run.first.info_at
    if run.told is not None and run.info[at : at + 4] in (b"Xing", b"Info"):
        return Part(run.info[: at + 8] + struct.pack(">I", run.frames) + run.info[at + 12 :], run.start, run.stop)
    for kbits_index in range(1, 15):  # the smallest frame that holds the number, without CRC and padding
        header = bytes((run.header[0], run.header[1] | 1, kbits_index << 4 | run.header[2] & 0x0C, run.header[3]))
        frame = parse_header(header)
        if frame is not None and frame.size >= at + INFO_BYTES:
            info = header.ljust(at, b"\0") + b"Info" + struct.pack(">II", INFO_FLAGS, run.frames)
            return Part(info.ljust(frame.size, b"\0"), run.start, run.stop)
    raise NeedsFfmpeg("it does not tell its length")


def _runs(source: Source, data: bytes | mmap.mmap, start: int, stop: int) -> list[Run]:
    """Walk over all frames; a new run begins at each Info frame and where rate or channels change."""
    runs: list[Run] = []
    known: dict[bytes, Frame | None] = {}
    at = _next_frame(data, start, stop)
    while at is not None and at < stop:
        head = data[at : at + 4]
        if head not in known:
            known[head] = parse_header(head)
        frame = known[head]
        if frame is None:
            if len(head) < 4 and runs:
                break
            at = _next_frame(data, at, stop)
            continue
        end = at + frame.size
        if end > stop:
            if not runs or frame.kind != runs[-1].first.kind:
                break
            raise source.cut_off("its last frame is not whole")
        info = data[at + frame.info_at : at + frame.info_at + 12] if frame.layer == 3 else b""
        if (len(info) == 12 and info[:4] in (b"Xing", b"Info")) or (
            frame.layer == 3 and data[at + 36 : at + 40] == b"VBRI"
        ):
            vbri = info[:4] not in (b"Xing", b"Info")
            told: int | None = int.from_bytes(data[at + 50 : at + 54], "big") if vbri else None
            if not vbri and info[7] & 1:
                told = struct.unpack(">I", info[8:12])[0]
            runs.append(Run(end, end, frame, head, info=data[at:end], told=told))
        elif not runs or frame.kind != runs[-1].first.kind:
            runs.append(Run(at, end, frame, head, frames=1))
        else:
            runs[-1].frames += 1
            runs[-1].stop = end
        at = end
    return [run for run in runs if run.frames]


def _next_frame(data: bytes | mmap.mmap, at: int, stop: int) -> int | None:
    """The next frame from `at` on that another one follows, or that ends the stream; tags are passed over whole."""
    begin = at
    while at + 4 <= stop:
        if data[at : at + 3] == b"ID3" and at + 10 <= stop:
            size = data[at + 6 : at + 10]
            at += 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3])
            begin = at
            continue
        if data[at : at + 3] == b"TAG":
            at = begin = at + 128
            continue
        if data[at : at + 8] == b"APETAGEX" and at + 32 <= stop:
            at = begin = at + 32 + struct.unpack("<I", data[at + 12 : at + 16])[0]
            continue
        if (frame := parse_header(data[at : at + 4])) is not None:
            after = at + frame.size
            follower = parse_header(data[after : after + 4]) if after + 4 <= stop else None
            if after == stop or data[after : after + 3] in (b"TAG", b"ID3", b"APE"):
                return at
            if follower is not None and follower.kind == frame.kind:
                return at
        found = min(
            (place for name in (b"\xff", b"ID3", b"TAG", b"APETAGEX") if (place := data.find(name, at + 1, stop)) >= 0),
            default=-1,
        )
        if found < 0 or found - begin > TOLERATED_GAP:
            return None
        at = found
    return None
