"""How error rates rise when bins and frames of the spectrogram are dropped at random, at test time only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from hear_models.errors import UsageError
from hear_models.pipeline.audio import read_audio
from hear_models.pipeline.model import HearModel, pool_scene
from hear_models.speaker.metrics import equal_error_rate
from hear_models.speaker.scoring import dropped
from hear_models.speaker.trials import Trial
from hear_models.speaker.verification import labels_of, score_trials
from hear_models.speaker.voices import Progress, check_names
from hear_models.subjects.loaded import Loaded

WHAT = {"bins": (1, 0), "frames": (0, 1), "both": (1, 1)}  # which shares are dropped of (bins, frames)


def embed_dropped(model: HearModel, clip: Tensor, share_bins: float, share_frames: float, seed: int) -> Tensor:
    """The scene embedding [dim] of a clip [samples] whose normalised features have lost bins and frames.

    They become 0, the mean after normalisation, in every piece that goes through the network by itself; nothing is
    normalised again.
    """
    plan = model.plan(len(clip), "scene")
    model.eval()
    steps = []
    with torch.inference_mode():
        for unit, positions in zip(plan.units, model.units(clip, plan), strict=True):
            features = (model.window_features(positions[None])[0] if positions.ndim == 1 else positions).clone()
            bins, frames = dropped(features.shape[1], features.shape[0], share_bins, share_frames, seed)
            features[:, torch.from_numpy(bins)] = 0
            features[torch.from_numpy(frames)] = 0
            steps.append(model.encode(features[None])[0, unit.skip : unit.skip + unit.steps])
        return pool_scene(torch.cat(steps)[: plan.n_steps], plan, model.scene_pooling)


def eer_when_dropped(
    loaded: Loaded,
    trials: Sequence[Trial],
    audio: Path,
    shares: Sequence[float],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Mapping[str, list[float]]:
    """EERs by the share dropped, one list each for "bins", "frames" and "both".

    What a recording loses is drawn by `seed` and its path, so it is the same for every model of the same spectrogram.

    Raises:
        UsageError: a module that is not of this package: its features cannot be reached.
        InputError, AudioFileError: as of the list and the recordings.
    """
    if not isinstance(loaded.model, HearModel):
        raise UsageError(f"{loaded.subject.name} is no model of this package, so its spectrogram cannot be reached.")
    labels = labels_of(trials)
    names = list(dict.fromkeys(name for trial in trials for name in (trial.enrol, trial.test)))
    check_names(names, audio)
    settings = [(what, share) for what in WHAT for share in shares]
    found: dict[tuple[str, float], dict[str, np.ndarray]] = {setting: {} for setting in settings}
    for done, name in enumerate(names, 1):
        clip = torch.from_numpy(read_audio(audio / name, loaded.sample_rate)).to(loaded.device)
        for what, share in settings:
            bins, frames = (share * wanted for wanted in WHAT[what])
            embedding = embed_dropped(loaded.model, clip, bins, frames, crc32(name.encode()) ^ seed)
            found[what, share][name] = embedding.float().cpu().numpy()[None]
        if progress is not None:
            progress(done, len(names))
    rates: dict[str, list[float]] = {what: [] for what in WHAT}
    for (what, _), embeddings in found.items():
        rates[what].append(equal_error_rate(score_trials(trials, embeddings), labels)[0])
    return rates
