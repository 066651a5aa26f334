"""From what a run was given to the recordings, channels and segments that it embeds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace

from hear_models.corpus.discover import AudioFile, Failure, find_audio_files
from hear_models.corpus.segments import read_segments, with_segments
from hear_models.corpus.spooling import STDIN, standard_input
from hear_models.errors import AudioFileError
from hear_models.pipeline.decoding import open_recording
from hear_models.pipeline.listening import EACH, Channel, channel_of


@contextmanager
def recordings(
    paths: Sequence[str | os.PathLike[str]],
    *,
    channel: str | int = "mix",
    segments: str | os.PathLike[str] | None = None,
) -> Iterator[tuple[list[AudioFile], list[Failure]]]:
    """What is to be embedded, and what could not be found; as long as this context lasts standard input is a file.

    Args:
        paths: recordings, folders, and "-" for what comes through standard input.
        channel: see `channel_of`; with "each" every channel is a recording, `NAME.ch1` and so on.
        segments: a table of segments, see `segments.py`; only recordings that it names are embedded.

    Raises UsageError: nothing at all, two recordings of one name, a channel or a table that is none.
    """
    wanted = channel_of(channel)
    rows = None if segments is None else read_segments(segments)
    with standard_input() if STDIN in paths else nullcontext() as stdin:
        files = [path for path in paths if path != STDIN]
        sources, failures = find_audio_files(files) if files or stdin is None else ([], [])
        if stdin is not None:
            from hear_models.subjects.weights import file_sha256  # loads torch

            sources.append(AudioFile(stdin, "stdin", origin=f"stdin, sha256 {file_sha256(stdin)}"))
        if rows is not None and segments is not None:
            sources, lost = with_segments(sources, rows, segments)
            failures += lost
        if wanted == EACH:
            sources = [one for source in sources for one in _channels(source, failures)]
        elif wanted != "mix":
            sources = [replace(source, channel=wanted) for source in sources]
        yield sources, failures


def _channels(source: AudioFile, failures: list[Failure]) -> Iterator[AudioFile]:
    """A recording for each channel of a file."""
    try:
        with closing(open_recording(source.path)) as recording:
            n: Channel = recording.channels
    except AudioFileError as error:
        failures.append(Failure(str(source.path), str(error)))
        return
    for number in range(1, int(n) + 1):
        yield replace(source, name=f"{source.name}.ch{number}", channel=number)
