"""Scene embeddings that are kept: below the cache folder, or where a caller says, so that none is computed twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hear_models.corpus.discover import AudioFile, Failure
from hear_models.corpus.npz import NpzOutput
from hear_models.corpus.options import windows
from hear_models.corpus.reading import embeddings_of
from hear_models.corpus.run import CorpusSummary, embed_audio_files
from hear_models.corpus.settings import EmbeddingSettings, embedding_settings
from hear_models.errors import HearModelsError
from hear_models.pipeline.model import HearModel
from hear_models.resources import cache_folder

# embeddings [rows, dim]; where windows begin in ms [rows], None if it was embedded whole; where they, or it, end
Scenes = tuple[np.ndarray, np.ndarray | None, np.ndarray]


def scene_settings(model: HearModel, window_s: float | str | None) -> EmbeddingSettings:
    """What decides the numbers of `scenes_of`; `window_s` as of `embed_files`."""
    seconds, from_s = windows(window_s)
    return embedding_settings(model, "scene", "float32", seconds, None, windows_from_s=from_s)


def kept_in(settings: EmbeddingSettings, root: Path | None = None) -> Path:
    """The folder below `root` (None: the cache folder) for embeddings of these settings, and for no others."""
    key = hashlib.sha256(repr(sorted(settings.as_dict().items())).encode()).hexdigest()[:16]
    return (root or cache_folder() / "embeddings") / key


def scenes_of(
    files: Sequence[Path],
    model: HearModel,
    *,
    window_s: float | str | None = None,
    root: Path | None = None,
    progress: Callable[[CorpusSummary], None] | None = None,
) -> tuple[list[Scenes | None], list[Failure], EmbeddingSettings]:
    """The scene embeddings of recordings, kept below `root`, so that the same ones are not computed again.

    Args:
        window_s: as of `embed_files`.
        root: see `kept_in`.

    Returns:
        for each recording its scenes, or None where it failed; the failures; and what decides the numbers.
    """
    settings = scene_settings(model, window_s)
    folder = kept_in(settings, root)
    sources = [AudioFile(path, hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:24]) for path in files]
    different = {source.name: source for source in sources}
    done = embed_audio_files(
        list(different.values()),
        [],
        folder,
        model,
        kind="scene",
        dtype="float32",
        window_s=settings.window_s,
        windows_from_s=settings.windows_from_s,
        hop_s=None,
        workers=None,
        batch_seconds=None,
        overwrite=False,
        progress=progress,
    )
    failed = {failure.path for failure in done.failed}
    output = NpzOutput(folder, settings, overwrite=False)
    results: list[Scenes | None] = []
    for source in sources:
        if str(source.path) in failed:
            results.append(None)
            continue
        embeddings, times = embeddings_of(output.path_of(source))
        results.append((embeddings, times.get("start_ms"), times["end_ms"]))
    return results, done.failed, settings


def refuse_nothing(found: Sequence[object], failures: Sequence[Failure]) -> None:
    """HearModelsError if no recording at all could be embedded."""
    if all(result is None for result in found):
        raise HearModelsError(f"no recording could be embedded. The first: {failures[0].error}")
