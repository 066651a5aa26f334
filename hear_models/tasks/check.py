"""`hear-models tasks check`: everything that is missing, extra or broken in a folder of tasks, said exactly.

Reading a task (tasks.py) stops at the first mistake; here all are collected. An error is what makes a judge fail or a
score wrong, ours or that of the released kit; a warning is worth knowing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hear_models.datasets.findings import ERROR, NOTE, WARNING, Finding
from hear_models.files import is_left_over
from hear_models.tasks.check_labels import (
    alike,
    canonical,
    classes_without_clips,
    divisions,
    late_and_tiny_events,
    loosely,
    unknown_metric,
)
from hear_models.tasks.known_tasks import RATES, known_tasks
from hear_models.tasks.origin import UNOFFICIAL, Content, differences, origin_of
from hear_models.tasks.resample_task import unfinished
from hear_models.tasks.task import (
    EVENT,
    METADATA,
    VOCABULARY,
    TaskError,
    begins_with_mark,
    item_problem,
    labels_said,
    metadata_problem,
    read_items,
    read_task_json,
    read_vocabulary,
    task_folders,
)
from hear_models.tasks.wav_header import WavHeader, read_header

if TYPE_CHECKING:
    from hear_models.tasks.clip_sounds import Sound

BATCH = 1024  # rows of a training batch of the kit; its BatchNorm fails on a last batch of one
THREADS = 8
LEFT_OVER = "left by a run that was killed, or of one that is going on"
Progress = Callable[[str, int, int], None]  # task's name, clips looked at, clips in all


@dataclass
class TaskReport:
    """What was found in one task folder."""

    name: str
    is_task: bool = True  # False: about the folder that holds the tasks
    origin: str | None = None  # None: too broken to tell
    clips: int = 0
    rates: tuple[int, ...] = ()  # Hz, those looked at
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True if there is no error; warnings do not count."""
        return not any(finding.level == ERROR for finding in self.findings)

    def add(self, level: str, text: str, files: Sequence[str] = (), *, kit_only: bool = False) -> None:
        self.findings.append(Finding(level, text, tuple(files), kit_only))

    def first_error(self, *, of_the_kit: bool) -> Finding | None:
        """What makes a score wrong, or a judge fail; of the released kit too, if asked for."""
        errors = (finding for finding in self.findings if finding.level == ERROR)
        return next((finding for finding in errors if of_the_kit or not finding.kit_only), None)


def check_tasks(
    tasks_dir: str | Path,
    only: Sequence[str] = (),
    *,
    sample_rates: Sequence[int] = (),
    full: bool = False,
    progress: Progress | None = None,
) -> list[TaskReport]:
    """Check every task of a folder, or those that `only` names; or one task, if `tasks_dir` is one.

    Looks at the sample rates [Hz] that are there, or at those given; reads headers, with `full` every sample.
    Without `only`, entries of `tasks_dir` that are no tasks are reported too, under the name of the folder: the
    released kit takes every entry for a task. Raises UsageError if there is nothing to check.
    """
    root = Path(tasks_dir)
    if not only and (root / METADATA).is_file():
        return [check_task(root, sample_rates=sample_rates, full=full, progress=progress)]
    folders = task_folders(root, only)
    reports = []
    if not only:
        tasks = [folder for folder in folders if _looks_like_a_task(folder)]
        names = sorted(entry.name for entry in root.iterdir() if entry not in tasks)
        left, strangers = [n for n in names if is_left_over(n)], [n for n in names if not is_left_over(n)]
        report = TaskReport(root.absolute().name or str(root), is_task=False)
        if left:
            report.add(ERROR, f"{LEFT_OVER}; the released kit takes it for a task and fails. Remove it", left)
        if strangers:
            text = "no task; the released kit takes every entry of the folder for one and fails. Move it away"
            report.add(ERROR, text, strangers, kit_only=True)
        if names:
            reports.append(report)
        folders = tasks
    for folder in folders:
        reports.append(check_task(folder, sample_rates=sample_rates, full=full, progress=progress))
    return reports


def _looks_like_a_task(folder: Path) -> bool:
    return any((folder / name).exists() for name in (METADATA, VOCABULARY, "train.json", "fold00.json"))


