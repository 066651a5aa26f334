"""Opens a recording with libsndfile, else with ffmpeg, and gives it as mono float32 blocks at its own rate.

What is decoded is the whole file, or an AudioFileError says what is missing: the headers are held against the file
first (`containers/`), for both decoders take the beginning of a file that is cut off for the whole of it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import soundfile

from hear_models.errors import AudioFileError
from hear_models.files import shown
from hear_models.pipeline.containers.layout import AS_IT_IS, Layout, NeedsFfmpeg, Source
from hear_models.pipeline.containers.looking import look_at
from hear_models.pipeline.containers.mpeg import look_at_mpeg
from hear_models.pipeline.ffmpeg import FfmpegRecording
from hear_models.pipeline.listening import MIX, Channel
from hear_models.pipeline.sndfile import SndfileRecording

SLOWEST_HZ, FASTEST_HZ = 50, 10_000_000  # sample rates of sound; others are slips that would ask for endless memory


class Recording(Protocol):
    """An open recording. `frames` is None where only decoding to the end can tell.

    `expected_s`: how long it seems to be, for a person who waits; None where nothing tells. `notes`: sentences on what
    was odd, to follow the file's name; complete once all blocks were read.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int | None

    @property
    def notes(self) -> list[str]: ...

    @property
    def expected_s(self) -> float | None: ...

    def blocks(self, start_frame: int = 0, n_frames: int | None = None) -> Iterator[np.ndarray]:
        """Yield float32 [frames] blocks of the chosen channel, from `start_frame` on."""
        ...

    def close(self) -> None: ...


def open_recording(path: str | os.PathLike[str], channel: Channel = MIX) -> Recording:
    """Open one recording: libsndfile first, ffmpeg (if on the PATH) for what libsndfile does not know.

    Args:
        path: a regular file; pipes and devices are refused.
        channel: "mix", the mean of all channels, or a number from 1.

    Raises:
        AudioFileError: missing, a folder, unreadable, empty, cut off, without that channel, of a rate that is none, or
            no audio that either of the two understands.
    """
    file = Path(path)
    with open_regular(path) as handle:
        try:
            layout = look_at(Source(handle, path))
            recording: Recording = _by_libsndfile(file, layout, channel, handle)
        except NeedsFfmpeg as error:
            recording = FfmpegRecording(file, str(error), channel)
        except (soundfile.SoundFileError, TypeError, ValueError) as error:  # TypeError: a headerless .raw
            recording = FfmpegRecording(file, str(error), channel)
        except OSError as error:
            raise _cannot_open(path, error) from error
    if not SLOWEST_HZ <= recording.sample_rate <= FASTEST_HZ:
        recording.close()
        raise AudioFileError(
            f"{shown(path)} says that its sample rate is {recording.sample_rate} Hz, which is no sound "
            f"({SLOWEST_HZ} to {FASTEST_HZ:,} Hz are read). Write the right rate into its header."
        )
    return recording


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file that holds at least one byte; AudioFileError for everything else, pipes and devices too."""
    try:
        about = os.stat(path)
        if stat.S_ISDIR(about.st_mode):
            raise AudioFileError(f"{shown(path)} is a folder, not a recording. Give the files in it.")
        if not stat.S_ISREG(about.st_mode):  # named pipes and devices would block or never end
            raise AudioFileError(f"{shown(path)} is not a regular file. Check the path.")
        if not about.st_size:
            raise AudioFileError(f"{shown(path)} is empty (0 bytes). Copy or record it again.")
        return open(path, "rb")
    except FileNotFoundError as error:
        raise AudioFileError(f"{shown(path)} does not exist. Check the path.") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise _cannot_open(path, error) from error


def _by_libsndfile(path: Path, layout: Layout, channel: Channel, handle: BinaryIO) -> SndfileRecording:
    recording = SndfileRecording(path, layout, channel)
    if layout is AS_IT_IS and recording.file.format == "MP3":  # known by its name only: the frames begin further behind
        recording.close()
        recording = SndfileRecording(path, look_at_mpeg(Source(handle, path)), channel)
    return recording


def _cannot_open(path: str | os.PathLike[str], error: Exception) -> AudioFileError:
    reason = getattr(error, "strerror", None) or error
    return AudioFileError(f"{shown(path)} cannot be opened: {reason}. Check path and permissions.")
