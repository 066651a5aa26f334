"""Recordings as a map on one HTML page: it needs no other file but, if it does not hold the sounds, the recordings.

Names and labels are JSON in an element that is no script, and text wherever they are shown; a content policy with the
hashes of our own style and script lets nothing else run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np

from hear_models.files import as_text
from hear_models.pages import data_element, fill, policy
from hear_models.version import __version__

HERE = Path(__file__).parent
STEPS = 65_535  # of a side of the plane: places are whole numbers


@dataclass(frozen=True)
class Point:
    """A recording or a window of it, and where it lies in [0, 1] x [0, 1]."""

    file: Path
    name: str
    label: str
    place: tuple[float, float]
    part_s: tuple[float, float] | None = None


def map_page(
    points: Sequence[Point],
    *,
    title: str,
    about: str,
    clips: Sequence[str | None] | None = None,
    links_from: Path | None = None,
) -> str:
    """The whole page.

    Args:
        about: one sentence on how it was made.
        clips: an MP3 in base64 for each point (None: it has none).
        links_from: the folder of the page, from which recordings are linked instead; None: nothing is heard.
    """
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("map.css", "map.js"))
    counts: dict[str, int] = {}
    for point in points:
        counts[point.label] = counts.get(point.label, 0) + 1
    labels = sorted(counts, key=lambda label: (-counts[label], label))
    number = {label: index for index, label in enumerate(labels)}
    files: dict[Path, int] = {}
    for point in points:
        files.setdefault(point.file, len(files))
    content = {
        "x": [_whole(point.place[0]) for point in points],
        "y": [_whole(1 - point.place[1]) for point in points],
        "steps": STEPS,
        "names": [as_text(point.name) for point in points],
        "label": [number[point.label] for point in points],
        "labels": [[as_text(label), counts[label]] for label in labels],
        "parts": [point.part_s for point in points] if any(point.part_s for point in points) else None,
        "file": None if links_from is None else [files[point.file] for point in points],
        "links": None if links_from is None else [_link(file, links_from) for file in files],
    }
    sounds = "" if clips is None else data_element("sounds", list(clips))
    media = "media-src data:" if links_from is None else "media-src 'self' file: http: https:"
    parts = {
        "POLICY": policy(style, script, media),
        "TITLE": escape(title),
        "ABOUT": escape(about),
        "STYLE": style,
        "DATA": data_element("data", content),
        "SOUNDS": sounds,
        "SCRIPT": script,
        "VERSION": escape(__version__),
    }
    return fill((HERE / "map.html").read_text(encoding="utf-8"), parts)


def _whole(value: float) -> int:
    return int(np.clip(round(value * STEPS), 0, STEPS))


def _link(file: Path, folder: Path) -> str:
    """A relative address; with ./ in front, so that no name is taken for a scheme."""
    relative = os.path.relpath(os.path.abspath(file), os.path.abspath(folder)).replace(os.sep, "/")
    return "./" + quote(os.fsencode(relative))
