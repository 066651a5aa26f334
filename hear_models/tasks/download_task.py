"""The archives of HEAR's tasks: fetched, remembered, unpacked, made at a model's rate, checked; one task at a time.

While a task is on its way, its archive and what belongs to it lie in `.hear-models-downloads` beside the folder of
tasks, since the released kit takes every entry of that folder for a task.
"""

from __future__ import annotations

import datetime
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hear_models.errors import FileError, HearModelsError, UsageError
from hear_models.fetching.download import digests, fetch
from hear_models.fetching.known import KnownFiles
from hear_models.fetching.listing import Place, Remote
from hear_models.fetching.unpacking import unpack
from hear_models.files import remove_file, remove_folder, remove_left_over, unwritable
from hear_models.locks import beside, only_writer
from hear_models.tasks.check import Finding, TaskReport, check_task
from hear_models.tasks.known_tasks import ARCHIVE_RATE, RATES, RECORD_NUMBER, KnownTask, known_tasks
from hear_models.tasks.resample_task import resample_task
from hear_models.tasks.task import PAPER_TEN, is_called, near_tasks, read_task

DOWNLOADS = ".hear-models-downloads"
LOCK = "tasks.lock.json"
BYTES_PER_SAMPLE = 2
SPARE = 1.1  # of what is reckoned: file systems round up, tables and headers come on top
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How; see `hear-models tasks download --help`."""

    rate: int = 16000
    only_rate: bool = False
    keep_archives: bool = False
    lock: Path | None = None
    workers: int = 1


@dataclass(frozen=True)
class Step:
    """What is to be done for one task, and the bytes that it takes."""

    task: KnownTask
    archive_bytes: int | None  # None: the server does not tell, or nothing is to be fetched
    to_fetch: bool
    to_unpack: bool
    to_resample: bool

    @property
    def done(self) -> bool:
        """Whether everything is there."""
        return not (self.to_fetch or self.to_unpack or self.to_resample)

    def at_rate(self, rate: int) -> int:
        """Bytes of the task's clips at a rate, from the hours that HEAR's pages state."""
        hours = re.search(r"[\d.]+", str(self.task.hours))  # of one task ">100"
        return round(float(hours[0]) * 3600 * rate * BYTES_PER_SAMPLE) if hours else 0

    def needs(self, options: Options) -> tuple[int, int]:
        """(bytes at the most while it is made, bytes that stay)."""
        archive = (self.archive_bytes or self.at_rate(ARCHIVE_RATE)) if self.to_fetch else 0
        source = self.at_rate(ARCHIVE_RATE) if self.to_unpack else 0
        made = self.at_rate(options.rate) if self.to_resample else 0
        stays = made + (0 if options.only_rate else source) + (archive if options.keep_archives else 0)
        return archive + source + made, stays


@dataclass(frozen=True)
class Plan:
    """What a call is about to do."""

    steps: list[Step]
    remotes: dict[str, Remote]
    most_bytes: int  # that are taken at once
    stays_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Downloaded:
    """A task that is there."""

    name: str
    clips: int
    rates: tuple[int, ...]
    new: bool
    findings: tuple[Finding, ...]  # of `tasks check`, warnings and notes; errors raise


def chosen_tasks(names: Sequence[str]) -> list[KnownTask]:
    """The tasks that are meant; none named: the papers' ten. UsageError for an unknown name."""
    wanted = list(names) or [PAPER_TEN]
    for name in wanted:
        if not any(is_called(folder, name) for folder in known_tasks()):
            near = near_tasks(name, known_tasks())
            raise UsageError(f"HEAR has no task {name!r}. {near}`hear-models tasks list` shows all of them.")
    return [task for folder, task in known_tasks().items() if any(is_called(folder, name) for name in wanted)]


def plan(tasks_dir: Path, names: Sequence[str], options: Options) -> Plan:
    """What is there, what is to be done, and the room that it takes. Asks the server, fetches nothing.

    Raises UsageError: an unknown task or rate; HearModelsError: the server; FileError: the folder.
    """
    if options.rate not in RATES:
        raise UsageError(f"{options.rate} Hz is no rate of HEAR's tasks. Use one of {', '.join(map(str, RATES))}.")
    tasks = chosen_tasks(names)
    try:
        downloads(tasks_dir).mkdir(parents=True, exist_ok=True)
        tasks_dir.mkdir(exist_ok=True)
    except OSError as error:
        raise FileError(unwritable(tasks_dir, error, "Choose another folder.")) from None
    drafts = [_step(tasks_dir, task, None, options) for task in tasks]
    remotes: dict[str, Remote] = {}
    if any(step.to_fetch for step in drafts):
        remotes = {remote.name: remote for remote in _record().files()}
    steps = []
    for draft in drafts:
        remote = remotes.get(_archive_name(draft.task))
        if draft.to_fetch and remote is None:
            raise HearModelsError(
                f"the record has no {_archive_name(draft.task)}, the archive of {draft.task.folder}. It has: "
                f"{', '.join(sorted(remotes)[:30]) or 'nothing'}."
            )
        steps.append(_step(tasks_dir, draft.task, remote.expected.n_bytes if remote else None, options))
    stays = most = 0
    for step in steps:
        peak, left = step.needs(options)
        most = max(most, stays + peak)
        stays += left
    return Plan(steps, remotes, round(SPARE * most), round(SPARE * stays), shutil.disk_usage(tasks_dir).free)


