"""Scene embeddings that are kept: below the cache folder, or where a caller says, so that none is computed twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hear_models.corpus.discover import AudioFile, Failure
from hear_models.corpus.npz import NpzOutput
from hear_models.corpus.reading import embeddings_of
from hear_models.corpus.run import CorpusSummary, embed_audio_files
from hear_models.corpus.settings import EmbeddingSettings, embedding_settings
from hear_models.errors import HearModelsError
from hear_models.pipeline.model import HearModel
from hear_models.resources import cache_folder


def scenes_of(
    files: Sequence[Path],
    model: HearModel,
    *,
    window_s: float | None = None,
    progress: Callable[[CorpusSummary], None] | None = None,
) -> tuple[list[tuple[np.ndarray, np.ndarray | None] | None], list[Failure], EmbeddingSettings]:
    """The scene embeddings of recordings, kept below the cache folder, so that the same ones are not computed again.

    Returns:
        for each recording its embeddings [1, dim], or with `window_s` [windows, dim] and the windows' starts in ms, and
        None where it failed; the failures; and what decides the numbers.
    """
    settings = embedding_settings(model, "scene", "float32", window_s, None)
    key = hashlib.sha256(repr(sorted(settings.as_dict().items())).encode()).hexdigest()[:16]
    folder = cache_folder() / "embeddings" / key
    sources = [AudioFile(path, hashlib.sha256(os.path.abspath(path).encode()).hexdigest()[:24]) for path in files]
    different = {source.name: source for source in sources}
    done = embed_audio_files(
        list(different.values()),
        [],
        folder,
        model,
        kind="scene",
        dtype="float32",
        window_s=window_s,
        hop_s=None,
        workers=None,
        batch_seconds=None,
        overwrite=False,
        progress=progress,
    )
    failed = {failure.path for failure in done.failed}
    if len(failed) == len(different):
        raise HearModelsError(f"no recording could be embedded. The first: {done.failed[0].error}")
    output = NpzOutput(folder, settings, overwrite=False)
    results: list[tuple[np.ndarray, np.ndarray | None] | None] = []
    for source in sources:
        if str(source.path) in failed:
            results.append(None)
            continue
        embeddings, times = embeddings_of(output.path_of(source))
        results.append((embeddings, times.get("start_ms")))
    return results, done.failed, settings
