"""Opens a recording with libsndfile, else with ffmpeg, and gives it as mono float32 blocks at its own rate."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import soundfile

from hear_models.errors import AudioFileError
from hear_models.files import shown

BLOCK_FRAMES = 1 << 17  # 3 s at 44.1 kHz: large enough to hide the cost of a call, small beside a model's memory
FFMPEG_STALL_S = 60.0  # ffmpeg is given up when it delivers nothing for so long
# Containers of single recordings only: playlists (hls, concat, dash) could make ffmpeg open other files.
FFMPEG_DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,loas,m4v,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,"
    "mpeg,mpegts,ogg,rm,tak,tta,voc,w64,wav,wv"
)


class Recording(Protocol):
    """An open recording. `frames` is None where only decoding to the end can tell."""

    path: Path
    sample_rate: int
    channels: int
    frames: int | None

    def blocks(self, start_frame: int = 0, n_frames: int | None = None) -> Iterator[np.ndarray]:
        """Yield float32 [frames] blocks, the mean of the channels, from `start_frame` on."""
        ...

    def close(self) -> None: ...


def open_recording(path: str | os.PathLike[str]) -> Recording:
    """Open one recording: libsndfile first, ffmpeg (if on the PATH) for what libsndfile does not know.

    Raises AudioFileError: missing, a folder, unreadable, empty, or no audio that either of the two understands.
    """
    file = Path(path)
    try:
        if file.is_dir():
            raise AudioFileError(f"{shown(path)} is a folder, not a recording. Give the files in it.")
        if not file.is_file():  # also keeps named pipes and devices out, which would block for ever
            problem = "is not a regular file" if file.exists() else "does not exist"
            raise AudioFileError(f"{shown(path)} {problem}. Check the path.")
        with open(file, "rb") as handle:
            if not handle.read(1):
                raise AudioFileError(f"{shown(path)} is empty (0 bytes). Copy or record it again.")
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or error
        raise AudioFileError(f"{shown(path)} cannot be opened: {reason}. Check path and permissions.") from error
    try:
        return _SndfileRecording(file)
    except (soundfile.SoundFileError, TypeError, ValueError) as error:  # TypeError: a headerless .raw
        return _FfmpegRecording(file, str(error))


class _SndfileRecording:
    """What libsndfile reads. Integer samples are scaled to [-1, 1), float samples are taken as they are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # bytes: names that are no valid text survive; libsndfile gets exactly the name that the system has
        self.file = soundfile.SoundFile(os.fsencode(path) if os.name == "posix" else path)
        self.sample_rate: int = self.file.samplerate
        self.channels: int = self.file.channels
        self.frames: int | None = self.file.frames

    def blocks(self, start_frame: int = 0, n_frames: int | None = None) -> Iterator[np.ndarray]:
        assert self.frames is not None
        left = max(0, self.frames - start_frame)
        if n_frames is not None:
            left = min(left, n_frames)
        try:
            if start_frame and left:
                self._go_to(start_frame)
            while left:
                block = self.file.read(min(left, BLOCK_FRAMES), dtype="float32", always_2d=True)
                if not len(block):
                    done_s = (self.frames - left) / self.sample_rate
                    raise AudioFileError(
                        f"{shown(self.path)} ends after {done_s:.2f} s, its header promises "
                        f"{self.frames / self.sample_rate:.2f} s. It is cut off or damaged; copy it again."
                    )
                left -= len(block)
                yield _mixed_down(block, self.path)
        except soundfile.SoundFileError as error:
            raise AudioFileError(f"{shown(self.path)} cannot be decoded: {error} Is it damaged?") from error

    def _go_to(self, frame: int) -> None:
        """Seek; in Ogg by decoding what lies before: libsndfile 1.2.2 lands up to 154 frames off in the last page."""
        if self.file.format != "OGG":
            self.file.seek(frame)
        while (ahead := frame - self.file.tell()) > 0:
            if not len(self.file.read(min(ahead, BLOCK_FRAMES), dtype="float32", always_2d=True)):
                return

    def close(self) -> None:
        self.file.close()


