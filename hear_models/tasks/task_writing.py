"""Writing task folders: whole or not at all, laid out and encoded as hear-preprocess and ffmpeg do it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hear_models.errors import UsageError
from hear_models.files import make_folder, unwritable, whole_file, whole_folder, write_atomically
from hear_models.tasks.task import METADATA, VOCABULARY, TaskError

MULTICLASS_METRICS = ("top1_acc", "mAP", "d_prime", "aucroc")  # the first is the primary one, as in HEAR's tasks
MULTILABEL_METRICS = ("mAP", "d_prime", "aucroc", "top1_acc")
EVENT_METRICS = ("event_onset_200ms_fms", "segment_1s_er")
METRICS = (  # everything that the kit can compute
    *MULTICLASS_METRICS,
    "pitch_acc",
    "chroma_acc",
    *EVENT_METRICS,
    "event_onset_50ms_fms",
    "event_onset_offset_50ms_20perc_fms",
)


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A hidden folder beside `folder` to build in; it becomes `folder` at the end, or vanishes on any failure.

    Raises UsageError if `folder` exists, TaskError if it cannot be written.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists already. Choose another name, or remove it first.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder) as temporary:
            yield temporary
    except OSError as error:
        raise TaskError(unwritable(folder, error, "Choose another folder, or make room.")) from error


def write_task_files(
    folder: Path, metadata: Mapping[str, Any], labels: Sequence[Any], splits: Mapping[str, Mapping[str, Any]]
) -> None:
    """task_metadata.json, labelvocabulary.csv (sorted: by number if all are) and SPLIT.json (sorted by name)."""
    write_atomically(folder / METADATA, json.dumps(metadata, indent=1).encode())
    rows = [f"{idx},{_csv_field(str(label))}\n" for idx, label in enumerate(sorted_labels(labels))]
    write_atomically(folder / VOCABULARY, ("idx,label\n" + "".join(rows)).encode())
    for split, items in splits.items():
        write_atomically(folder / f"{split}.json", json.dumps(dict(items), indent=1, sort_keys=True).encode())


def sorted_labels(labels: Sequence[Any]) -> list[Any]:
    """By number if all are numbers, else as text, as hear-preprocess does."""
    numbers = all(isinstance(label, (int, float)) for label in labels)
    return sorted(labels) if numbers else sorted(labels, key=str)


def _csv_field(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n\r') else text


def wav_bytes(samples: npt.NDArray[np.floating], sample_rate: int) -> bytes:
    """Mono float `[samples]` → a 16-bit WAV file, with the LIST chunk before the data that ffmpeg writes.

    Scaled by 32768 and rounded, so that a clip read from 16 bits and written again is the same; values out of
    [-1, 1) are clipped.
    """
    pcm = np.clip(np.round(np.asarray(samples, dtype=np.float64) * 32768), -32768, 32767).astype("<i2").tobytes()
    info = b"INFOISFT" + struct.pack("<I", 12) + b"hear-models\0"
    chunks = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    chunks += b"LIST" + struct.pack("<I", len(info)) + info + b"data" + struct.pack("<I", len(pcm)) + pcm
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def write_wav(
    root: Path, path: Path, samples: npt.NDArray[np.floating], sample_rate: int, *, flush: bool = False
) -> None:
    """Write a clip, complete or not at all; makes the folders, none through a link that leads out of `root`.

    Not flushed: the task's folder is, as a whole, before it gets its name. Raises TaskError: no room, no permission.
    """
    try:
        make_folder(root, path.parent)
        with whole_file(path, flush=flush) as temporary:
            temporary.write_bytes(wav_bytes(samples, sample_rate))
    except OSError as error:
        raise TaskError(unwritable(path, error, "Make room, or choose another folder.")) from error


def fit(samples: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.float32]:
    """The first `n` samples, with zeros at the end where there are fewer."""
    return samples[:n] if len(samples) >= n else np.pad(samples, (0, n - len(samples)))