def check_task(
    folder: str | Path,
    *,
    name: str | None = None,
    sample_rates: Sequence[int] = (),
    full: bool = False,
    progress: Progress | None = None,
) -> TaskReport:
    """Check one task folder; see `check_tasks`. `name`: what it will be called, if not as the folder is now."""
    path = Path(folder)
    report = TaskReport(name or path.absolute().name)
    try:
        metadata = read_task_json(path / METADATA)
    except TaskError as error:
        report.add(ERROR, _without_advice(error, path))
        return report
    problem = metadata_problem(metadata) if isinstance(metadata, dict) else "no JSON object"
    if problem:
        report.add(ERROR, f"{METADATA}: {problem}")
        return report
    if problem := unknown_metric(metadata):
        report.add(ERROR, problem)
    texts = [METADATA, VOCABULARY, *(f"{split}.json" for split in metadata["splits"])]
    if marked := [name for name in texts if begins_with_mark(path / name)]:
        report.add(ERROR, "begins with a byte order mark, at which the released kit fails", marked, kit_only=True)
    try:
        labels = read_vocabulary(path)
    except TaskError as error:
        report.add(ERROR, _without_advice(error, path))
        labels = ()
    splits = _check_splits(path, metadata, frozenset(labels), report)
    if labels and len(splits) == len(metadata["splits"]):
        _check_content(report, metadata, labels, splits)
    _check_entries(path, metadata, report)
    _check_audio(path, metadata, splits, sample_rates, full, report, progress)
    return report


# ------------------------------------------------------------------------------------------ labels and splits


def _check_splits(
    path: Path, metadata: dict[str, Any], labels: frozenset[str], report: TaskReport
) -> dict[str, dict[str, list[Any]]]:
    """SPLIT.json of every split that can be read."""
    splits: dict[str, dict[str, list[Any]]] = {}
    seen: dict[str, tuple[str, str]] = {}  # name, as Unicode holds it for the same → name and split
    for split in metadata["splits"]:
        try:
            items = read_items(path, split)
        except TaskError as error:
            report.add(ERROR, _without_advice(error, path))
            continue
        if not items:
            report.add(ERROR, f"{split}.json is empty: a split without clips")
        good = {}
        for file, entries in items.items():
            problem = item_problem(file, entries, metadata, labels) if labels else None
            if problem:
                report.add(ERROR, f"{split}.json: {problem}")
                continue
            good[file] = entries
            other, where = seen.setdefault(canonical(file), (file, split))
            if (other, where) != (file, split):
                spelled = "" if other == file else f" in two Unicode spellings ({other!a} and {file!a})"
                text = f"{file!r} stands in {where}.json and in {split}.json{spelled}: names must be unique"
                report.add(ERROR, text)
        splits[split] = good
    return splits


def _check_content(
    report: TaskReport, metadata: dict[str, Any], labels: Sequence[str], splits: dict[str, dict[str, list[Any]]]
) -> None:
    """Counts, labels that are never said, and what is known to trip the kit."""
    counts = {split: len(items) for split, items in splits.items()}
    report.clips = sum(counts.values())
    said = labels_said(splits)
    content = Content(metadata, counts, labels, said)
    report.origin = origin_of(report.name, content)
    if known := known_tasks().get(report.name):
        for difference in differences(report.name, content) if report.origin == UNOFFICIAL else []:
            report.add(WARNING, f"not the published task ({difference}); results are marked {UNOFFICIAL}")
        if known.note and report.origin == UNOFFICIAL:
            report.add(NOTE, f"published description: {known.note}")
    for same in alike(labels, canonical):
        report.add(ERROR, f"one label in {len(same)} Unicode spellings: {', '.join(map(ascii, same))}. Write one")
    for same in alike(labels, loosely):
        if len({canonical(label) for label in same}) > 1:
            report.add(WARNING, f"labels that differ in case, spaces or form only: {', '.join(map(repr, same))}")
    unused = [label for label in labels if label not in said]
    if unused:
        report.add(WARNING, f"{len(unused)} of {len(labels)} labels occur in no clip: {_few(unused)}")
    for text in classes_without_clips(labels, splits, metadata["evaluation"]):
        report.add(WARNING, text)
    for trained_on, rows in training_rows(counts).items():
        if metadata["embedding_type"] != EVENT and rows % BATCH == 1:
            text = f"{rows} training clips ({trained_on}) leave a last batch of one: the released kit fails on it"
            report.add(ERROR, f"{text}. Add or drop a clip", kit_only=True)
    own_name, called = report.name, metadata.get("task_name")
    if not isinstance(called, str) or not called:
        report.add(ERROR, f"{METADATA} has no task_name, which the released kit reads", kit_only=True)
    elif not own_name.startswith(f"{called}-") and own_name != called:
        report.add(NOTE, f"{METADATA} says task_name {called!r}; the folder's name counts ({own_name})")
        if called == "dcase2016_task2":
            report.add(WARNING, "by that task_name the released kit validates every 10 epochs instead of every 3")


