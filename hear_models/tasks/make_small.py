"""`hear-models tasks make-small`: the ten tasks of the papers and one event task at toy size, from procedural sound.

Folder names, split modes, kinds of label and metrics are those of the real tasks; clips are few and short, and where
the real task has 50, 88 or 200 classes there are fewer. The metadata say `synthetic: true`, and nothing that reads them
may forget it: a score on these tells whether an evaluation works, nothing about a model.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.datasets import toy_sounds as toy
from hear_models.datasets.degrade import Audio
from hear_models.datasets.words import listed
from hear_models.errors import HearModelsError, UsageError
from hear_models.foreign import read_json
from hear_models.tasks.known_tasks import RATES, KnownTask, known_tasks
from hear_models.tasks.task import METADATA, is_called, near_tasks
from hear_models.tasks.task_writing import building, write_task_files, write_wav

VERSION = 1  # of the sounds: another number, other bytes
EVENT_SECONDS = 6.0
Rng = np.random.Generator
Clip = Callable[[Rng, Any], Audio]  # what a clip is drawn from, its class or classes → samples


@dataclass(frozen=True)
class Toy:
    """One toy task: labels, seconds (None: 0.3 to 2 s), clips of each class in each split, and how to make clips."""

    folder: str
    labels: tuple[Any, ...]
    seconds: float | None
    clips: dict[str, int]  # split → clips of each class; multilabel and event: clips
    sounds: Callable[[Rng, Toy], Clip]


def folds(clips: int) -> dict[str, int]:
    return {f"fold{k:02d}": clips for k in range(5)}


# --------------------------------------------------------------------------------------- what the tasks sound like


def _gongs(setting: Rng, task: Toy) -> Clip:
    sounds = toy.Prototypes(setting, len(task.labels), toy.STRUCK, 0.8)

    def clip(rng: Rng, label: int) -> Audio:
        n = round(0.8 * toy.RATE)
        gong = toy.placed(sounds.play(rng, label, spread=0.3), n, int(rng.integers(0, n // 6)))
        return toy.finished(gong, rng)

    return clip


def _emotions(setting: Rng, task: Toy) -> Clip:
    n_labels = len(task.labels)
    rise = setting.permutation(np.linspace(-0.9, 0.9, n_labels))
    tilt = setting.permutation(np.linspace(0.6, 2.0, n_labels))
    rate = setting.permutation(np.linspace(3, 8, n_labels))

    def clip(rng: Rng, label: int) -> Audio:
        n = toy.RATE
        pitch = toy.contour(rng, n, rng.uniform(90, 230), rise[label] + rng.normal(0, 0.15), 0.05)
        said = rng.integers(0, 9, max(2, round(rate[label] + rng.normal(0, 0.7))))
        spoken = toy.voice(rng, said, pitch, tilt=tilt[label] + rng.normal(0, 0.15), syllable_gap=0.8)
        return toy.finished(spoken, rng)

    return clip


def _environment(setting: Rng, task: Toy) -> Clip:
    sounds = toy.Prototypes(setting, len(task.labels), toy.ENVIRONMENT, 0.4)
    gaps_s = setting.permutation(np.geomspace(0.15, 0.6, len(task.labels)))

    def clip(rng: Rng, label: int) -> Audio:
        n, start = toy.RATE, int(rng.uniform(0, 0.2) * toy.RATE)
        mix = np.zeros(n, dtype=np.float32)
        while start < n:
            mix += toy.placed(sounds.play(rng, label, spread=0.2), n, start)
            start += int(gaps_s[label] * 2 ** rng.normal(0, 0.2) * toy.RATE)
        return toy.finished(mix, rng)

    return clip


def _crowd(setting: Rng, task: Toy) -> Clip:
    def clip(rng: Rng, label: int) -> Audio:
        n = toy.RATE
        mix = 0.1 * rng.standard_normal(n).astype(np.float32)
        for _ in range(task.labels[label]):
            pitch = toy.contour(rng, n, rng.uniform(85, 280), rng.normal(0, 0.3), 0.06)
            said = rng.integers(0, 9, int(rng.integers(3, 6)))
            mix += toy.voice(rng, said, pitch, syllable_gap=0.95) * np.float32(2 ** rng.normal(0, 0.2))
        return np.clip(0.04 * mix, -1, 1)

    return clip


def _mridangam(setting: Rng, task: Toy) -> Clip:
    tonic = len(task.labels) == 6  # the other attribute of a stroke is drawn
    strokes, tonics = (4, 6) if tonic else (len(task.labels), 6)
    sounds = toy.Prototypes(setting, strokes, toy.STRUCK, 0.6)

    def clip(rng: Rng, label: int) -> Audio:
        stroke, pitch = (int(rng.integers(strokes)), label) if tonic else (label, int(rng.integers(tonics)))
        n = round(0.5 * toy.RATE)
        struck = sounds.play(rng, stroke, octaves=(pitch / 4) - 0.6 if tonic else pitch / 12, spread=0.02)
        return toy.finished(toy.placed(struck, n, int(rng.integers(0, 800))), rng, toy.CLOSE)

    return clip


def _notes(setting: Rng, task: Toy) -> Clip:
    def clip(rng: Rng, label: int) -> Audio:
        f0_hz = 440 * 2 ** ((task.labels[label] - 69) / 12)  # MIDI
        return toy.finished(toy.note(rng, f0_hz, 0.5), rng)

    return clip


def _words(setting: Rng, task: Toy) -> Clip:
    """Three vowels a word; `_unknown_` is any other word, `_silence_` noise."""
    words: dict[tuple[int, ...], None] = {}
    while len(words) < len(task.labels) - 2:
        words[tuple(int(v) for v in setting.choice(9, 3, replace=False))] = None
    spelt = list(words)

    def clip(rng: Rng, label: int) -> Audio:
        n = round(0.6 * toy.RATE)
        if task.labels[label] == "_silence_":
            return toy.finished(1e-3 * rng.standard_normal(n), rng) * np.float32(0.05)
        word = spelt[label - 2] if label >= 2 else tuple(int(v) for v in rng.integers(0, 9, 3))
        while label < 2 and word in words:
            word = tuple(int(v) for v in rng.integers(0, 9, 3))
        pitch = toy.contour(rng, n, rng.uniform(90, 230), rng.normal(0, 0.15), 0.03)
        return toy.finished(toy.voice(rng, word, pitch), rng, toy.CLOSE)

    return clip


def _tags(setting: Rng, task: Toy) -> Clip:
    sounds = toy.Prototypes(setting, len(task.labels), toy.ENVIRONMENT, 0.5)

    def clip(rng: Rng, labels: Sequence[int]) -> Audio:
        n = round(float(np.exp(rng.uniform(np.log(0.3), np.log(2.0)))) * toy.RATE)
        mix = np.zeros(n, dtype=np.float32)
        for label in labels:
            level, start = np.float32(10 ** (rng.uniform(-9, 0) / 20)), int(rng.integers(0, n // 3))
            while start < n:
                mix += level * toy.placed(sounds.play(rng, label), n, start)
                start += int(rng.uniform(0.3, 0.7) * toy.RATE)
        return toy.finished(mix, rng)

    return clip


def _languages(setting: Rng, task: Toy) -> Clip:
    """A language is four of the nine vowels, a rate of syllables and a melody."""
    n_labels = len(task.labels)
    vowels = [setting.choice(9, 4, replace=False) for _ in range(n_labels)]
    rates, melody = setting.permutation(np.linspace(3, 9, n_labels)), setting.permutation(np.linspace(0, 0.3, n_labels))

    def clip(rng: Rng, label: int) -> Audio:
        n = round(1.2 * toy.RATE)
        said = rng.choice(vowels[label], max(2, round(1.2 * rates[label] * 2 ** rng.normal(0, 0.1))))
        pitch = toy.contour(rng, n, rng.uniform(90, 230), rng.normal(0, 0.2), melody[label])
        return toy.finished(toy.voice(rng, said, pitch, syllable_gap=0.8), rng, toy.CLOSE)

    return clip


def _office(setting: Rng, task: Toy) -> Clip:
    """Clips with several events: the draw is a list of (class, start in samples, length in samples)."""
    sounds = toy.Prototypes(setting, len(task.labels), toy.ENVIRONMENT, 0.9)

    def clip(rng: Rng, events: Sequence[tuple[int, int, int]]) -> Audio:
        n = round(EVENT_SECONDS * toy.RATE)
        mix = 0.01 * rng.standard_normal(n).astype(np.float32)
        for label, start, length in events:
            sound = sounds.play(rng, label, spread=0.05)
            sound = np.resize(sound, length) * np.minimum(1, (length - np.arange(length)) / 160)
            mix += toy.placed(sound.astype(np.float32), n, start) * np.float32(10 ** (rng.uniform(-8, 0) / 20))
        return np.clip(0.4 * mix, -1, 1)

    return clip


# ------------------------------------------------------------------------------------------------------- the tasks

TOYS = (
    Toy("beijing_opera-v1.0-hear2021-full", ("Bangu", "Daluo", "Naobo", "Xiaoluo"), 0.8, folds(3), _gongs),
    Toy("tfds_crema_d-1.0.0-full", ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"), 1.0, folds(3), _emotions),
    Toy(
        "esc50-v2.0.0-full",
        ("airplane", "cat", "clock_tick", "crow", "dog", "engine", "frog", "rain", "siren", "wind"),
        1.0,
        folds(2),
        _environment,
    ),
    Toy("libricount-v1.0.0-hear2021-full", tuple(range(11)), 1.0, folds(2), _crowd),
    Toy(
        "mridangam_stroke-v1.5-full",
        ("bheem", "cha", "dheem", "dhin", "num", "ta", "tha", "tham", "thi", "thom"),
        0.5,
        folds(2),
        _mridangam,
    ),
    Toy("mridangam_tonic-v1.5-full", ("b", "c", "csh", "d", "dsh", "e"), 0.5, folds(3), _mridangam),
    Toy("nsynth_pitch-v2.2.3-5h", tuple(range(45, 69)), 0.5, {"train": 3, "valid": 1, "test": 1}, _notes),
    Toy(
        "speech_commands-v0.0.2-5h",
        ("_silence_", "_unknown_", "down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes"),
        0.6,
        {"train": 5, "valid": 2, "test": 2},
        _words,
    ),
    Toy(
        "fsd50k-v1.0-full",
        ("Bark", "Bell", "Cough", "Engine", "Guitar", "Rain", "Speech", "Water"),
        None,
        {"train": 50, "valid": 20, "test": 24},
        _tags,
    ),
    Toy(
        "vox_lingua_top10-hear2021-full",
        ("da", "de", "en", "et", "fi", "lt", "no", "pl", "ru", "sv"),
        1.2,
        folds(2),
        _languages,
    ),
    Toy(
        "dcase2016_task2-hear2021-full",
        listed("clearthroat cough doorslam drawer keyboard keysDrop knock laughter pageturn phone speech"),
        EVENT_SECONDS,
        {"train": 8, "valid": 3, "test": 3},
        _office,
    ),
)


def make_small(
    out: str | Path,
    seed: int = 0,
    only: Sequence[str] = (),
    sample_rates: Sequence[int] = (16000,),
    progress: Callable[[str, int], None] | None = None,
) -> list[Path]:
    """Write the toy tasks (or those that `only` names) to the folder `out`; returns their folders.

    The same seed gives the same bytes on the same machine and versions. Synthesised at 16 kHz, other rates in Hz are
    resampled from it. A task that is there, made with the same arguments, is left alone. Raises UsageError for an
    unknown task or rate, and where a folder is in the way. `progress` gets a task's name and its number of clips.
    """
    toys = [task for task in TOYS if not only or any(is_called(task.folder, name) for name in only)]
    for name in only:
        if not any(is_called(task.folder, name) for task in TOYS):
            near = near_tasks(name, [task.folder for task in TOYS])
            raise UsageError(f"there is no toy task {name!r}. {near}There are: {', '.join(t.folder for t in TOYS)}.")
    for rate in sample_rates:
        if rate not in RATES:
            raise UsageError(f"{rate} Hz is no rate of HEAR's tasks. Use some of {', '.join(map(str, RATES))}.")
    done = []
    for task in toys:
        folder = Path(out) / task.folder
        made_by = {"tool": "hear-models tasks make-small", "sounds": VERSION, "seed": seed}
        if not _is_there(folder, {**made_by, "rates": sorted(sample_rates)}):
            with building(folder) as temporary:
                _make(task, temporary, seed, sorted(sample_rates), made_by)
        done.append(folder)
        if progress:
            progress(task.folder, _n_clips(task))
    return done


def _is_there(folder: Path, made_by: dict[str, Any]) -> bool:
    found = None
    with suppress(HearModelsError, AttributeError):
        found = read_json(folder / METADATA).get("made_by")
    if found is not None and found != made_by:
        raise UsageError(f"{folder} was made with other arguments ({found}). Choose another folder, or remove it.")
    return found is not None


def _n_clips(task: Toy) -> int:
    each = 1 if task.sounds in (_tags, _office) else len(task.labels)
    return each * sum(task.clips.values())


def _make(task: Toy, folder: Path, seed: int, rates: Sequence[int], made_by: dict[str, Any]) -> None:
    from hear_models.pipeline.audio import resample

    known = known_tasks()[task.folder]
    clip = task.sounds(_rng(seed, task.folder, "classes"), task)
    splits: dict[str, dict[str, list[Any]]] = {}
    number = 0
    for split, count in task.clips.items():
        items: dict[str, list[Any]] = {}
        rng = _rng(seed, task.folder, split)
        for drawn in _content(rng, task, known, count):
            samples = clip(rng, drawn)
            name = f"{zlib.crc32(f'{seed} {task.folder} {number}'.encode()):08x}{number:03d}.wav"  # in no order
            number += 1
            for rate in rates:
                write_wav(folder, folder / str(rate) / split / name, resample(samples, toy.RATE, rate), rate)
            items[name] = _told(task, known, drawn)
        splits[split] = items
    write_task_files(folder, _metadata(task, known, {**made_by, "rates": list(rates)}), task.labels, splits)


def _rng(seed: int, *names: str) -> Rng:
    return np.random.Generator(np.random.PCG64([seed, *(zlib.crc32(name.encode()) for name in names)]))


def _content(rng: Rng, task: Toy, known: KnownTask, count: int) -> list[Any]:
    """What each clip of a split holds: a class, classes, or events."""
    n_labels = len(task.labels)
    if known.embedding_type == "event":
        return [_draw_events(rng, n_labels) for _ in range(count)]
    if known.prediction_type == "multilabel":
        while True:
            sets = [sorted(rng.choice(n_labels, int(rng.integers(1, 4)), replace=False).tolist()) for _ in range(count)]
            occurrences = np.bincount(np.concatenate(sets), minlength=n_labels)
            if occurrences.min() >= 3 and occurrences.max() < count:  # every class can be scored
                return sets
    return [int(label) for label in rng.permutation(np.repeat(np.arange(n_labels), count))]


def _draw_events(rng: Rng, n_labels: int) -> list[tuple[int, int, int]]:
    events, start = [], int(rng.uniform(0.05, 0.3) * toy.RATE)
    order = list(rng.permutation(n_labels))
    while order:
        length = int(rng.uniform(0.3, 0.7) * toy.RATE)
        if start + length > EVENT_SECONDS * toy.RATE:
            break
        events.append((int(order.pop()), start, length))
        start += length + int(rng.uniform(-0.1, 0.4) * toy.RATE)
    return events


def _told(task: Toy, known: KnownTask, drawn: Any) -> list[Any]:
    """The entry of SPLIT.json for what a clip holds."""
    if known.embedding_type == "event":
        ms = 1000 / toy.RATE
        return [
            {"label": task.labels[label], "start": round(start * ms, 3), "end": round((start + length) * ms, 3)}
            for label, start, length in drawn
        ]
    return [task.labels[label] for label in (drawn if isinstance(drawn, list) else [drawn])]


def _metadata(task: Toy, known: KnownTask, made_by: dict[str, Any]) -> dict[str, Any]:
    name, version = task.folder.split("-")[0], "-".join(task.folder.split("-")[1:-1])
    if name == "mridangam_tonic":
        name = "mridangam_stroke"  # as the released file says: a task is known by its folder
    kfold = known.split_mode != "trainvaltest"
    limits = {"max_task_duration_by_fold": None} if kfold else {"max_task_duration_by_split": dict.fromkeys(task.clips)}
    return {
        "task_name": name,
        "version": version,
        "embedding_type": known.embedding_type,
        "prediction_type": known.prediction_type,
        "split_mode": known.split_mode,
        **({"nfolds": len(task.clips)} if kfold else {}),
        "sample_duration": task.seconds,
        "evaluation": list(known.evaluation),
        "download_urls": [],
        "default_mode": task.folder.split("-")[-1],
        **limits,
        "tmp_dir": "_workdir",
        "mode": task.folder.split("-")[-1],
        "splits": list(task.clips),
        "synthetic": True,
        "made_by": made_by,
    }
