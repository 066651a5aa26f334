"""Labelled clips in the forms of GISE-51: mixtures with text files, LMDB, CSV lists."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from hear_models.corpus.discover import EXTENSIONS
from hear_models.datasets.labelled import place_of, read_clips
from hear_models.errors import AudioFileError, FileError, HearModelsError, InputError, UsageError
from hear_models.files import shown
from hear_models.foreign import open_plain, read_bytes, read_json, read_text, reading
from hear_models.pipeline.audio import read_audio, resample

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".mp3")
LARGEST_LIST = 1 << 30  # bytes of a .csv
TABLES = (".csv", ".tsv", ".txt")
LABEL_DELIMITER, AUDIOSET_DELIMITER = ",", ";"  # names of AudioSet's classes contain commas

# two pages of a data file begin with: 16 bytes, magic number, version, address, size of the map, two records of 48
# bytes (the first begins with the size of a page), number of the last page
LMDB_MAGIC, LMDB_HEAD = 0xBEEFC0DE, 144


@dataclass(frozen=True)
class Annotation:
    """One event of a mixture."""

    onset_s: float
    offset_s: float
    label: str


@dataclass(frozen=True)
class LabelledClip:
    """A clip that is read when it is wanted, and what is heard in it."""

    name: str  # path or key, for messages
    labels: tuple[str, ...]  # one that is heard twice may stand there twice
    fold: int | None  # of ESC-50
    read: Callable[[int], np.ndarray]  # sample rate in Hz → float32 [samples], mono
    encoded: Callable[[], bytes] | None = None  # the recording's file as it is; None: there is none


def read_annotations(path: Path) -> list[Annotation]:
    """The lines `onset TAB offset TAB label` of a text file, seconds.

    Raises:
        InputError: a line is something else; the message has its number.
    """
    annotations = []
    try:
        lines = read_text(path).splitlines()
    except FileError as error:
        raise InputError(f"{path} cannot be read ({error}). Give a text file of annotations.") from error
    for number, line in enumerate(lines, 1):
        try:
            onset, offset, label = line.split("\t")
            annotations.append(Annotation(float(onset), float(offset), label))
        except ValueError:
            raise InputError(
                f"{path}, line {number}: {line[:60]!r} is no annotation. Write onset, offset, label with tabs between."
            ) from None
    return annotations


def mixture_folder(folder: Path) -> list[LabelledClip]:
    """The recordings of a folder that have a text file of annotations beside them, in order of their names.

    Raises:
        InputError: there is none, or an annotation is damaged.
    """
    clips = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.name[0] != "."):
        note = path.with_suffix(".txt")
        if note.exists():
            labels = tuple(annotation.label for annotation in read_annotations(note))
            clips.append(clip_of(path, labels))
    if not clips:
        raise InputError(
            f"{folder} holds no folders of classes, and no recording with a .txt of annotations beside it. "
            "See docs/tagging.md."
        )
    return clips


def labelled_list(path: Path) -> list[LabelledClip]:
    """The clips of a table or of a folder with a folder for each class, see `read_clips`.

    Raises UsageError: it is neither.
    """
    table, root = read_clips(path)
    clips = []
    for clip in table.clips:
        labels = (*clip.labels, *(label for label, _, _ in clip.events))
        place = place_of(clip, root)
        name = str(place) if path.is_dir() else clip.file
        fold = int(clip.fold) if clip.fold and clip.fold.isdecimal() else None
        clips.append(clip_of(place, labels, name, fold))
    return clips


def read_lmdb(path: Path, delimiter: str = LABEL_DELIMITER) -> Iterator[LabelledClip]:
    """The clips of an LMDB file as the authors pack them, in order of their numbers.

    Each record is a msgpack list: a whole FLAC file, the labels joined by `delimiter`, or (ESC-50) the number of a
    class and a fold. The labels of the latter are the number as a string.

    Raises:
        InputError: no LMDB file, or a record of another form.
        HearModelsError: the package `lmdb` is not installed.
    """
    with reading(path, InputError, "Give the file that was packed."):
        import msgpack

        try:
            import lmdb
        except ImportError:
            raise HearModelsError(
                'Reading LMDB files needs another package. Run: pip install "hear-models[lmdb]"'
            ) from None
        try:
            _check_lmdb_size(path)
            environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False, create=False, readahead=False)
        except lmdb.Error as error:
            raise InputError(f"{path} is no LMDB file ({error}). Give the file that was packed.") from error
        with environment, environment.begin(buffers=False) as transaction:
            number = _unpacked(msgpack, transaction.get(b"__len__"), path, "__len__")
            if not isinstance(number, int):
                raise InputError(f"{path}: the number of records is {number!r}. Give a file of the authors' packer.")
            for key in map(str, range(number)):
                record = _unpacked(msgpack, transaction.get(key.encode()), path, key)
                if not (isinstance(record, list) and len(record) in (2, 3) and isinstance(record[0], bytes)):
                    raise InputError(
                        f"{path}: record {key} is not FLAC and labels. Give a file of the authors' packer."
                    )
                label, fold = record[1], record[2] if len(record) == 3 else None
                labels = tuple(label.split(delimiter)) if isinstance(label, str) else (str(label),)
                yield packed_clip(record[0], f"{path}, record {key}", labels, fold)


def _check_lmdb_size(path: Path) -> None:
    """The file is mapped into memory: to read behind its end would kill the process. InputError: it was cut."""
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(LMDB_HEAD)
        if len(head) == LMDB_HEAD and struct.unpack_from("<I", head, 16)[0] == LMDB_MAGIC:
            page = struct.unpack_from("<I", head, 40)[0]
            file.seek(page)
            metas = [meta for meta in (head, file.read(LMDB_HEAD)) if len(meta) == LMDB_HEAD]
            needed = page * (1 + max(struct.unpack_from("<Q", meta, 136)[0] for meta in metas))
            if 512 <= page <= 1 << 16 and needed <= size:
                return
    raise InputError(f"{path} is no LMDB file, or it was cut. Give the file that was packed.")


def labelled_clips(path: Path, delimiter: str = LABEL_DELIMITER) -> Iterator[LabelledClip]:
    """The clips of whatever holds some: a folder of mixtures, of classes or of shards, a shard, a table, an LMDB file.

    Raises:
        InputError, UsageError: nothing of these.
    """
    from hear_models.datasets.shards import SUFFIX, read_shards

    if path.is_dir():
        if any(path.glob(f"*{SUFFIX}")):
            yield from read_shards(path)
        else:
            yield from labelled_list(path) if _has_classes(path) else mixture_folder(path)
    elif path.suffix.lower() == SUFFIX:
        yield from read_shards(path)
    elif path.suffix.lower() in TABLES:
        yield from labelled_list(path)
    else:
        yield from read_lmdb(path, delimiter)


def _has_classes(folder: Path) -> bool:
    """Whether recordings lie in folders of classes, without annotations beside them."""
    sounds = [path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.name[0] != "."]
    return any(path.parent != folder for path in sounds) and not any(p.with_suffix(".txt").exists() for p in sounds)


def _unpacked(msgpack: Any, value: bytes | None, path: Path, key: str) -> Any:
    if value is None:
        raise InputError(f"{path} has no record {key}. Give a file of the authors' packer.")
    try:
        return msgpack.unpackb(value, raw=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise InputError(f"{path}: record {key} is damaged ({error}). Pack it again.") from error


def clip_of(path: Path, labels: tuple[str, ...], name: str | None = None, fold: int | None = None) -> LabelledClip:
    """A clip that is a file."""
    return LabelledClip(
        name or str(path), labels, fold, lambda rate: read_audio(path, rate), encoded=lambda: read_bytes(path)
    )


def packed_clip(data: bytes, name: str, labels: tuple[str, ...], fold: int | None) -> LabelledClip:
    """A clip that is a file within another one."""
    return LabelledClip(name, labels, fold, _bytes_reader(data, name), encoded=lambda: data)


def _bytes_reader(data: bytes, name: str) -> Callable[[int], np.ndarray]:
    def read(sample_rate: int) -> np.ndarray:
        try:
            samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioFileError(f"{shown(name)} is no audio ({error}). Pack it again.") from error
        return resample(samples.mean(axis=1), rate, sample_rate)

    return read


def read_label_map(path: Path) -> tuple[str, ...]:
    """The classes of a label map, a JSON object of name → index, in order of the index.

    Raises:
        InputError: not that, or the indices are not 0 to n - 1.
    """
    try:
        table = read_json(path)
    except FileError as error:
        raise InputError(f"{path} cannot be read ({error}). Give a JSON object of name and index.") from error
    if not isinstance(table, dict) or sorted(map(str, table.values())) != sorted(map(str, range(len(table)))):
        raise InputError(f"{path} is no label map. Give a JSON object of names with the indices 0 to n - 1.")
    return tuple(sorted(table, key=lambda name: int(table[name])))


def multi_hot(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Targets float32 [classes]: 1 for each label.

    Raises:
        InputError: a label is no class.
    """
    place = {name: index for index, name in enumerate(classes)}
    target = np.zeros(len(classes), np.float32)
    for label in labels:
        if label not in place:
            raise InputError(f"{label!r} is none of the {len(classes)} classes ({', '.join(classes[:3])}, ...).")
        target[place[label]] = 1
    return target


def known(labels: Sequence[LabelledClip]) -> tuple[str, ...]:
    """Every label of some clips, in order of the alphabet (of bytes), as the authors number them."""
    if not labels:
        raise UsageError("There are no clips to take classes from. Give some.")
    return tuple(sorted({label for clip in labels for label in clip.labels}))