def training_rows(counts: dict[str, int]) -> dict[str, int]:
    """What is trained on → clips: train, or for every test fold all but it and the next one."""
    return {
        "train" if trained == ("train",) else f"without {test} and {valid}": sum(counts[split] for split in trained)
        for test, valid, trained in divisions(list(counts))
    }


# ------------------------------------------------------------------------------------------ files


def _check_entries(path: Path, metadata: dict[str, Any], report: TaskReport) -> None:
    """What lies in the task's folder and belongs to nothing."""
    expected = {METADATA, VOCABULARY, *(f"{split}.json" for split in metadata["splits"]), *map(str, RATES)}
    there = sorted(entry.name for entry in path.iterdir() if entry.name not in expected)
    halves = {unfinished(path, rate).name: rate for rate in RATES}
    for name in there:
        if name in halves:
            rate = halves[name]
            text = f"resampling to {rate} Hz was not finished: `hear-models tasks resample` goes on, or remove it"
            report.add(WARNING, text, [name])
    if left := [name for name in there if is_left_over(name)]:
        report.add(WARNING, f"{LEFT_OVER}. Remove it", left)
    extra = [name for name in there if name not in halves and not is_left_over(name)]
    if extra:
        report.add(WARNING, "extra in the task's folder, read by nobody", extra)


def _check_audio(
    path: Path,
    metadata: dict[str, Any],
    splits: dict[str, dict[str, list[Any]]],
    sample_rates: Sequence[int],
    full: bool,
    report: TaskReport,
    progress: Progress | None,
) -> None:
    rates = list(sample_rates) or [rate for rate in RATES if (path / str(rate)).is_dir()]
    report.rates = tuple(rates)
    if not rates:
        report.add(ERROR, f"no audio: none of the folders {', '.join(map(str, RATES))} is there")
    total = len(rates) * sum(map(len, splits.values()))
    done = 0
    for rate in rates:
        files = [f"{rate}/{split}/{file}" for split, items in splits.items() for file in items]
        there = {
            f"{rate}/{split}/{name}"
            for split in metadata["splits"]
            if (path / str(rate) / split).is_dir()
            for name in os.listdir(path / str(rate) / split)
        }
        stray = {f"{rate}/{name}" for name in _names(path / str(rate)) if name not in metadata["splits"]}
        missing = [name for name in files if name not in there]
        if missing:
            spelled = {canonical(name) for name in there - set(files)}
            other = sum(canonical(name) in spelled for name in missing)
            hint = f"; {other} are there under another Unicode spelling of the name" if other else ""
            report.add(ERROR, f"missing at {rate} Hz: {len(missing)} of {len(files)} clips{hint}", missing)
        others = (there - set(files)) | stray
        if left := sorted(name for name in others if is_left_over(name.rpartition("/")[2])):
            report.add(WARNING, f"{LEFT_OVER}. Remove it", left)
        if extra := sorted(others - set(left)):
            report.add(WARNING, f"extra at {rate} Hz: {len(extra)} that no SPLIT.json names", extra)
        present = [name for name in files if name in there]
        results: list[WavHeader | str] = []
        sounds: dict[str, Sound] = {}
        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, len(present), 512):
                part = present[start : start + 512]
                for name, (header, sound) in zip(part, pool.map(lambda n: _look_at(path / n, full), part), strict=True):
                    results.append(header)
                    if sound is not None:
                        sounds[name] = sound
                if progress:
                    progress(report.name, done + len(results), total)
        done += len(files)
        headers = dict(zip(present, results, strict=True))
        _judge_audio(headers, rate, metadata["sample_duration"], report)
        _judge_sounds(sounds, rate, report)
        if metadata["embedding_type"] == EVENT and rate == rates[0]:
            seconds = {}
            for name, header in headers.items():
                _, split, file = name.split("/", 2)
                if isinstance(header, WavHeader):
                    seconds[split, file] = header.frames / rate
            for wrong, text in late_and_tiny_events(splits, seconds):
                report.add(ERROR if wrong else WARNING, text)


