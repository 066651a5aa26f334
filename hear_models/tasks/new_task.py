"""`hear-models tasks new`: a task folder from a folder of classes, or from a table and recordings."""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hear_models.corpus.discover import Failure
from hear_models.datasets.clip_table import Clip, Table
from hear_models.datasets.labelled import place_of, read_clips
from hear_models.errors import AudioFileError, UsageError
from hear_models.files import shown
from hear_models.pipeline.audio import read_audio
from hear_models.tasks.check import Finding, check_task
from hear_models.tasks.check_labels import alike, canonical
from hear_models.tasks.known_tasks import RATES, known_tasks
from hear_models.tasks.splitting import draw_splits
from hear_models.tasks.task import EVENT, MULTICLASS, MULTILABEL, SCENE, TaskError
from hear_models.tasks.task_writing import (
    EVENT_METRICS,
    METRICS,
    MULTICLASS_METRICS,
    MULTILABEL_METRICS,
    building,
    fit,
    write_task_files,
    write_wav,
)

DEFAULT_FOLDS = 5
VALID_SHARE = 0.15  # of train, where the table has train and test only
SHOWN = 5
TVT = ("train", "valid", "test")


@dataclass(frozen=True)
class TaskOptions:
    """How to build; everything else comes from the table."""

    sample_duration: float | None = None  # seconds; None: clips keep their length
    sample_rates: tuple[int, ...] = (16000,)  # Hz
    prediction_type: str | None = None  # None: multilabel if a clip has not exactly one label
    folds: int | None = None
    shares: tuple[float, float, float] | None = None  # train, valid, test
    metrics: tuple[str, ...] = ()  # the first is the primary one; none: as in HEAR's tasks
    seed: int = 0
    workers: int = 2
    skip_bad: bool = False  # leave out recordings that are missing or broken, instead of refusing all


@dataclass
class NewTask:
    """What was built, and what is worth knowing about it."""

    folder: Path
    kind: str  # "scene, multiclass"
    counts: dict[str, int]  # split → clips
    labels: int
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)  # recordings that were left out


