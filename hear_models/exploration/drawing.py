"""From folders of recordings to a map of them: embed, lay out, cut clips to listen to, write one page."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hear_models.corpus.discover import AudioFile, Failure, find_audio_files
from hear_models.corpus.options import AUTO, check_window
from hear_models.corpus.run import CorpusSummary
from hear_models.datasets.clip_table import read_table
from hear_models.errors import UsageError
from hear_models.exploration.collection import Collection, collect
from hear_models.exploration.layout import NAMES, choose_layout, lay_out
from hear_models.exploration.page import Point, map_page
from hear_models.exploration.sounds import BYTES_A_SECOND, can_encode, clip_text
from hear_models.files import shown, write_atomically
from hear_models.pipeline.model import HearModel

PLAY = ("auto", "embed", "link", "none")
MOST_EMBEDDED = 40_000_000  # bytes of clips on a page, as text a third more
BASE64 = 4 / 3
NO_LABEL, TOP = "(no label)", "(top folder)"
MOST_POINTS = 200_000
Say = Callable[[str], None]


@dataclass(frozen=True)
class MapOptions:
    """How a map is drawn.

    window_s: a point a window, as of `collect`.
    layout: see `choose_layout`.
    labels: a table path,label; None: folders are the labels.
    play: "embed" (clips are in the page), "link" (it plays the recordings where they lie), "none", or "auto": embed, as
        long as clips have less than `MOST_EMBEDDED` bytes.
    clip_s: seconds of a clip. title: None: of the folders.
    """

    window_s: float | str | None = AUTO
    layout: str = "auto"
    labels: Path | None = None
    play: str = "auto"
    clip_s: float = 3.0
    title: str | None = None


@dataclass(frozen=True)
class MapSummary:
    """What was drawn."""

    points: int
    recordings: int
    labels: int
    layout: str
    play: str
    bytes: int
    unlabelled: int


def draw_map(
    paths: Sequence[str | os.PathLike[str]],
    output: Path,
    model: HearModel,
    options: MapOptions,
    *,
    root: Path | None = None,
    progress: Callable[[CorpusSummary], None] | None = None,
    say: Say = lambda text: None,
) -> tuple[MapSummary, list[Failure]]:
    """Write the page; returns what it holds, and the recordings that could not be read.

    Args:
        root: where embeddings are kept, see `collect`.
        say: is told what is being done.

    Raises UsageError before anything is embedded: a layout that is not installed, labels of other recordings.
    """
    choose_layout(options.layout)
    label_of = _labels(options.labels, paths)
    collection, failures = collect(paths, model, window_s=options.window_s, root=root, progress=progress)
    n = len(collection.vectors)
    if n > MOST_POINTS:
        raise UsageError(f"{n:,} points are more than a page shows ({MOST_POINTS:,}). Give a longer --window.")
    layout = choose_layout(options.layout, n)
    say(f"laying {n} points out by {NAMES[layout]}")
    places = lay_out(collection.vectors, layout)
    points = [
        Point(
            collection.files[which],
            collection.names[which],
            label_of(collection.files[which], collection.names[which]),
            (float(x), float(y)),
            collection.part_s(row),
        )
        for row, (which, (x, y)) in enumerate(zip(collection.recording.tolist(), places, strict=True))
    ]
    play = _how_to_play(options, n)
    clips = _clips(points, options.clip_s, say) if play == "embed" else None
    text = map_page(
        points,
        title=options.title or ", ".join(Path(os.path.abspath(path)).name for path in paths[:3]),
        about=_about(collection, model, layout, play, options),
        clips=clips,
        links_from=output.parent if play == "link" else None,
    ).encode("utf-8", "replace")
    write_atomically(output, text)
    named = {point.label for point in points}
    without = len({point.file for point in points if point.label == NO_LABEL})
    return MapSummary(n, len(collection.files), len(named), layout, play, len(text), without), failures


def check_map(options: MapOptions) -> None:
    """UsageError for options that cannot be, before a model is loaded."""
    choose_layout(options.layout)
    check_window(options.window_s)
    if options.play not in PLAY:
        raise UsageError(f"play={options.play!r} is unknown. Use one of {', '.join(PLAY)}.")
    if not 0.1 <= options.clip_s <= 60:
        raise UsageError(f"clips of {options.clip_s:g} s: give 0.1 to 60 seconds.")
    if options.play == "embed" and not can_encode():
        raise UsageError("This libsndfile cannot write MP3. Install another soundfile, or use --play link.")


def _how_to_play(options: MapOptions, n: int) -> str:
    if options.play != "auto":
        return options.play
    window_s = options.window_s if isinstance(options.window_s, (int, float)) else options.clip_s
    seconds = min(options.clip_s, window_s)
    return "embed" if can_encode() and n * seconds * BYTES_A_SECOND <= MOST_EMBEDDED else "link"


def _clips(points: Sequence[Point], clip_s: float, say: Say) -> list[str | None]:
    found: list[str | None] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, len(points), 64):  # in parts, so that Ctrl-C does not wait for all
            part = points[start : start + 64]
            found += pool.map(lambda point: clip_text(point.file, point.part_s, clip_s), part)
            say(f"cutting clips: {len(found)} of {len(points)}")
    return found


def _about(collection: Collection, model: HearModel, layout: str, play: str, options: MapOptions) -> str:
    name = model.checkpoint.name if model.checkpoint else model.family
    what = f"{len(collection.files)} recordings"
    n = len(collection.vectors)
    if isinstance(options.window_s, (int, float)):
        what += f", {n} windows of {options.window_s:g} s"
    elif n > len(collection.files):
        what += f", long ones in windows: {n} points"
    heard = {
        "embed": f" A point plays its loudest {options.clip_s:g} s at most.",
        "link": " A point plays its recording from where it lies: keep the page there.",
        "none": "",
    }[play]
    return f"{what}, embedded by {name}, laid out by {NAMES[layout]}.{heard}"


# ------------------------------------------------------------------------------------------------------------- labels
def _labels(table: Path | None, paths: Sequence[str | os.PathLike[str]]) -> Callable[[Path, str], str]:
    """What a recording's label is: of the table, else the first folder that it lies in."""
    if table is None:
        return lambda file, name: Path(name).parts[0] if len(Path(name).parts) > 1 else TOP
    rows = {os.path.normpath(clip.file): "; ".join(clip.labels) or NO_LABEL for clip in read_table(table).clips}
    sources, _ = find_audio_files(paths)
    by_place: dict[Path, str] = {}
    for source in sources:
        label = next((rows[name] for name in _spellings(source, table) if name in rows), None)
        if label is not None:
            by_place[source.path] = label
    if not by_place:
        raise UsageError(f"{shown(table)} names none of these recordings. Write their paths below the folder.")
    return lambda file, name: by_place.get(file, NO_LABEL)


def _spellings(source: AudioFile, table: Path) -> list[str]:
    """How a table may name a recording: below the folder, beside the table, in full, by its name alone."""
    path = os.path.abspath(source.path)
    name = os.path.normpath(source.name)
    beside = os.path.relpath(path, os.path.abspath(table.parent))
    given = [name, beside, path, os.path.normpath(source.path), os.path.basename(path)]
    return [*given, *(os.path.splitext(one)[0] for one in given)]
