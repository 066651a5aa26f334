"""Ogg: pages tell where a stream begins and ends; streams may be chained one behind the other."""

from __future__ import annotations

from hear_models.pipeline.containers.layout import AS_IT_IS, Layout, Part, Source

HEADER_BYTES = 27
BEGIN, END = 2, 4  # flags of a page
NO_END_NOTE = "has no end page (a stream, or a recording that was cut off): it is read to its last page"


def look_at_ogg(source: Source) -> Layout:
    """As it is, or its links if it is a chain; an AudioFileError if its last page is not whole."""
    links: list[int] = []
    at = 0
    flags, in_data = END, True
    while at < source.size:
        head = source.read(at, HEADER_BYTES + 255)
        if head[:4] != b"OggS"[: len(head[:4])]:
            if at and source.size - at <= 1 << 16 and b"OggS" not in source.read(at, 1 << 16):
                break  # a tag of another format behind the stream
            raise source.cut_off(f"no Ogg page begins at byte {at:,}")
        n = head[26] if len(head) > 26 else 0
        if len(head) < HEADER_BYTES + n:
            raise source.cut_off("its last page is not whole")
        flags = head[5]
        if flags & BEGIN and in_data:  # several streams that run side by side begin on pages that follow each other
            links.append(at)
        in_data = not flags & BEGIN
        at += HEADER_BYTES + n + sum(head[HEADER_BYTES : HEADER_BYTES + n])
        source.check_end(at)
    notes = () if flags & END else (NO_END_NOTE,)
    if len(links) < 2:
        return Layout(notes=notes) if notes else AS_IT_IS
    stops = [*links[1:], at]
    return Layout(tuple(Part(b"", start, stop) for start, stop in zip(links, stops, strict=True)), notes)
