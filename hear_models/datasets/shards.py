"""Labelled clips in WebDataset's form: tar files in which neighbours of one name make one example.

The form is that of a plain tar file, so the standard library writes and reads it. An example is KEY.flac (or another
ending), the recording's file as it is, and KEY.json, its labels.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
import soundfile

from hear_models.datasets.gise51 import AUDIO_SUFFIXES, LabelledClip, packed_clip
from hear_models.datasets.writing import claim_folder
from hear_models.errors import FileError, InputError, UsageError
from hear_models.files import shown, whole_file
from hear_models.foreign import open_plain, parse_json
from hear_models.locks import inside, only_writer

SUFFIX = ".tar"
CLIPS_PER_SHARD = 1000
SAMPLE_RATE = 22_050  # of clips that are no file, but made up
MOST_BYTES = 1 << 28  # of one recording


def state_of(clips: Iterable[LabelledClip]) -> list[object]:
    """What tells some clips from others: how many they are, and a digest of their names and labels."""
    digest, number = hashlib.sha256(), 0
    for clip in clips:
        digest.update(_json([clip.name, clip.labels, clip.fold]))
        number += 1
    return [number, digest.hexdigest()]


def write_shards(
    clips: Iterable[LabelledClip], output: Path, per_shard: int = CLIPS_PER_SHARD, about: object = None
) -> Iterator[int]:
    """Write shard-000000.tar and so on; yields the clips written, shard by shard. The same clips give the same bytes.

    A shard that is there is kept, so the same call goes on where it was stopped.

    Args:
        about: `state_of` the same clips; a folder with shards of others is refused.

    Raises:
        UsageError: `output` holds something else. HearModelsError: a clip that cannot be read; FileError: the disk.
    """
    if per_shard < 1:
        raise UsageError(f"{per_shard} clips a shard. Give at least 1.")
    claim_folder(output, {"kind": "shards", "per_shard": per_shard, "clips": about})
    with only_writer(inside(output), output, "folder"):
        rest, shard, done = iter(clips), 0, 0
        while some := list(islice(rest, per_shard)):
            path = output / f"shard-{shard:06d}{SUFFIX}"
            if not _is_whole(path):
                _write_shard(path, some, done)
            shard, done = shard + 1, done + len(some)
            yield done


def _is_whole(path: Path) -> bool:
    """False for a shard that is not there, was cut, or has a damaged table."""
    try:
        with open_plain(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            return bool(tar.getnames())
    except (tarfile.TarError, FileError, OSError, EOFError, UnicodeError):
        return False


def _write_shard(path: Path, clips: Iterable[LabelledClip], first: int) -> None:
    try:
        with whole_file(path) as part, tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, clip in enumerate(clips, first):
                suffix, data = _encoded(clip)
                about = {"labels": list(clip.labels)} | ({"fold": clip.fold} if clip.fold is not None else {})
                for name, content in ((f"{number:08d}{suffix}", data), (f"{number:08d}.json", _json(about))):
                    member = tarfile.TarInfo(name)  # no time and no owner: the same clips, the same bytes
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    except OSError as error:
        raise FileError(
            f"{path} cannot be written: {error.strerror or error}. Check the folder and the space."
        ) from None


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _encoded(clip: LabelledClip) -> tuple[str, bytes]:
    """(ending, file): the recording as it is, or FLAC of 16 bits."""
    if clip.encoded is not None:
        suffix = PurePosixPath(clip.name).suffix.lower()
        return (suffix if suffix in AUDIO_SUFFIXES else ".flac"), clip.encoded()
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(clip.read(SAMPLE_RATE), -1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return ".flac", buffer.getvalue()


def read_shards(path: Path) -> Iterator[LabelledClip]:
    """The clips of a shard, or of all shards of a folder in order of their names.

    Raises:
        InputError: a damaged shard, or an example without a recording or labels.
    """
    shards = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not shards:
        raise InputError(f"{path} holds no shards ({SUFFIX}). Give a folder of `hear-models gise51 pack`.")
    for shard in shards:
        try:
            with open_plain(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
                yield from _examples(tar, shard)
        except (tarfile.TarError, FileError, OSError, EOFError, UnicodeError) as error:
            raise InputError(f"{shard} cannot be read as a shard ({error}). Write it again.") from None


def _examples(tar: tarfile.TarFile, shard: Path) -> Iterator[LabelledClip]:
    key, parts = "", {}  # type: str, dict[str, bytes]
    for member in tar:
        if not member.isreg():
            continue
        folder, _, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        if not stem:  # hidden
            continue
        if f"{folder}/{stem}" != key:
            if parts:
                yield _example(key, parts, shard)
            key, parts = f"{folder}/{stem}", {}
        if member.size > MOST_BYTES:
            raise InputError(f"{shard}: {shown(member.name)} has {member.size:,} bytes. Leave it out.")
        file = tar.extractfile(member)
        assert file is not None
        parts[f".{ending.lower()}"] = file.read()
    if parts:
        yield _example(key, parts, shard)


def _example(key: str, parts: dict[str, bytes], shard: Path) -> LabelledClip:
    name = f"{shard}, example {key.strip('/')!r}"
    audio = next((data for suffix, data in parts.items() if suffix in AUDIO_SUFFIXES), None)
    try:
        about = parse_json(parts[".json"])
        labels, fold = about["labels"], about.get("fold")
        right = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        right = False
    if audio is None or not right or not (fold is None or isinstance(fold, int)):
        raise InputError(f'{name} is no recording with a .json of {{"labels": [...]}} beside it. Write it again.')
    return packed_clip(audio, name, tuple(labels), fold)
