"""The embedding of each recording of a list, through any model, each computed once and kept by its relative path."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_models.errors import AudioFileError, FileError, HearModelsError, InputError
from hear_models.files import make_folder, shown, whole_file
from hear_models.foreign import read_arrays, reading
from hear_models.pipeline.audio import read_audio
from hear_models.pipeline.encoders import ClipStream, Encoders
from hear_models.pipeline.plan import Purpose
from hear_models.speaker.scoring import crop, crop_starts
from hear_models.subjects.loaded import Loaded
from hear_models.subjects.weights import weights_sha256

BATCH_S = {"cpu": 16.0, "cuda": 600.0}  # seconds of audio that a model gets at once
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Crops:
    """Several crops of a recording instead of the whole: `count` of them, `frames` of 10 ms and 15 ms long."""

    count: int = 10
    frames: int = 300

    def of(self, clip: np.ndarray, sample_rate: int) -> list[np.ndarray]:
        """The crops of a clip [samples], each [length]."""
        length = round((0.01 * self.frames + 0.015) * sample_rate)
        return [crop(clip, int(start), length) for start in crop_starts(len(clip), length, self.count)]


class VoiceCache:
    """Embeddings on disk, one file a recording, in the same subfolders: base names repeat, relative paths do not.

    A file is used again if the recording has the size and time that it had; a run that was stopped goes on.

    Args:
        folder: where caches of all models and folders of recordings lie.
        loaded: whose embeddings they are; other weights, options or code have a folder of their own.
        audio: the folder of the recordings; another one has a folder of its own too.
        crops: None for whole recordings.
    """

    def __init__(self, folder: Path, loaded: Loaded, audio: Path, crops: Crops | None) -> None:
        subject = loaded.subject
        key = {
            "module": subject.module,
            "options": subject.options,
            "weights": weights_sha256(loaded.model),
            "code": subject.code_sha256,
            "audio": str(audio.resolve()),
            "crops": None if crops is None else [crops.count, crops.frames],
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self.folder, self.audio = folder / f"{subject.slug}-{digest[:12]}", audio

    def path(self, name: str) -> Path:
        """Where the embeddings of a recording lie."""
        return self.folder / f"{name}.npz"

    def get(self, name: str) -> np.ndarray | None:
        """The embeddings [crops, dim] of a recording, if they are there and the recording is the same."""
        try:
            with reading(self.path(name), FileError, "It is computed again."):
                arrays = read_arrays(self.path(name))
                kept, found = arrays["recording"], arrays["embeddings"]
        except FileError:  # not there, or damaged: computed again
            return None
        return np.asarray(found) if np.array_equal(kept, _state(self.audio / name)) else None

    def put(self, name: str, embeddings: np.ndarray) -> None:
        """Keep the embeddings of a recording; the file is whole or not there."""
        path = self.path(name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            make_folder(self.folder, path.parent)
            with whole_file(path, flush=False) as part, part.open("wb") as file:
                np.savez(file, embeddings=embeddings, recording=_state(self.audio / name))
        except OSError as error:
            raise FileError(f"{path} cannot be written: {error.strerror or error}. Give another --cache.") from error


def _state(path: Path) -> np.ndarray:
    stat = path.stat()
    return np.array([stat.st_size, stat.st_mtime_ns], np.int64)


def check_names(names: Sequence[str], audio: Path) -> None:
    """Raise before anything is computed: for a path that leaves the folder, and for recordings that are not there.

    Raises InputError (a path that leaves the folder) or AudioFileError (not there).
    """
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name:
            raise InputError(f"the path {name!r} leaves the folder of recordings. Write paths relative to {audio}.")
    missing = [name for name in names if not (audio / name).is_file()]
    if missing:
        raise AudioFileError(
            f"{len(missing)} of {len(names)} recordings are not in {audio}, the first: {shown(missing[0])}. "
            "Paths in a list are relative to --audio."
        )


def embed_voices(
    loaded: Loaded,
    names: Sequence[str],
    audio: Path,
    *,
    crops: Crops | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Scene embeddings of recordings, float32 [crops, dim] each (whole recordings: one).

    Args:
        loaded: any model.
        names: paths relative to `audio`.
        crops: None for whole recordings.
        cache: a folder in which they are kept; None keeps nothing.
        progress: called with the recordings done and all.

    Raises:
        AudioFileError: a recording is not there or cannot be read.
        HearModelsError: the model failed, or gave NaN or infinity.
        InputError: a path leaves the folder.
    """
    names = list(dict.fromkeys(names))
    check_names(names, audio)
    kept = VoiceCache(cache, loaded, audio, crops) if cache is not None else None
    found: dict[str, np.ndarray] = {}
    if kept is not None:
        found = {name: array for name in names if (array := kept.get(name)) is not None}
    missing = [name for name in names if name not in found]
    report = progress or (lambda done, total: None)
    report(len(found), len(names))
    for name, array in _embedded(loaded, missing, audio, crops):
        if not np.isfinite(array).all():
            raise HearModelsError(f"{loaded.subject.name} gave NaN or infinity for {shown(name)}. Repair the model.")
        if kept is not None:
            kept.put(name, array)
        found[name] = array
        report(len(found), len(names))
    return {name: found[name] for name in names}


def _embedded(
    loaded: Loaded, names: Sequence[str], audio: Path, crops: Crops | None
) -> Iterator[tuple[str, np.ndarray]]:
    """Recordings in order with their embeddings, as they are finished."""
    encoders = encoders_of(loaded, len(names))
    alone = loaded.batch_dependent  # or nobody knows: then a recording goes through by itself
    stream: ClipStream[tuple[str, bool]] = ClipStream(
        encoders,
        loaded.device,
        "scene",
        batch_samples=None if alone else BATCH_S.get(loaded.device.type, BATCH_S["cuda"]) * loaded.sample_rate,
        batch_clips=1 if alone else None,
    )

    def finished() -> Iterator[tuple[tuple[str, bool], Tensor]]:
        for name in names:
            clip = read_audio(audio / name, loaded.sample_rate)
            pieces = [clip] if crops is None else crops.of(clip, loaded.sample_rate)
            for index, piece in enumerate(pieces, 1):
                for batch in stream.add((name, index == len(pieces)), piece):
                    yield from zip(batch.tags, batch.result(), strict=True)
        for batch in stream.finish():
            yield from zip(batch.tags, batch.result(), strict=True)

    try:
        rows: list[np.ndarray] = []
        for (name, last), embedding in finished():
            rows.append(embedding.float().cpu().numpy())
            if last:
                yield name, np.stack(rows)
                rows = []
    finally:
        encoders.close()


def encoders_of(loaded: Loaded, clips: int) -> Encoders:
    """Our models embed clips of any lengths together; any other HEAR module gets one clip a call."""
    if loaded.subject.is_ours and not loaded.batch_dependent:
        return Encoders.of(loaded.model, loaded.device, max(1, clips))

    def by_function(clips: Sequence[Tensor], purpose: Purpose) -> list[Any]:
        with torch.no_grad():
            return [loaded.scene(clip[None])[0] for clip in clips]

    return Encoders(by_function)
