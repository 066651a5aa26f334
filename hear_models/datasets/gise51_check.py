"""Whether a folder of sounds can be mixed or trained on: GISE-51's record, a library of one's own, labelled clips."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from hear_models.datasets.findings import ERROR, NOTE, WARNING, Finding
from hear_models.datasets.gise51 import LARGEST_LIST, LabelledClip, labelled_clips, read_label_map
from hear_models.datasets.gise51_record import ARCHIVE, LOCK, Lock, Manifest, archives_here
from hear_models.datasets.library import Library
from hear_models.datasets.silence import SHORTEST_S
from hear_models.errors import AudioFileError, FileError, HearModelsError, UsageError
from hear_models.fetching.download import digests
from hear_models.foreign import read_text
from hear_models.resources import resource

SECOND_HAND = {"train": 12_465, "val": 1_716, "eval": 2_176}  # clips of the isolated events, as others report them
LABEL_MAP = "lbl_map.json"

Progress = Callable[[str], None]


@dataclass
class Report:
    """What was found in one folder or file."""

    name: str
    kind: str  # "record", "events", "labelled clips", "lists"
    clips: int = 0
    hours: float = 0.0
    labels: dict[str, int] = field(default_factory=dict)  # clips that have it
    rates: dict[int, int] = field(default_factory=dict)  # recordings by sample rate in Hz
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing that makes mixing or training fail."""
        return all(finding.level != ERROR for finding in self.findings)

    def say(self, level: str, text: str, files: Iterable[str] = ()) -> None:
        """Add a finding."""
        self.findings.append(Finding(level, text, tuple(files)))


def classes_of_gise51() -> tuple[str, ...]:
    """The 51 labels in the order of their numbers."""
    return tuple(json.loads((resource("weights") / "labels" / "gise51.json").read_text("utf-8")))


def check(path: Path, *, full: bool = False, progress: Progress = lambda line: None) -> list[Report]:
    """Look at a folder of the record, a library of events, or labelled clips; one report for each part.

    Args:
        full: decode every recording and compare every digest, rather than look at headers and sizes.

    Raises:
        UsageError: there is nothing of that kind at `path`.
    """
    if not path.exists():
        raise UsageError(f"{path} is not there. Give the folder of `hear-models gise51 download`, or of your sounds.")
    if path.is_dir() and ((path / LOCK).exists() or any(path.glob("*.files.tsv"))):
        return _check_record(path, full, progress)
    if path.is_dir() and (libraries := libraries_below(path)):
        return [check_library(folder, full=full, progress=progress) for folder in libraries]
    return [check_clips(path, full=full, progress=progress)]


def libraries_below(path: Path) -> list[Path]:
    """The folder itself if its subfolders hold recordings, else those of its subfolders that are such folders."""
    for folders in ([path], sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))):
        found = [folder for folder in folders if any(_recordings_of_labels(folder))]
        if found:
            return found
    return []


def _recordings_of_labels(folder: Path) -> Iterable[Path]:
    """Recordings two levels down that have no annotations beside them: those are mixtures, not events."""
    for suffix in (".wav", ".flac"):
        for path in folder.glob(f"[!.]*/[!.]*{suffix}"):
            if not path.with_suffix(".txt").exists():
                yield path


def _check_record(folder: Path, full: bool, progress: Progress) -> list[Report]:
    whole = Report(folder.name, "record")
    lock = Lock(folder)
    reports = [whole]
    for name in archives_here(folder):
        archive, manifest = folder / f"{name}{ARCHIVE}", Manifest(folder, name)
        known = lock.files.get(archive.name)
        if archive.exists() and known is not None:
            progress(archive.name)
            right = digests(archive) == known if full else archive.stat().st_size == known.n_bytes
            if not right:
                whole.say(ERROR, f"{archive.name} is not what was downloaded: remove it and download it again")
        if not manifest.complete:
            whole.say(ERROR, f"{name} is not unpacked: run `hear-models gise51 download` again")
            continue
        progress(name)
        missing, altered = manifest.compare(full)
        whole.clips += len(manifest.read())
        for what, files in (("missing", missing), ("altered", altered)):
            if files:
                whole.say(ERROR, f"{len(files)} files of {name} are {what}: remove {name}/ and download again", files)
        if name == "meta":
            reports.append(check_lists(folder / name))
        elif name in ("isolated_events", "noises"):
            reports += [check_library(part, full=full, progress=progress) for part in libraries_below(folder / name)]
    for part in reports:
        if part.kind == "events" and part.name in SECOND_HAND and part.clips != SECOND_HAND[part.name]:
            part.say(NOTE, f"others report {SECOND_HAND[part.name]:,} clips in {part.name}")
    return reports


