"""Soundscapes as files: rendered, with their annotations beside them, going on where an earlier call stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from hear_models.datasets.jams import mixture_as_jams, read_jams
from hear_models.datasets.library import Library
from hear_models.datasets.mixtures import MOST_EVENTS, SAMPLE_RATE, Mixture, render, sixteen_bits, soundscapes
from hear_models.datasets.writing import claim_folder, seconds_in, write_flac
from hear_models.errors import FileError, UsageError
from hear_models.files import make_folder, unwritable, write_atomically
from hear_models.locks import inside, only_writer

OFFICIAL_SEED = 123


def write_mixtures(
    foreground: Path,
    background: Path,
    output: Path,
    number: int,
    *,
    seed: int = OFFICIAL_SEED,
    official: bool = False,
    most_events: int = MOST_EVENTS,
) -> Iterator[Mixture]:
    """Draw and render `number` soundscapes into `output`; yields each when its files are there.

    mixture_00000.flac, .txt with onset, offset and label, and .jams. With `official` they are named as the authors'
    (soundscape_unimodal0_proc_00), one random state runs through all of them, and 16 bits are made as the authors make
    them (quirk "flac-floor"). A soundscape that is there already is kept: the same call goes on where it was stopped,
    a larger number adds to it.

    Args:
        foreground, background: folders with a subfolder of .wav or .flac for each label.

    Raises:
        UsageError: `output` holds something else, or another run writes to it.
        HearModelsError: a recording is unreadable, a background silent, the disk full.
    """
    if seed < 0 or number < 0 or most_events < 1:
        raise UsageError(f"seed {seed}, number {number}, events {most_events}: give 0 or more, and at least 1 event.")
    events, backgrounds = Library(foreground), Library(background)
    settings = {"kind": "mixtures", "seed": seed, "official": official, "events": most_events}
    drawn = soundscapes(events, backgrounds, seed, official=official, most_events=most_events)
    name = "soundscape_unimodal{}_proc_00" if official else "mixture_{:05d}"
    named = ((name.format(index), mixture) for index, mixture in enumerate(islice(drawn, number)))
    yield from _write(named, events, backgrounds, output, settings, official)


def render_jams(annotations: Path, foreground: Path, background: Path, output: Path) -> Iterator[Mixture]:
    """Render the soundscapes that a folder of .jams files describes: so GISE-51's own are made again.

    Names are those of the files, 16 bits as the authors make them; otherwise as `write_mixtures`.

    Raises:
        InputError: a file that is no such annotation, or a recording that is not in the libraries.
    """
    events, backgrounds = Library(foreground), Library(background)
    files = sorted(path for path in annotations.rglob("*.jams") if not path.name.startswith("."))
    if not files:
        raise UsageError(f"{annotations} holds no .jams files. Give the folder of mixtures_jams.tar.gz.")
    names = [path.relative_to(annotations).with_suffix("").as_posix() for path in files]
    settings = {"kind": "mixtures", "official": True, "jams": _digest(names)}
    named = ((name, read_jams(path, events, backgrounds)) for name, path in zip(names, files, strict=True))
    yield from _write(named, events, backgrounds, output, settings, official=True)


def _write(
    named: Iterable[tuple[str, Mixture]],
    events: Library,
    backgrounds: Library,
    output: Path,
    settings: dict[str, object],
    official: bool,
) -> Iterator[Mixture]:
    claim_folder(output, settings | {"sounds": _digest([events.listing(), backgrounds.listing()])})
    with only_writer(inside(output), output, "folder"):
        for name, mixture in named:
            path = output / f"{name}.flac"
            if seconds_in(path) is None:
                samples = sixteen_bits(render(mixture), official)
                _make_folder(output, path.parent)
                write_atomically(output / f"{name}.txt", annotation_text(mixture).encode())
                write_atomically(output / f"{name}.jams", mixture_as_jams(mixture, events, backgrounds).encode())
                write_flac(path, samples, SAMPLE_RATE, output)  # last: a recording that is there has its annotations
            yield mixture


def _make_folder(output: Path, folder: Path) -> None:
    try:
        make_folder(output, folder)
    except OSError as error:
        raise FileError(unwritable(folder, error)) from None


def annotation_text(mixture: Mixture) -> str:
    """Lines of onset, offset and label with tabs between, as scaper writes them."""
    return "".join(f"{e.event_time_s}\t{e.end_s}\t{e.label}\r\n" for e in mixture.by_time())


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
