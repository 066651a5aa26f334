"""What the header of a WAV file says, and whether its samples are there: enough to check 100,000 clips in seconds."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from hear_models.errors import FileError
from hear_models.foreign import LFS_ADVICE, LFS_POINTER, is_lfs_pointer, open_plain

PCM, EXTENSIBLE = 1, 0xFFFE
UNKNOWN_SIZE = 0xFFFFFFFF  # written by ffmpeg into a pipe: the data go on to the end of the file


@dataclass(frozen=True)
class WavHeader:
    """Rate in Hz, channels, frames that are there, frames that the header promises, and the kind of samples."""

    sample_rate: int
    channels: int
    frames: int
    frames_promised: int
    subtype: str  # "PCM_16" in HEAR's tasks


def read_header(path: Path) -> WavHeader:
    """Walk the chunks to `data` (HEAR files have a LIST chunk before it); libsndfile is asked what is no plain PCM.

    Raises ValueError with the reason: unreadable, or no audio.
    """
    try:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                raise ValueError("empty file")
            head = file.read(24)
            if is_lfs_pointer(head):
                raise ValueError(f"{LFS_POINTER}. {LFS_ADVICE.rstrip('.')}")
            file.seek(12)
            sample_rate = channels = bits = 0
            if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
                while len(chunk := file.read(8)) == 8:
                    name, length = struct.unpack("<4sI", chunk)
                    if name == b"fmt " and 16 <= length <= 1024:
                        body = file.read(length + length % 2)
                        if len(body) < 16:
                            break
                        kind, channels, sample_rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
                        if kind != PCM and not (kind == EXTENSIBLE and body[24:26] == b"\x01\x00"):
                            break
                    elif name == b"data" and bits and channels and sample_rate and bits % 8 == 0:
                        frame_bytes = channels * bits // 8
                        there = size - file.tell()
                        promised = there if length == UNKNOWN_SIZE else length
                        frames = min(there, promised) // frame_bytes
                        return WavHeader(sample_rate, channels, frames, promised // frame_bytes, f"PCM_{bits}")
                    else:
                        file.seek(length + length % 2, os.SEEK_CUR)
    except FileError as error:
        raise ValueError("no plain file" if "no plain file" in str(error) else _reason(error)) from error
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    return _ask_libsndfile(path)


def _reason(error: FileError) -> str:
    cause = error.__cause__
    return str(cause.strerror) if isinstance(cause, OSError) and cause.strerror else str(error)


def _ask_libsndfile(path: Path) -> WavHeader:
    import soundfile

    try:
        info = soundfile.info(os.fspath(path))
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError("no audio that libsndfile reads") from error
    return WavHeader(info.samplerate, info.channels, info.frames, info.frames, f"{info.format} {info.subtype}")