class _FfmpegRecording:
    """What ffmpeg decodes, through a pipe as an AU stream: a header (rate, channels), then big-endian float32."""

    def __init__(self, path: Path, libsndfile_says: str) -> None:
        self.path = path
        program = shutil.which("ffmpeg")
        if program is None:
            raise AudioFileError(
                f"{shown(path)} is no audio that libsndfile knows ({libsndfile_says.rstrip('.')}), and ffmpeg is not "
                "on the PATH. If it is audio in another format, `apt install ffmpeg` or `brew install ffmpeg`."
            )
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - a full stderr pipe would stop ffmpeg
        self.process = subprocess.Popen(
            [
                *(program, "-nostdin", "-hide_banner", "-v", "error", "-threads", "1"),
                # one local file is opened and nothing that it may name: no network, no playlist
                *("-protocol_whitelist", "file", "-format_whitelist", FFMPEG_DEMUXERS, "-i", f"file:{path}"),
                *("-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            start_new_session=True,  # Ctrl-C reaches us, and we end ffmpeg; its own message would garble the terminal
        )
        self.frames: int | None = None
        try:
            header = self._read(24)
            if len(header) < 24:
                self.process.wait(FFMPEG_STALL_S)
                raise AudioFileError(
                    f"{shown(path)} is no audio that libsndfile or ffmpeg can read ({self._reason()}). Leave it out."
                )
            magic, data_offset, _, encoding, self.sample_rate, self.channels = struct.unpack(">4sIIIII", header)
            if magic != b".snd" or encoding != 6 or not self.sample_rate or not self.channels:
                raise AudioFileError(f"{shown(path)}: ffmpeg gave no audio stream. Convert it to WAV or FLAC first.")
            self._read(data_offset - 24)
        except BaseException:
            self.close()
            raise

    def blocks(self, start_frame: int = 0, n_frames: int | None = None) -> Iterator[np.ndarray]:
        frame_bytes = 4 * self.channels
        position = 0  # of the next frame in the recording
        stop = None if n_frames is None else start_frame + n_frames
        while stop is None or position < stop:
            data = self._read(BLOCK_FRAMES * frame_bytes)
            block = np.frombuffer(data[: len(data) // frame_bytes * frame_bytes], dtype=">f4").astype(np.float32)
            block = block.reshape(-1, self.channels)
            if not len(block):
                if self.process.wait(FFMPEG_STALL_S) != 0:
                    raise AudioFileError(f"{shown(self.path)} cannot be decoded: {self._reason()}. Is it damaged?")
                return
            wanted = block[max(0, start_frame - position) : None if stop is None else stop - position]
            position += len(block)
            if len(wanted):
                yield _mixed_down(wanted, self.path)

    def _read(self, n_bytes: int) -> bytes:
        """Read up to n_bytes; ends ffmpeg, and says so, when nothing arrives for FFMPEG_STALL_S."""
        assert self.process.stdout is not None
        stalled = threading.Event()

        def give_up() -> None:
            stalled.set()
            self.process.kill()

        watchdog = threading.Timer(FFMPEG_STALL_S, give_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            data = self.process.stdout.read(n_bytes)
        finally:
            watchdog.cancel()
        if stalled.is_set():
            raise AudioFileError(
                f"{shown(self.path)}: ffmpeg gave nothing for {FFMPEG_STALL_S:.0f} s. Convert it to WAV or FLAC first."
            )
        return data

    def _reason(self) -> str:
        """The last line that ffmpeg wrote to stderr, without the path that our message already has."""
        self.errors.seek(0)
        lines = self.errors.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
        return lines[-1].replace(f"file:{self.path}: ", "") if lines else "ffmpeg gave no reason"

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.errors.close()


def _mixed_down(block: np.ndarray, path: Path) -> np.ndarray:
    """[frames, channels] → [frames], their mean, by adding columns: mean(axis=1) is slow over 2 values."""
    mono = block[:, 0].copy()
    for channel in range(1, block.shape[1]):
        mono += block[:, channel]
    if block.shape[1] > 1:
        mono /= block.shape[1]
    if not np.isfinite(mono).all():
        raise AudioFileError(f"{shown(path)} contains NaN or infinite samples. Repair or leave it out.")
    return mono
