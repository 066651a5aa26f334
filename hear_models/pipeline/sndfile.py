"""Recordings that libsndfile reads: as they are, or in parts behind headers that tell their length."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from hear_models.errors import AudioFileError
from hear_models.files import shown
from hear_models.pipeline.containers.layout import Layout, NeedsFfmpeg, PartReader
from hear_models.pipeline.listening import Channel, Listener

BLOCK_SAMPLES = 1 << 17  # 3 s at 44.1 kHz: large enough to hide the cost of a call, small beside a model's memory
FLOATS = ("FLOAT", "DOUBLE")
# where libsndfile cannot seek, or lands beside the frame (Ogg in 1.2.2 by up to 154): what lies before is decoded
SEEKS_BY_DECODING = ("OGG",)
DECODED_SUBTYPES = ("GSM610", "G721_32", "G723_24", "G723_40", "DWVW", "VOX_ADPCM", "DPCM", "NMS_ADPCM", "MPEG")


class SndfileRecording:
    """What libsndfile reads. Integer samples are scaled to [-1, 1), float samples are taken as they are.

    Raises what soundfile raises when it does not know the file, and NeedsFfmpeg when it would read a part only.
    """

    def __init__(self, path: Path, layout: Layout, channel: Channel) -> None:
        self.path, self.parts = path, layout.parts
        self.file = self._open(0)
        self.sample_rate: int = self.file.samplerate
        self.channels: int = self.file.channels
        self._lengths = [self.file.frames]
        for index in range(1, len(self.parts)):
            with self._open(index) as file:
                if (file.samplerate, file.channels) != (self.sample_rate, self.channels):
                    raise NeedsFfmpeg("recordings of different rates or channels are joined in it")
                self._lengths.append(file.frames)
        self.frames: int | None = sum(self._lengths)
        if layout.frames is not None and layout.frames != sum(self._lengths):
            self.file.close()
            raise NeedsFfmpeg(f"it holds {layout.frames:,} samples, of which libsndfile sees {sum(self._lengths):,}")
        self._notes = layout.notes
        self.listener = Listener(path, self.channels, channel, self.file.subtype in FLOATS)
        self._at = 0  # the next frame of `file`, which a file without seeking does not tell

    @property
    def notes(self) -> list[str]:
        return [*self._notes, *self.listener.notes]

    @property
    def expected_s(self) -> float | None:
        return None if self.frames is None else self.frames / self.sample_rate

    def _open(self, index: int) -> soundfile.SoundFile:
        if self.parts:
            file = soundfile.SoundFile(PartReader(self.path, self.parts[index]))
        else:  # bytes: names that are no valid text survive; libsndfile gets exactly the name that the system has
            file = soundfile.SoundFile(os.fsencode(self.path) if os.name == "posix" else self.path)
        self._seeks = file.seekable() and not file.subtype.startswith(DECODED_SUBTYPES)
        self._seeks = self._seeks and file.format not in SEEKS_BY_DECODING
        file.seekable = lambda: False  # else soundfile seeks after every read: needless, and some formats fail
        return file

    def blocks(self, start_frame: int = 0, n_frames: int | None = None) -> Iterator[np.ndarray]:
        total = sum(self._lengths)
        stop_frame = total if n_frames is None else min(total, start_frame + n_frames)
        begin = 0
        for index, length in enumerate(self._lengths):
            start, stop = max(0, start_frame - begin), min(length, stop_frame - begin)
            if start < stop:
                yield from self._blocks_of(index, start, stop, begin)
            begin += length

    def _blocks_of(self, index: int, start: int, stop: int, begin: int) -> Iterator[np.ndarray]:
        """Frames [start, stop) of one part, which begins at frame `begin` of the recording."""
        file, at = self._file_at(index, start)
        most = max(1, BLOCK_SAMPLES // self.channels)
        try:
            while at < stop:
                n = (start if at < start else stop) - at
                block = file.read(min(n, most), dtype="float32", always_2d=True)
                if not len(block):
                    raise AudioFileError(
                        f"{shown(self.path)} ends after {(begin + at) / self.sample_rate:.2f} s, its header promises "
                        f"{sum(self._lengths) / self.sample_rate:.2f} s. It is cut off or damaged; copy it again."
                    )
                at += len(block)
                if not index:
                    self._at = at
                if at > start:
                    yield self.listener.mono(block)
        except soundfile.SoundFileError as error:
            raise AudioFileError(f"{shown(self.path)} cannot be decoded: {error} Is it damaged?") from error
        finally:
            if index:
                file.close()

    def _file_at(self, index: int, start: int) -> tuple[soundfile.SoundFile, int]:
        """A part's file and the frame at which it stands: `start`, or before it where that must be decoded."""
        if index:
            file, at = self._open(index), 0
        else:
            file, at = self.file, self._at
        if start == at:
            return file, at
        if self._seeks:
            try:
                return file, file.seek(start)
            except soundfile.SoundFileError as error:
                raise AudioFileError(f"{shown(self.path)} cannot be decoded: {error} Is it damaged?") from error
        if at > start:
            self.file.close()
            self.file = file = self._open(0)
            at = 0
        return file, at

    def close(self) -> None:
        self.file.close()