def new_task(
    source: str | Path,
    audio_dir: str | Path | None,
    out: str | Path,
    options: TaskOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NewTask:
    """Build the task folder `out` from labelled recordings: `source` is a folder of classes, or a table.

    docs/tasks.md has the layouts. `audio_dir` is where a table's recordings are; None: in its folder.

    Any format that `hear_models.pipeline.audio` reads; mixed down, resampled, trimmed or padded with zeros at the end
    to `sample_duration`. The folder appears complete or not at all. Raises UsageError for a table or options that
    cannot be used, TaskError for recordings that are missing or broken, unless they are left out (`skip_bad`).
    """
    options, folder = options or TaskOptions(), Path(out)
    _check_options(options, folder)
    table, root = read_clips(Path(source), None if audio_dir is None else Path(audio_dir))
    failed: list[Failure] = []
    paths = _find_recordings(table, root, failed if options.skip_bad else None)
    table = _without(table, failed)
    prediction = _prediction_type(table, options)
    notes = [f"columns not understood and ignored: {', '.join(table.ignored)}"] if table.ignored else []
    split_of, split_mode = _splits(table, options, notes)
    names = _file_names(table.clips)
    splits = sorted(set(split_of.values())) if split_mode != "trainvaltest" else list(TVT)
    with building(folder) as temporary:
        targets = {clip.file: (split_of[clip.file], names[clip.file]) for clip in table.clips}
        lengths, broken = _write_audio(temporary, targets, paths, options, progress)
        table, failed = _without(table, broken), failed + broken
        if empty := [split for split in splits if all(split_of[clip.file] != split for clip in table.clips)]:
            raise TaskError(f"{', '.join(empty)}: no recording is left there. The first one lost: {broken[0].error}")
        duration = options.sample_duration
        if duration is None and len(set(lengths.values())) == 1:
            duration = next(iter(lengths.values())) / options.sample_rates[0]
            notes.append(f"all clips are {duration:g} s long: sample_duration says so")
        items = _items(table, targets, splits, lengths, options, notes)
        labels = sorted(set().union(*(clip.said for clip in table.clips)))
        _refuse_two_spellings(labels)
        if not labels:
            raise UsageError(f"{source} has no label at all. Fill the column label.")
        as_written = {label: int(label) for label in labels} if all(map(_is_plain_int, labels)) else {}
        items = {split: {f: _as_json(said, as_written) for f, said in clips.items()} for split, clips in items.items()}
        metadata = _metadata(
            folder.name, table, prediction, split_mode, splits, duration, options, _source_sha256(Path(source), table)
        )
        write_task_files(temporary, metadata, [as_written.get(label, label) for label in labels], items)
        findings = check_task(temporary, name=folder.absolute().name, full=True).findings
    kind = f"{metadata['embedding_type']}, {prediction}"
    counts = {split: len(items[split]) for split in splits}
    return NewTask(folder, kind, counts, len(labels), notes, findings, failed)


def _without(table: Table, failed: Sequence[Failure]) -> Table:
    """The table without the clips of recordings that cannot be used. TaskError if nothing is left."""
    lost = {failure.path for failure in failed}
    clips = [clip for clip in table.clips if clip.file not in lost]
    if not clips and failed:
        raise TaskError(f"no recording can be used. The first: {failed[0].error}")
    return replace(table, clips=clips)


def _check_options(options: TaskOptions, folder: Path) -> None:
    name = folder.absolute().name
    if name in known_tasks():
        raise UsageError(f"{name} is the name of a task of HEAR. Choose another, for instance mine-v1-full.")
    for rate in options.sample_rates:
        if rate not in RATES:
            raise UsageError(f"{rate} Hz is no rate of HEAR's tasks. Use some of {', '.join(map(str, RATES))}.")
    if unknown := [metric for metric in options.metrics if metric not in METRICS]:
        raise UsageError(f"the metric {unknown[0]!r} is unknown. Use some of {', '.join(METRICS)}.")
    if options.sample_duration is not None and not 0.01 <= options.sample_duration <= 3600:
        raise UsageError(f"a sample_duration of {options.sample_duration} s. Give 0.01 to 3600 seconds.")
    if options.folds is not None and options.shares is not None:
        raise UsageError("folds and a train/valid/test split exclude each other. Ask for one of them.")
    if options.folds is not None and not 3 <= options.folds <= 100:
        raise UsageError(f"{options.folds} folds: one is tested, one validates, the rest trains. Ask for 3 to 100.")
    if options.shares is not None and not all(share > 0 for share in options.shares):
        raise UsageError("train, valid and test must each get some of the data. Give three numbers above 0.")


def _find_recordings(table: Table, root: Path, failed: list[Failure] | None = None) -> dict[str, Path]:
    """File as written → path; a name without its ending is found if exactly one file has it.

    What is missing goes to `failed`; None: it is an error.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is no folder. Give the folder of the recordings.")
    top, found, missing = root.resolve(), {}, []
    spelled: dict[object, list[str]] = {}  # the file itself → its names in the table
    for clip in table.clips:
        try:
            path = place_of(clip, root)
            if path.is_file() and not path.resolve().is_relative_to(top):
                raise UsageError(f"{clip.file!r} leads out of {root}. Names must stay inside of it.")
        except (OSError, ValueError):
            missing.append(clip.file)
            continue
        if path.is_file():
            found[clip.file] = path
            spelled.setdefault(_place(path), []).append(clip.file)
        else:
            missing.append(clip.file)
    if missing and failed is None:
        raise TaskError(
            f"{len(missing)} of {len(table.clips)} recordings are not in {root}: {_few(missing)}. Add them."
        )
    if failed is not None:
        failed += [Failure(file, f"{shown(file)} is not in {root}") for file in missing]
    if several := [names for names in spelled.values() if len(names) > 1]:
        more = f", and so are {len(several) - 1} others" if len(several) > 1 else ""
        raise UsageError(
            f"one recording stands in the table under {len(several[0])} names ({_few(several[0])}){more}: it would be "
            "trained on and tested. Spell each recording in one way."
        )
    return found


def _place(path: Path) -> object:
    """The same for every spelling of one file's name; links are files of their own, and perhaps copies."""
    file = path.lstat()
    if not path.is_symlink() and file.st_nlink == 1:
        return file.st_dev, file.st_ino
    return path.parent.resolve() / path.name


def _prediction_type(table: Table, options: TaskOptions) -> str:
    if table.has_events:
        if options.prediction_type == MULTICLASS:
            raise UsageError("a table with start_ms makes an event task, which is multilabel. Leave the option away.")
        return MULTILABEL
    uneven = [clip.file for clip in table.clips if len(clip.labels) != 1]
    if options.prediction_type == MULTICLASS and uneven:
        raise UsageError(f"multiclass needs exactly one label a clip; it is not so for {_few(uneven)}. Mend the table.")
    unlabelled = [clip.file for clip in table.clips if not clip.labels]
    if unlabelled and options.prediction_type is None and not any(len(clip.labels) > 1 for clip in table.clips):
        text = f"no label for {_few(unlabelled)}. Fill the column"
        raise UsageError(f"{text}, or ask for multilabel if clips may have none.")
    return options.prediction_type or (MULTILABEL if uneven else MULTICLASS)


def _splits(table: Table, options: TaskOptions, notes: list[str]) -> tuple[dict[str, str], str]:
    """File → split, and the split mode; drawn, or from the table's columns."""
    clips = table.clips
    column = next((name for name in ("split", "fold") if name in table.columns), None)
    if column and (options.folds or options.shares):
        raise UsageError(f"the table has a column {column}, so nothing is drawn. Leave it out, or the option.")
    if column == "fold":
        values = sorted({clip.fold or "" for clip in clips}, key=_by_number)
        if not 3 <= len(values) <= 100:
            raise UsageError(f"the column fold has {len(values)} values. Three to 100 are needed.")
        number = {value: f"fold{index:02d}" for index, value in enumerate(values)}
        split_of, mode = {clip.file: number[clip.fold or ""] for clip in clips}, "presplit_kfold"
    elif column == "split":
        split_of, mode = {clip.file: clip.split or "" for clip in clips}, "trainvaltest"
        if "valid" not in split_of.values():
            trained = [clip for clip in clips if clip.split == "train"]
            split_of |= _draw(trained, {"train": 1 - VALID_SHARE, "valid": VALID_SHARE}, options.seed)
            notes.append(f"the table has no valid split: drawn from train ({VALID_SHARE:.0%})")
        if lacking := [name for name in TVT if name not in split_of.values()]:
            raise UsageError(f"no clip of the table is in {' or '.join(lacking)}. Fill the column split.")
    elif options.shares:
        split_of, mode = _draw(clips, dict(zip(TVT, options.shares, strict=True)), options.seed), "trainvaltest"
    else:
        count = options.folds or DEFAULT_FOLDS
        split_of, mode = _draw(clips, {f"fold{k:02d}": 1 for k in range(count)}, options.seed), "new_split_kfold"
    in_splits: dict[str, set[str]] = {}
    for clip in clips:
        if clip.group:
            in_splits.setdefault(clip.group, set()).add(split_of[clip.file])
    if torn := sorted(group for group, where in in_splits.items() if len(where) > 1):
        raise UsageError(f"the table puts a group into several splits: {_few(torn)}. Mend the column {column}.")
    return split_of, mode


def _by_number(text: str) -> tuple[bool, int, str]:
    """Sorts 2 before 10, and numbers before words."""
    number = text.isascii() and text.isdigit() and len(text) < 10
    return not number, int(text) if number else 0, text


def _draw(clips: Sequence[Clip], shares: dict[str, float], seed: int) -> dict[str, str]:
    groups = [f"g {clip.group}" if clip.group else f"f {clip.file}" for clip in clips]
    drawn = draw_splits([clip.said for clip in clips], groups, shares, seed)
    return {clip.file: split for clip, split in zip(clips, drawn, strict=True)}


def _file_names(clips: Sequence[Clip]) -> dict[str, str]:
    """File as written → plain name ending in .wav, different ones also where upper and lower case are the same."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for clip in clips:
        stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", clip.file)
        stem = re.sub(r"[^\w .+=@,()-]+", "__", stem).strip(" ._") or "clip"
        if f"{stem}.wav".casefold() in taken or len(stem.encode()) > 120:
            stem = f"{stem[:40]}-{zlib.crc32(clip.file.encode()):08x}"
        while f"{stem}.wav".casefold() in taken:
            stem += "x"
        names[clip.file] = f"{stem}.wav"
        taken.add(f"{stem}.wav".casefold())
    return names


def _write_audio(
    folder: Path,
    targets: dict[str, tuple[str, str]],
    paths: dict[str, Path],
    options: TaskOptions,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, int], list[Failure]]:
    """Write every clip at every rate; file → samples at the first rate, and what was left out."""

    def one(file: str) -> int | str:
        split, name = targets[file]
        length = 0
        for rate in options.sample_rates:
            try:
                samples = read_audio(paths[file], rate, duration_s=options.sample_duration)
            except AudioFileError as error:
                for written in options.sample_rates:
                    (folder / str(written) / split / name).unlink(missing_ok=True)
                return str(error)
            if options.sample_duration is not None:
                samples = fit(samples, round(options.sample_duration * rate))
            write_wav(folder, folder / str(rate) / split / name, samples, rate)
            length = length or len(samples)
        return length

    files = list(targets)
    results: dict[str, int | str] = {}
    with ThreadPoolExecutor(options.workers) as pool:
        for start in range(0, len(files), 64):  # in parts, so that Ctrl-C does not wait for the whole queue
            part = files[start : start + 64]
            results |= dict(zip(part, pool.map(one, part), strict=True))
            if progress:
                progress(len(results), len(files))
    broken = [Failure(file, result) for file, result in results.items() if isinstance(result, str)]
    if broken and not options.skip_bad:
        more = f" And {len(broken) - 1} more." if len(broken) > 1 else ""
        raise TaskError(
            f"{len(broken)} of {len(files)} recordings cannot be used: {broken[0].error}{more} Or leave them out: "
            "--skip-bad."
        )
    return {file: result for file, result in results.items() if isinstance(result, int)}, broken


def _items(
    table: Table,
    targets: dict[str, tuple[str, str]],
    splits: Sequence[str],
    lengths: dict[str, int],
    options: TaskOptions,
    notes: list[str],
) -> dict[str, dict[str, list[Any]]]:
    """SPLIT.json of every split, labels as text; events are cut at the end of the clip."""
    items: dict[str, dict[str, list[Any]]] = {split: {} for split in splits}
    dropped = 0
    for clip in table.clips:
        split, name = targets[clip.file]
        end_ms = 1000 * lengths[clip.file] / options.sample_rates[0]
        inside = [
            {"label": label, "start": start, "end": min(end, end_ms)}
            for label, start, end in sorted(clip.events, key=lambda event: event[1:])
            if start < end_ms
        ]
        dropped += len(clip.events) - len(inside)
        items[split][name] = inside if table.has_events else list(clip.labels)
    if dropped and dropped == sum(len(clip.events) for clip in table.clips):
        unit = "milliseconds" if table.time_ms > 1 else "relative to the clip"
        raise UsageError(f"every event starts after the end of its clip. Are the times {unit}? Mend the table.")
    if dropped:
        notes.append(f"{dropped} events start after the end of their clip and were left out")
    return items


def _refuse_two_spellings(labels: Sequence[str]) -> None:
    """UsageError for labels that look the same and are two sequences of characters."""
    for same in alike(labels, canonical):
        raise UsageError(
            f"one label is written in {len(same)} ways in Unicode ({', '.join(map(ascii, same))}). "
            "Normalise the table, for instance to NFC."
        )


def _as_json(said: list[Any], numbers: dict[str, int]) -> list[Any]:
    """Labels as JSON integers where all of them are, else as text."""
    if said and isinstance(said[0], dict):
        return [{**event, "label": numbers.get(event["label"], event["label"])} for event in said]
    return [numbers.get(label, label) for label in said]


def _is_plain_int(label: str) -> bool:
    return re.fullmatch(r"0|-?[1-9]\d{0,15}", label, re.ASCII) is not None  # not 007: it would become another label


def _metadata(
    name: str,
    table: Table,
    prediction: str,
    split_mode: str,
    splits: Sequence[str],
    duration: float | None,
    options: TaskOptions,
    source_sha256: str,
) -> dict[str, Any]:
    usual = MULTICLASS_METRICS if prediction == MULTICLASS else MULTILABEL_METRICS
    parts = name.split("-")
    three = len(parts) >= 3
    return {
        "task_name": parts[0],
        "version": "-".join(parts[1:-1]) if three else "v1",
        "embedding_type": EVENT if table.has_events else SCENE,
        "prediction_type": prediction,
        "split_mode": split_mode,
        **({"nfolds": len(splits)} if split_mode != "trainvaltest" else {}),
        "sample_duration": duration,
        "evaluation": list(options.metrics or (EVENT_METRICS if table.has_events else usual)),
        "default_mode": parts[-1] if three else "full",
        "mode": parts[-1] if three else "full",
        "splits": list(splits),
        "origin": "user",
        "made_by": {
            "tool": "hear-models tasks new",
            "table_sha256": source_sha256,
            "seed": options.seed,
        },
    }


def _source_sha256(source: Path, table: Table) -> str:
    """Of a table's bytes, or of the names below a folder, which say the labels too."""
    names = "\n".join(clip.file for clip in table.clips)
    return hashlib.sha256(os.fsencode(names) if source.is_dir() else source.read_bytes()).hexdigest()


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:SHOWN])) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
