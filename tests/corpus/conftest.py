"""A trained-looking checkpoint of a tiny MW-MAE, and folders of small recordings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_models import mwmae, zoo
from hear_models.checkpoints.safetensors_file import write_checkpoint
from hear_models.pipeline.model import HearModel

RATE = 16000


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = mwmae.Config(encoder_width=24, encoder_depth=1, encoder_heads=3, patch_frames=40, decoder_width=16)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    write_checkpoint(
        path, family="mwmae", config=asdict(config), tensors=mwmae.Model(config).state_dict(), trained=True
    )
    return path


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> HearModel:
    return zoo.load_model(tiny_path)


@pytest.fixture
def make() -> Callable[..., np.ndarray]:
    """make(path, seconds, rate=16000, channels=1, seed=0): write noise, return the samples."""

    def make_file(path: Path, seconds: float, rate: int = RATE, channels: int = 1, seed: int = 0) -> np.ndarray:
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), channels)).astype(np.float32)
        soundfile.write(path, samples, rate)
        return samples

    return make_file
