"""From the first bytes of a file to what is known about its container."""

from __future__ import annotations

from hear_models.pipeline.containers.chunks import look_at_caf, look_at_iff, look_at_w64, look_at_wave
from hear_models.pipeline.containers.flac import look_at_flac
from hear_models.pipeline.containers.layout import AS_IT_IS, Layout, Look, Source
from hear_models.pipeline.containers.mpeg import look_at_mpeg, parse_header
from hear_models.pipeline.containers.ogg import look_at_ogg
from hear_models.pipeline.containers.plain import (
    look_at_au,
    look_at_avr,
    look_at_mat4,
    look_at_mat5,
    look_at_mpc,
    look_at_nist,
    look_at_voc,
    look_at_wve,
)

BY_NAME: tuple[tuple[bytes, int, bytes, Look], ...] = (  # first bytes; offset and bytes of a second name
    (b"RIFF", 8, b"WAVE", look_at_wave),
    (b"RIFX", 8, b"WAVE", look_at_wave),
    (b"RF64", 8, b"WAVE", look_at_wave),
    (b"BW64", 8, b"WAVE", look_at_wave),
    (b"riff", 4, b"\x2e\x91\xcf\x11", look_at_w64),
    (b"FORM", 8, b"AIF", look_at_iff),
    (b"FORM", 9, b"SV", look_at_iff),  # 8SVX
    (b"FORM", 10, b"SV", look_at_iff),  # 16SV
    (b"caff", 0, b"", look_at_caf),
    (b"fLaC", 0, b"", look_at_flac),
    (b"OggS", 0, b"", look_at_ogg),
    (b".snd", 0, b"", look_at_au),
    (b"dns.", 0, b"", look_at_au),
    (b"2BIT", 0, b"", look_at_avr),
    (b"NIST_1A\n", 0, b"", look_at_nist),
    (b"Creative Voice File\x1a", 0, b"", look_at_voc),
    (b"MATLAB 5.0 MAT-file", 0, b"", look_at_mat5),
    (b"ALawSoundFile**", 0, b"", look_at_wve),
    (b"\x01\x04", 0, b"", look_at_mpc),
)


def look_at(source: Source) -> Layout:
    """How to read a file.

    Raises:
        AudioFileError: its header promises more than the file holds.
        NeedsFfmpeg: libsndfile would read it in part.
    """
    head = source.head
    for name, offset, second, look in BY_NAME:
        if head.startswith(name) and head[offset : offset + len(second)] == second:
            return look(source)
    if head[20:31] == b"samplerate\0":
        return look_at_mat4(source)
    if head[:3] == b"ID3":
        return _tagged(source)
    if parse_header(head[:4]) is not None:
        return look_at_mpeg(source)
    return AS_IT_IS


def _tagged(source: Source) -> Layout:
    """Behind an ID3 tag stand MPEG frames, as a rule; some programs put one before FLAC."""
    size = source.head[6:10]
    after = source.read(10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3]), 4) if len(size) == 4 else b""
    return look_at_flac(source) if after == b"fLaC" else look_at_mpeg(source)
