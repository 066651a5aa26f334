"""The inputs of the golden files, regenerated (the golden READMEs say how), and the one table of tolerances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"

# Largest absolute difference from the official code's float32 result. Loosening one is a line in the CHANGELOG.
TOLERANCE = {
    "mel filters": 1e-6,
    "log-mel": 2e-4,
    "embedding": 1e-4,
    "embedding, official bfloat16": 0.05,
    "embedding, official bfloat16, base": 0.15,
    "milliseconds": 1e-3,
    "position table": 3e-5,
    "attention": 2e-5,
    "prediction": 2e-5,
    "loss": 1e-5,
    "learning rate / base": 1e-6,
    "gradient norm, relative": 1e-3,
    "parameters after 5 steps": 1e-4,
    "Adam's mu": 1e-5,
    "Adam's nu": 1e-6,
    "MSM-MAE": 2e-5,  # of |ours - official| / (1 + |official|), as its golden README measures
    "MSM-MAE, base sizes": 1e-4,
    "MSM-MAE, position table": 1e-6,
    "MSM-MAE, gradient norm, relative": 1e-4,
    "GISE-51, decibels": 1e-4,
    "GISE-51, relative": 5e-5,  # of the largest official value, as its golden README measures
    "GISE-51, checkpoint, relative": 2e-5,
    # three optimiser steps in torch's own memory layout; between the same numbers there and channels last the last row
    "GISE-51, first training step, loss, relative": 1e-6,  # in both layouts
    "GISE-51, training steps, loss, relative": 1e-5,  # as its golden README, and the next
    "GISE-51, training steps, gradient norms, relative": 1e-3,
    "GISE-51, first training step, each gradient norm": 5e-6,  # divided by its own official value, as the next two
    "GISE-51, training steps, each parameter's norm": 5e-4,
    "GISE-51, training steps, each statistic's norm": 1e-4,
    "GISE-51, training steps, bias of the head": 1e-6,
    "GISE-51, training steps, filters": 2e-4,
    "GISE-51, first training step, channels last, each gradient norm": 5e-3,
    "learnable, front end, relative": 5e-6,  # all of this group of the largest official value, as its golden README
    "learnable, log-mel, relative": 2e-5,
    "learnable, mini, relative": 1e-5,
    "learnable, mini step, relative": 1e-4,
    "learnable, mini gradient, relative": 2e-4,
    "learnable, B0, relative": 2e-5,
    "learnable, B0 leaf-pytorch, relative": 1e-5,
    "learnable, B0 step, relative": 3e-4,
    "SSAST and Audio Mamba": 2e-5,  # embeddings, predictions, parameters after 3 steps
    "SSAST and Audio Mamba, inside": 1e-5,  # between the layers
    "SSAST and Audio Mamba, published sizes": 1e-4,
    "SSAST and Audio Mamba, loss, relative": 1e-6,
    "SSAST and Audio Mamba, gradient, relative": 1e-5,
    "learnable, trajectory, relative": 2e-3,  # after four updates
    "learnable, proposal, relative": 2e-6,  # self-consistency of the HEAR plan, not parity
    "ft-CBAM": 1e-5,  # our own reconstruction: self-consistency, there is no official code
    "ft-CBAM, gradient": 1e-4,
    "ft-CBAM, full size, relative": 2e-5,
    "ft-CBAM, front end": 1e-4,  # of |ours - golden| / (1 + |golden|) for power
    "ft-CBAM, float64 training, relative": 1e-9,
    "AudioMAE++": 2e-5,  # embeddings, tokens, predictions, parameters after 4 steps
    "AudioMAE++, front end": 5e-5,
    "AudioMAE++, published sizes": 1e-4,
    "AudioMAE++, loss, relative": 1e-6,
    "AudioMAE++, gradient": 1e-5,
    "AxLSTM, scene": 2e-5,
    "AxLSTM, steps": 2e-4,
    "AxLSTM, inside": 5e-5,  # between and in the layers
    "AxLSTM, inside, tiny amplitude": 1e-5,
    "AxLSTM, published sizes, scene": 5e-5,
    "AxLSTM, published sizes, steps": 1e-3,
    "AxLSTM, loss": 1e-5,
    "AxLSTM, prediction": 1e-4,
    "AxLSTM, gradient norm, relative": 1e-3,
    "AxLSTM, parameters after 3 steps": 1e-4,
    "mLSTM, in errors of the official float32": 12.0,  # against its float64 numbers; the larger of this and the next
    "mLSTM, relative": 4e-6,  # of the largest value, as all below
    "mLSTM, grad, float32, relative": 1e-4,
    "mLSTM, grad, float64, relative": 1e-5,
    "mLSTM, grad_hard, float32, relative": 2e-4,
    "mLSTM, grad_hard, float64, relative": 1e-5,
}


def clip(seed: int, n: int, kind: str) -> np.ndarray:
    """A waveform at 16 kHz, float32 [n]."""
    rng = np.random.Generator(np.random.PCG64(seed))
    t = np.arange(n) / 16000
    if kind == "silence":
        return np.zeros(n, np.float32)
    if kind == "loud":
        return np.clip(3.0 * rng.standard_normal(n), -1, 1).astype(np.float32)
    f1, f2 = 100 + 50 * (seed % 7), 800 + 100 * (seed % 11)
    tones = 0.3 * np.sin(2 * np.pi * f1 * t) + 0.2 * np.sin(2 * np.pi * (f2 * t + 0.5 * 150.0 * t * t))
    return (tones + 0.05 * rng.standard_normal(n)).astype(np.float32)


def clips(case: list[tuple[int, int, str]]) -> Tensor:
    """A batch of waveforms of equal length, [clips, samples]."""
    return torch.from_numpy(np.stack([clip(*spec) for spec in case]))


def crop(seed: int, batch: int, frames: int = 200, bands: int = 80) -> Tensor:
    """Normalised training crops, float32 [batch, frames, bands]."""
    x = np.random.Generator(np.random.PCG64(seed)).standard_normal((batch, frames, bands), dtype=np.float32)
    return torch.from_numpy(np.cumsum(x, axis=1) * np.float32(0.1) + x * np.float32(0.5))


def largest_difference(ours: Tensor | np.ndarray, theirs: np.ndarray) -> float:
    """Largest absolute difference; shapes must agree."""
    ours = ours.detach().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
    assert ours.shape == theirs.shape, f"{ours.shape} is not {theirs.shape}"
    return float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max()) if theirs.size else 0.0


MWMAE_CASES = {
    "short_51f": [(1, 8000, "mix")],
    "exact_200f": [(2, 31840, "mix")],
    "tail_201f": [(3, 32000, "mix")],
    "odd_500f": [(4, 79999, "mix")],
    "batch2": [(5, 40000, "mix"), (6, 40000, "mix")],
    "silence": [(0, 16000, "silence")],
    "loud": [(7, 20011, "loud")],
    "tiny_3f": [(8, 400, "mix")],
}