def check_lists(folder: Path) -> Report:
    """The label map and the lists of `meta`: whether they are about the 51 classes that the networks know."""
    report, ours = Report(folder.name, "lists"), classes_of_gise51()
    maps = sorted(folder.rglob(LABEL_MAP))
    if not maps:
        report.say(WARNING, f"there is no {LABEL_MAP}")
    for path in maps:
        name = path.relative_to(folder).as_posix()
        try:
            theirs = read_label_map(path)
        except HearModelsError as error:
            report.say(ERROR, str(error).rstrip("."), [name])
            continue
        report.labels |= dict.fromkeys(theirs, 0)
        if theirs != ours:
            report.say(ERROR, "its classes are not the 51 of the networks, or in another order", [name])
    for path in sorted(folder.rglob("*.csv")):
        _check_table(path, path.relative_to(folder).as_posix(), ours, report)
    return report


def _check_table(path: Path, name: str, classes: Sequence[str], report: Report) -> None:
    try:
        rows = list(csv.reader(io.StringIO(read_text(path, LARGEST_LIST), newline=""), strict=True))
    except (FileError, csv.Error) as error:
        report.say(ERROR, f"it cannot be read ({error})", [name])
        return
    head, body = (rows[0], rows[1:]) if rows else ([], [])
    if not body:
        report.say(WARNING, "it has no rows", [name])
        return
    if uneven := [number for number, row in enumerate(body, 2) if len(row) != len(head)]:
        report.say(ERROR, f"line {uneven[0]} has another number of columns than its head ({len(uneven)} such)", [name])
        return
    report.clips += len(body)
    report.say(NOTE, f"{len(body)} rows of {', '.join(head)}", [name])
    for column in ("label", "labels"):
        if column in head:
            at = head.index(column)
            strange = sorted({part for row in body for part in row[at].split(",")} - {*classes, ""})
            if strange:
                report.say(ERROR, f"{len(strange)} labels are none of the 51 classes, such as {strange[0]!r}", [name])


def check_library(folder: Path, *, full: bool = False, progress: Progress = lambda line: None) -> Report:
    """A folder of events or backgrounds: what cannot be read, is silent, or will be repeated."""
    report = Report(folder.name, "events")
    try:
        library = Library(folder)
    except UsageError as error:
        report.say(ERROR, str(error).rstrip("."))
        return report
    problems: dict[tuple[str, str], list[str]] = {}
    for label, files in library.files.items():
        report.labels[label] = len(files)
        for path in files:
            name = path.relative_to(folder).as_posix()
            progress(f"{folder.name}: {report.clips} of {len(library)} recordings")
            report.clips += 1
            for problem in _problems(library, path, report, full):
                problems.setdefault(problem, []).append(name)
    for (level, text), names in problems.items():
        report.say(level, text, names)
    if loose := [p.name for p in sorted(folder.iterdir()) if p.is_file() and p.suffix.lower() in (".wav", ".flac")]:
        report.say(WARNING, "recordings beside the folders of the labels are not used", loose)
    strange = sorted(set(library.labels) - set(classes_of_gise51()))
    if strange and len(strange) < len(library.labels):
        report.say(NOTE, f"{len(strange)} labels are none of GISE-51's, such as {strange[0]!r}")
    return report


def _problems(library: Library, path: Path, report: Report, full: bool) -> Iterable[tuple[str, str]]:
    try:
        seconds, rate = library.duration_s(path), soundfile.info(path).samplerate
        samples = soundfile.read(path)[0] if full else None
    except (AudioFileError, OSError, soundfile.LibsndfileError):
        yield ERROR, "recordings cannot be read, or are empty"
        return
    report.hours += seconds / 3600
    report.rates[rate] = report.rates.get(rate, 0) + 1
    if seconds < SHORTEST_S - 0.5 / rate:
        yield NOTE, f"recordings are shorter than the {SHORTEST_S:g} s that GISE-51's events have at least"
    if samples is not None and not np.isfinite(samples).all():
        yield ERROR, "recordings hold NaN or infinity"
    elif samples is not None and not np.any(samples):
        yield ERROR, "recordings are silent, which no background may be and no event should be"


def check_clips(path: Path, *, full: bool = False, progress: Progress = lambda line: None) -> Report:
    """Labelled clips in any form that training takes: whether they can be read, and what they are labelled."""
    report = Report(path.name, "labelled clips")
    try:
        for clip in labelled_clips(path):
            progress(f"{path.name}: {report.clips} clips")
            report.clips += 1
            for label in set(clip.labels):
                report.labels[label] = report.labels.get(label, 0) + 1
            _look_at(clip, report, full)
    except HearModelsError as error:
        report.say(ERROR, str(error).rstrip("."))
    return report


def _look_at(clip: LabelledClip, report: Report, full: bool) -> None:
    if not clip.labels:
        report.say(WARNING, "it has no label", [clip.name])
    if full:
        try:
            report.hours += len(clip.read(22_050)) / 22_050 / 3600
        except HearModelsError as error:
            report.say(ERROR, str(error).rstrip("."), [clip.name])