def download(
    tasks_dir: Path, planned: Plan, options: Options, tell: Tell, progress: Tell = lambda line: None
) -> Iterator[Downloaded]:
    """Do what is planned; yields tasks as they are done. What a stopped run did is kept, and gone on with.

    Raises:
        HearModelsError: the server, an archive, a task that is broken; FileError: the disk, and if it is too small.
    """
    if planned.most_bytes > planned.free_bytes:
        raise FileError(
            f"{tasks_dir} has {planned.free_bytes / 1e9:.1f} GB free, {planned.most_bytes / 1e9:.1f} are needed. Make "
            "room, take fewer tasks, or add --only-rate, which deletes the 48 kHz clips task by task."
        )
    lock = options.lock if options.lock is not None else downloads(tasks_dir) / LOCK
    known = KnownFiles(lock)
    remove_left_over(downloads(tasks_dir))
    for step in planned.steps:
        folder = tasks_dir / step.task.folder
        with only_writer(beside(downloads(tasks_dir) / step.task.folder), folder, "folder", wait=tell):
            archive = downloads(tasks_dir) / _archive_name(step.task)
            now = _step(tasks_dir, step.task, step.archive_bytes, options)  # another run may have been there
            if now.to_unpack:
                _fetch(step.task, planned.remotes, archive, known, tell, progress)
            report = make_task(archive if now.to_unpack else None, folder, ARCHIVE_RATE, options, tell, progress)
            if not options.keep_archives:
                remove_file(archive)
        rates = tuple(read_task(folder).rates())
        yield Downloaded(step.task.folder, report.clips, rates, not now.done, tuple(report.findings))


def downloads(tasks_dir: Path) -> Path:
    """Where archives lie."""
    return tasks_dir.absolute().parent / DOWNLOADS


def _record() -> Place:
    return Place("zenodo", f"https://zenodo.org/records/{RECORD_NUMBER}", (RECORD_NUMBER,))


def _archive_name(task: KnownTask) -> str:
    return task.tarball.replace("RATE", str(ARCHIVE_RATE))


def _step(tasks_dir: Path, task: KnownTask, archive_bytes: int | None, options: Options) -> Step:
    folder = tasks_dir / task.folder
    there = folder.is_dir()
    has_rate, has_source = (folder / str(options.rate)).is_dir(), (folder / str(ARCHIVE_RATE)).is_dir()
    if there and not (has_rate or has_source):
        raise UsageError(f"{folder} is there, without clips at {options.rate} or {ARCHIVE_RATE} Hz. Move it away.")
    unpacked = there and (has_source or (has_rate and options.only_rate) or options.rate != ARCHIVE_RATE)
    archive = downloads(tasks_dir) / _archive_name(task)
    return Step(task, archive_bytes, not unpacked and not archive.is_file(), not unpacked, not has_rate)


def _fetch(
    task: KnownTask, remotes: dict[str, Remote], archive: Path, known: KnownFiles, tell: Tell, progress: Tell
) -> None:
    remote = remotes.get(archive.name)
    if archive.is_file():
        got = digests(archive)
        wrong = got.differs_from(known.expected(task.folder, archive.name, remote.expected)) if remote else None
        if wrong is None:
            known.note(task.folder, _record().address, {archive.name: got}, datetime.date.today().isoformat())
            return
    if remote is None:
        raise FileError(f"{archive} was removed while this ran. Run the same command again.")

    def say(done: int, whole: int | None) -> None:
        progress(f"{task.folder}: {done / 1e6:,.0f}" + (f" of {whole / 1e6:,.0f} MB" if whole else " MB"))

    size = remote.expected.n_bytes
    tell(f"{task.folder}: fetching" + (f" {size / 1e6:,.0f} MB" if size else ""))
    got = fetch(remote.url, archive, remote.expected, say, page=remote.page)
    known.note(task.folder, _record().address, {archive.name: got}, datetime.date.today().isoformat())


def make_task(
    archive: Path | None, folder: Path, source_rate: int, options: Options, tell: Tell, progress: Tell
) -> TaskReport:
    """An archive unpacked to `folder`, the clips at the rate made from those at `source_rate`; a report without errors.

    Args:
        archive: None: it is unpacked already.

    Raises HearModelsError: the archive, or a task that is broken; FileError: the disk.
    """

    def of_clips(done: int, total: int) -> None:
        progress(f"{folder.name}: {done} of {total} clips at {options.rate} Hz")

    remove_left_over(folder)
    if archive is not None:
        tell(f"{folder.name}: unpacking")
        unpack(archive, folder, lambda n: progress(f"{folder.name}: {n} files unpacked"))
    if not (folder / str(options.rate)).is_dir():
        tell(f"{folder.name}: resampling to {options.rate} Hz")
        resample_task(
            read_task(folder), options.rate, source_rate=source_rate, workers=options.workers, progress=of_clips
        )
    tell(f"{folder.name}: checking")
    report = check_task(folder, sample_rates=(options.rate,))
    if not report.ok:
        first = next(finding for finding in report.findings if finding.level == "error")
        raise HearModelsError(
            f"{folder} is not whole: {first.text}. `hear-models tasks check {folder.parent} {folder.name}` says all; "
            "move the folder away, and run the same command again."
        )
    if options.only_rate and options.rate != source_rate:
        _delete(folder / str(source_rate), downloads(folder.parent))
    return report


def _delete(clips: Path, aside: Path) -> None:
    """Delete a folder of clips, which has its name to the end or not at all."""
    if clips.is_dir():
        try:
            remove_folder(clips, aside)
        except OSError as error:
            raise FileError(f"{clips} cannot be deleted: {error.strerror or error}. Check its permissions.") from None
