"""Recordings that ffmpeg decodes, for what libsndfile does not know or would read in part."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from hear_models.errors import AudioFileError
from hear_models.files import shown
from hear_models.pipeline.listening import Channel, Listener
from hear_models.pipeline.sndfile import BLOCK_SAMPLES

STALL_S = 60.0  # ffmpeg is given up when it delivers nothing for so long
LOG_BYTES = 1 << 18  # of what ffmpeg wrote, read from either end
# Containers of single recordings only: playlists (hls, concat, dash) could make ffmpeg open other files.
DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,loas,m4v,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,"
    "mpeg,mpegts,ogg,rm,tak,tta,voc,w64,wav,wv"
)
# what ffmpeg says, and goes on with exit code 0, where data are missing
_COMPLAINT = re.compile(
    r"^(?:\[[^\]]* @ 0x[0-9a-f]+\] )?(?:\[(?:error|fatal|panic)\] (?P<error>.+)|\[warning\] (?P<warning>.*"
    r"(?:orrupt|mismatch|rematurely|runcated).*))$"
)
_DURATION = re.compile(r"^\[info\]   Duration: (\d+):(\d\d):(\d\d\.\d+)(?:, start: (-?[\d.]+))?", re.MULTILINE)
_DIFFERENT_S = 0.5  # a container's duration may be that of its last packet's end
HARMLESS = ("Application provided invalid, non monotonically increasing dts",)  # of the writer: no sample is lost


class FfmpegRecording:
    """What ffmpeg decodes, through a pipe as an AU stream: a header (rate, channels), then big-endian float32."""

    frames: int | None = None

    def __init__(self, path: Path, reason: str, channel: Channel) -> None:
        self.path = path
        program = shutil.which("ffmpeg")
        if program is None:
            raise AudioFileError(
                f"{shown(path)} is no audio that libsndfile can read ({reason.rstrip('.')}), and ffmpeg is not "
                "on the PATH. If it is audio in another format, `apt install ffmpeg` or `brew install ffmpeg`."
            )
        self._program = program
        self._wanted = channel
        self._start()
        try:
            self._read_header()
            self.listener = Listener(path, self.channels, channel, are_floats=True)
            self._silent_frames = self._starts_late()
        except BaseException:
            self.close()
            raise

    @property
    def notes(self) -> list[str]:
        return self.listener.notes

    @property
    def expected_s(self) -> float | None:
        return self._said_s(self._input_log())

    def _command(self, *options: str) -> list[str]:
        return [
            *(self._program, "-nostdin", "-hide_banner", "-nostats", "-v", "level+info", "-threads", "1"),
            # one local file is opened and nothing that it may name: no network, no playlist
            *("-protocol_whitelist", "file", "-format_whitelist", DEMUXERS, "-i", f"file:{self.path}"),
            *("-map", "0:a:0", *options),
        ]

    def _start(self) -> None:
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - a full stderr pipe would stop ffmpeg
        self.process = subprocess.Popen(
            self._command("-c:a", "pcm_f32be", "-f", "au", "pipe:1"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            start_new_session=True,  # Ctrl-C reaches us, and we end ffmpeg; its own message would garble the terminal
        )
        self._begun = False

    def _read_header(self) -> None:
        header = self._read(24)
        if len(header) < 24:
            self.process.wait(STALL_S)
            log = self._log()
            if "matches no streams" in log or "does not contain any stream" in log:
                raise AudioFileError(f"{shown(self.path)} has no sound: there is no audio track in it. Leave it out.")
            raise AudioFileError(
                f"{shown(self.path)} is no audio that libsndfile or ffmpeg can read ({self._reason()}). Leave it out."
            )
        magic, data_offset, _, encoding, self.sample_rate, self.channels = struct.unpack(">4sIIIII", header)
        if magic != b".snd" or encoding != 6 or not self.sample_rate or not self.channels:
            raise AudioFileError(f"{shown(self.path)}: ffmpeg gave no audio stream. Convert it to WAV or FLAC first.")
        self._read(data_offset - 24)

    def _starts_late(self) -> int:
        """Frames of silence before an audio track that begins later than the video beside it."""
        if " Video: " not in self._input_log() or "(attached pic)" in self._input_log():
            return 0
        shown_info = subprocess.run(
            self._command(
                *("-af", "ashowinfo", "-frames:a", "1"),
                *("-map", "0:v:0", "-c:v", "copy", "-frames:v", "1", "-f", "null", "-"),  # times count from the video's
            ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=STALL_S,
            check=False,
        ).stderr.decode("utf-8", "replace")
        found = re.search(r"\bn:0 pts:\S+ pts_time:(\d+(?:\.\d+)?)", shown_info)
        return round(float(found[1]) * self.sample_rate) if found else 0

    def blocks(self, start_frame: int = 0, n_frames: int | None = None) -> Iterator[np.ndarray]:
        if self._begun:  # a pipe has no way back
            self.close()
            self._start()
            self._read_header()
        self._begun = True
        stop = None if n_frames is None else start_frame + n_frames
        position = 0  # of the next frame in the recording
        for block in self._all_blocks():
            wanted = block[max(0, start_frame - position) : None if stop is None else max(0, stop - position)]
            position += len(block)
            if len(wanted):
                yield self.listener.mono(wanted)
            if stop is not None and position >= stop:
                return

    def _all_blocks(self) -> Iterator[np.ndarray]:
        """float32 [frames, channels] to the end, which must be that of the file."""
        most = max(1, BLOCK_SAMPLES // self.channels)
        for done in range(0, self._silent_frames, most):
            yield np.zeros((min(most, self._silent_frames - done), self.channels), np.float32)
        frame_bytes = 4 * self.channels
        frames = 0
        while data := self._read(most * frame_bytes):
            block = np.frombuffer(data[: len(data) // frame_bytes * frame_bytes], dtype=">f4").astype(np.float32)
            frames += len(block) // self.channels
            yield block.reshape(-1, self.channels)
        failed = self.process.wait(STALL_S) != 0
        log = self._log()
        complaint = self._complaint(log)
        if failed or complaint:
            raise AudioFileError(
                f"{shown(self.path)} cannot be decoded whole: {complaint or self._reason()}. "
                "It is cut off or damaged; copy it again."
            )
        promised_s = self._promised_s()
        if promised_s is not None and promised_s - frames / self.sample_rate > _DIFFERENT_S:
            raise AudioFileError(
                f"{shown(self.path)} ends after {frames / self.sample_rate:.2f} s, its header promises "
                f"{promised_s:.2f} s. It is cut off or damaged; copy it again."
            )

    def _promised_s(self) -> float | None:
        """Seconds that the container says, if it says so itself and has nothing but one audio track."""
        log = self._input_log()
        if "Estimating duration" in log or len(re.findall(r"^\[info\]   Stream #0:", log, re.MULTILINE)) != 1:
            return None
        return self._said_s(log)

    def _said_s(self, log: str) -> float | None:
        """Seconds that ffmpeg says before it decodes: what the container says, or a guess by its rate."""
        found = _DURATION.search(log)
        if not found:
            return None
        hours, minutes, seconds, start = found.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds) - max(0.0, float(start or 0))

    def _read(self, n_bytes: int) -> bytes:
        """Read up to n_bytes; ends ffmpeg, and says so, when nothing arrives for STALL_S."""
        assert self.process.stdout is not None
        stalled = threading.Event()

        def give_up() -> None:
            stalled.set()
            self.process.kill()

        watchdog = threading.Timer(STALL_S, give_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            data = self.process.stdout.read(n_bytes)
        finally:
            watchdog.cancel()
        if stalled.is_set():
            raise AudioFileError(
                f"{shown(self.path)}: ffmpeg gave nothing for {STALL_S:.0f} s. Convert it to WAV or FLAC first."
            )
        return data

    def _log(self) -> str:
        """What ffmpeg wrote so far: the beginning and the end of it."""
        self.errors.seek(0)
        head = self.errors.read(LOG_BYTES)
        size = self.errors.seek(0, 2)
        self.errors.seek(max(len(head), size - LOG_BYTES))
        return (head + self.errors.read(LOG_BYTES)).decode("utf-8", "replace")

    def _input_log(self) -> str:
        """What it said of the file before it began to decode."""
        return self._log().partition("Stream mapping:")[0]

    def _complaint(self, log: str) -> str | None:
        """The first line that says that something is missing."""
        for line in log.splitlines():
            found = _COMPLAINT.match(line)
            if found and not any(text in line for text in HARMLESS):
                return self._without_path(found["error"] or found["warning"])
        return None

    def _reason(self) -> str:
        log = self._log()
        lines = [line for line in log.strip().splitlines() if not line.startswith("[info]")]
        return self._complaint(log) or (self._without_path(lines[-1]) if lines else "ffmpeg gave no reason")

    def _without_path(self, line: str) -> str:
        """A line of ffmpeg's without the path, which our message has already."""
        return re.sub(
            r"^\[\w+\] ", "", line.replace(f"file:{self.path}: ", "").replace(f"file:{self.path}", "it")
        ).rstrip(".")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.errors.close()
