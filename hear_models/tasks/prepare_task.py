"""Tasks of HEAR from archives that were fetched by hand, at any rate: unpacked, made at a model's rate, checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hear_models.errors import FileError, UsageError
from hear_models.fetching.download import make_sure_of_room
from hear_models.files import remove_left_over, shown, unwritable
from hear_models.foreign import is_plain, walk
from hear_models.locks import beside, only_writer
from hear_models.tasks.download_task import Downloaded, Options, Tell, downloads, make_task
from hear_models.tasks.known_tasks import ARCHIVE_RATE, RATES, known_tasks
from hear_models.tasks.task import is_called, near_tasks, read_task

FOLDED = 2  # bytes that a byte of packed sound unfolds to, about


@dataclass(frozen=True)
class Archive:
    """A file whose name is that of an archive of HEAR."""

    path: Path
    task: str  # the name of its folder
    rate: int  # of its clips, in Hz


def find_archives(places: Sequence[Path], names: Sequence[str], rate: int) -> list[Archive]:
    """The archives among files and below folders, one a task; of several that at `rate`, else that of the highest rate.

    Args:
        names: only these tasks; none: all that are found.

    Raises UsageError: nothing there, a file that is none, a task that none of them holds.
    """
    if rate not in RATES:
        raise UsageError(f"{rate} Hz is no rate of HEAR's tasks. Use one of {', '.join(map(str, RATES))}.")
    found: dict[str, Archive] = {}
    for place in places:
        if place.is_dir():
            paths = [where / name for where, _, files in walk(place) for name in files]
        elif is_plain(place):
            paths = [place]
        else:
            raise UsageError(f"{shown(place)} is no file and no folder. Check the path.")
        archives = [archive for path in paths if (archive := _understood(path)) is not None]
        if not archives:
            like = next(iter(known_tasks().values())).tarball.replace("RATE", str(ARCHIVE_RATE))
            verb = "holds" if place.is_dir() else "is"
            raise UsageError(f"{shown(place)} {verb} no archive of a task of HEAR. Their names are as {like}.")
        for archive in archives:
            other = found.get(archive.task)
            if other is None or _rank(archive, rate) > _rank(other, rate):
                found[archive.task] = archive
    for name in names:
        if not any(is_called(task, name) for task in found):
            there = ", ".join(sorted(found))
            raise UsageError(
                f"none of the archives is of a task {name!r}. {near_tasks(name, found)}There are: {there}."
            )
    return [archive for task, archive in sorted(found.items()) if not names or any(is_called(task, n) for n in names)]


def _understood(path: Path) -> Archive | None:
    for task in known_tasks().values():
        pattern = re.escape(task.tarball).replace("RATE", r"(\d+)")
        if (match := re.fullmatch(pattern, path.name)) and int(match[1]) in RATES:
            return Archive(path, task.folder, int(match[1]))
    return None


def _rank(archive: Archive, rate: int) -> tuple[bool, int]:
    return archive.rate == rate, archive.rate


def prepare(
    tasks_dir: Path, archives: Sequence[Archive], options: Options, tell: Tell, progress: Tell = lambda line: None
) -> Iterator[Downloaded]:
    """Make tasks of archives, which stay where they are; yields them as they are done. What is there is only checked.

    Raises:
        HearModelsError: an archive, a task that is broken; FileError: the disk, and if it is too small.
    """
    try:
        tasks_dir.mkdir(parents=True, exist_ok=True)
        downloads(tasks_dir).mkdir(exist_ok=True)
    except OSError as error:
        raise FileError(unwritable(tasks_dir, error, "Choose another folder.")) from None
    remove_left_over(downloads(tasks_dir))
    for archive in archives:
        folder = tasks_dir / archive.task
        with only_writer(beside(downloads(tasks_dir) / archive.task), folder, "folder", wait=tell):
            there = folder.is_dir()
            has_rate = (folder / str(options.rate)).is_dir()
            if there and not (has_rate or (folder / str(archive.rate)).is_dir()):
                raise UsageError(
                    f"{folder} is there, without clips at {options.rate} or {archive.rate} Hz. Move it away."
                )
            if not there:
                make_sure_of_room(tasks_dir, FOLDED * archive.path.stat().st_size)
            unpacked = None if there else archive.path
            report = make_task(unpacked, folder, archive.rate, options, tell, progress)
        rates = tuple(read_task(folder).rates())
        yield Downloaded(archive.task, report.clips, rates, not has_rate, tuple(report.findings))