def _names(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _look_at(path: Path, full: bool) -> tuple[WavHeader | str, Sound | None]:
    """The header, or why there is none; and with `full` what is heard."""
    try:
        header = read_header(path)
        if not full:
            return header, None
        from hear_models.tasks.clip_sounds import listen

        sound = listen(path)
        if isinstance(sound, str):
            return sound, None
        if sound.samples != header.frames_promised:
            return f"{sound.samples} of {header.frames_promised} samples could be decoded", None
        return header, sound
    except (ValueError, RuntimeError, OSError) as error:
        return str(error).replace(f"{str(path)!r}: ", ""), None


def _judge_sounds(sounds: dict[str, Sound], rate: int, report: TaskReport) -> None:
    """Copies and silence; nothing where no clip was decoded."""
    if not sounds:
        return
    from hear_models.tasks.clip_sounds import copies, silent

    if names := silent(sounds):
        report.add(WARNING, f"silent at {rate} Hz: every sample of {len(names)} clips is the same", names)
    found = copies(sounds)
    for torn, level, text in (
        (True, ERROR, "of the same sound lie in several splits, so that what is tested was trained on"),
        (False, WARNING, "of the same sound lie in one split and count more than once"),
    ):
        groups = [" = ".join(group.files) for group in found if group.torn == torn]
        if groups:
            report.add(level, f"copies at {rate} Hz: {len(groups)} groups of clips {text}", groups)


def _judge_audio(
    clips: dict[str, WavHeader | str], rate: int, sample_duration: float | None, report: TaskReport
) -> None:
    """Group the clips by what is wrong with them; a sentence each."""
    wrong: dict[tuple[str, str], list[str]] = {}
    lengths: Counter[int] = Counter()
    wanted = None if sample_duration is None else round(sample_duration * rate)
    for name, header in clips.items():
        if isinstance(header, str):
            problem = (ERROR, f"broken at {rate} Hz: {header}")
        elif header.frames < header.frames_promised:
            problem = (ERROR, f"broken at {rate} Hz: cut off, the header promises more samples than there are")
        elif header.sample_rate != rate:
            problem = (ERROR, f"at {header.sample_rate} Hz in the folder {rate}")
        elif header.channels != 1:
            problem = (ERROR, f"{header.channels} channels at {rate} Hz, clips must be mono")
        elif not header.frames:
            problem = (ERROR, f"no samples at {rate} Hz")
        elif wanted is not None and abs(header.frames - wanted) > max(2, rate // 1000):
            problem = (ERROR, f"another length than sample_duration {sample_duration} s at {rate} Hz")
        elif header.subtype != "PCM_16":
            problem = (WARNING, f"{header.subtype} at {rate} Hz, HEAR's clips are PCM_16 in WAV")
        else:
            lengths[header.frames] += 1
            continue
        wrong.setdefault(problem, []).append(name)
    for (level, text), names in sorted(wrong.items()):
        report.add(level, text, names)
    if wanted is not None and len(lengths) > 1:
        shown = ", ".join(f"{count} of {frames} samples" for frames, count in lengths.most_common(3))
        text = f"lengths differ at {rate} Hz ({shown}): the released kit cannot batch them"
        report.add(ERROR, text, kit_only=True)


def _few(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _without_advice(error: TaskError, path: Path) -> str:
    """The error's first sentence, with paths relative to the task."""
    return str(error).replace(f"{path}{os.sep}", "").rsplit(". ", 1)[0]
