"""FLAC: a stream may leave its length open, and files may be joined; the last frame tells where a stream ends."""

from __future__ import annotations

from hear_models.pipeline.containers.layout import AS_IT_IS, Layout, NeedsFfmpeg, Part, Source

SEARCHED_BYTES = 1 << 17  # the last frame begins in here: a frame holds at most 65,535 samples, usually 4,096
_BEGINNING = b"fLaC\x00\x00\x00\x22"  # the name, then STREAMINFO of 34 bytes
_SIZES = {1: 192, **{k: 576 << (k - 2) for k in range(2, 6)}, **{k: 256 << (k - 8) for k in range(8, 16)}}


def _table(width: int, polynomial: int) -> list[int]:
    top, mask = 1 << (width - 1), (1 << width) - 1
    table = []
    for value in range(256):
        remainder = value << (width - 8)
        for _ in range(8):
            remainder = ((remainder << 1) ^ (polynomial if remainder & top else 0)) & mask
        table.append(remainder)
    return table


_CRC8, _CRC16 = _table(8, 0x07), _table(16, 0x8005)


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _CRC8[value ^ byte]
    return value


def _crc16(data: bytes) -> int:
    value = 0
    for byte in data:
        value = ((value << 8) & 0xFF00) ^ _CRC16[(value >> 8) ^ byte]
    return value


def look_at_flac(source: Source) -> Layout:
    """As it is, if its header tells the length of its only stream; else in parts whose headers do."""
    begins = _beginnings(source)
    if not begins or (len(begins) == 1 and _total(source.read(begins[0] + 18, 8))):
        return AS_IT_IS
    parts = []
    for start, stop in zip(begins, [*begins[1:], source.size], strict=True):
        head = bytearray(source.read(start, 42))
        if len(head) < 42:
            raise source.cut_off("it ends in a header")
        total = _total(bytes(head[18:26])) or _counted(source, start, stop, head)
        head[21] = head[21] & 0xF0 | total >> 32
        head[22:26] = (total & 0xFFFFFFFF).to_bytes(4, "big")
        parts.append(Part(bytes(head), start + 42, stop))
    return Layout(tuple(parts))


def _total(field: bytes) -> int:
    """The number of samples in bytes 18 to 25 of a stream; 0: not told."""
    return int.from_bytes(field, "big") & 0xFFFFFFFFF


def _beginnings(source: Source) -> list[int]:
    """Where streams begin; files may stand one behind the other."""
    found: list[int] = []
    with source.content() as data:
        at = data.find(_BEGINNING)
        while at >= 0:
            found.append(at)
            at = data.find(_BEGINNING, at + 1)
    return found


def _counted(source: Source, start: int, stop: int, head: bytes | bytearray) -> int:
    """Samples up to the end of the last frame before `stop`, which must be whole."""
    if source.read(stop - 128, 3) == b"TAG" and stop - 128 > start:
        stop -= 128
    data = source.read(max(start + 42, stop - SEARCHED_BYTES), min(SEARCHED_BYTES, stop - start - 42))
    block = int.from_bytes(head[10:12], "big")  # largest block, the size of all but the last one with a fixed size
    seen = False
    at = len(data)
    while (at := data.rfind(b"\xff", 0, at)) >= 0:
        frame = _frame(data, at, block)
        if frame is None:
            continue
        seen = True
        if _crc16(data[at:]) == 0:
            return frame
    if seen:
        raise source.cut_off("its last frame is not whole")
    raise NeedsFfmpeg("its header does not tell its length and its last frame was not found")


def _frame(data: bytes, at: int, block: int) -> int | None:
    """The number of samples at the end of the frame whose header stands at `at`; None if none does."""
    if len(data) - at < 6 or data[at + 1] & 0xFE != 0xF8:
        return None
    size_code, lead = data[at + 2] >> 4, data[at + 4]
    extra = 0 if lead < 0x80 else next((k for k in range(1, 7) if not lead << k & 0x40), 9)
    if not size_code or (lead >= 0x80 and not 0xC0 <= lead < 0xFF) or extra > 6:
        return None
    number = lead & (0x7F if lead < 0x80 else (0x3F >> extra))
    for byte in data[at + 5 : at + 5 + extra]:
        number = number << 6 | byte & 0x3F
    end = at + 5 + extra
    if size_code in (6, 7):
        width = size_code - 5
        size = int.from_bytes(data[end : end + width], "big") + 1
        end += width
    else:
        size = _SIZES[size_code]
    end += {12: 1, 13: 2, 14: 2}.get(data[at + 2] & 15, 0)
    if end >= len(data) or _crc8(data[at:end]) != data[end]:
        return None
    return number + size if data[at + 1] & 1 else number * block + size
