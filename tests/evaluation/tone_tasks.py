"""Small tasks that can be learned: each label is a tone in noise; and HEAR modules that hear the tones, or nothing."""

from __future__ import annotations

import json
import math
import wave
from pathlib import Path

import numpy as np

RATE, SECONDS = 16000, 0.25
LABELS = ["dog", "cat", "rain", "bell"]

MODULE = '''
"""A HEAR module for tests: {what}."""
import hashlib
import torch

class Model(torch.nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 24, 24

def load_model(model_file_path=""):
    return Model().eval()

def get_scene_embeddings(audio, model):
    {body}

def get_timestamp_embeddings(audio, model):
    return get_scene_embeddings(audio, model)[:, None], torch.full((len(audio), 1), 125.0)
'''
BODIES = {
    "bands": "return torch.log(torch.fft.rfft(audio)[:, :1992].abs().reshape(len(audio), 24, 83).mean(-1) + 1e-3)",
    "noise": (
        "return torch.stack([torch.randn(24, generator=torch.Generator().manual_seed(int.from_bytes("
        "hashlib.sha256(clip.numpy().tobytes()).digest()[:4], 'big'))) for clip in audio])"
    ),
    "broken": "raise RuntimeError('boom')",
    "undefined": "return torch.full((len(audio), 24), float('nan'))",
}


def write_module(folder: Path, name: str) -> Path:
    """FOLDER/heard_NAME.py: "bands" hears, "noise" gives random numbers by clip, "broken" raises, "undefined" NaN."""
    path = folder / f"heard_{name}.py"
    path.write_text(MODULE.format(what=name, body=BODIES[name]))
    return path


def write_task(root: Path, name: str, splits: dict[str, int], multilabel: bool = False) -> Path:
    """ROOT/NAME with so many clips per split, the labels in turn; multilabel: two labels, each in every second clip."""
    folder, generator = root / name, np.random.default_rng(sum(map(ord, name)))
    folder.mkdir(parents=True)
    metadata = {
        "task_name": name.split("-")[0],
        "version": "v1",
        "embedding_type": "scene",
        "prediction_type": "multilabel" if multilabel else "multiclass",
        "split_mode": "trainvaltest" if "train" in splits else "new_split_kfold",
        "sample_duration": SECONDS,
        "evaluation": ["mAP", "aucroc"] if multilabel else ["top1_acc"],
        "splits": list(splits),
        "synthetic": True,
    }
    (folder / "task_metadata.json").write_text(json.dumps(metadata, indent=1))
    labels = sorted(LABELS[:2] if multilabel else LABELS)
    rows = "".join(f"{k},{label}\n" for k, label in enumerate(labels))
    (folder / "labelvocabulary.csv").write_text(f"idx,label\n{rows}")
    for split, clips in splits.items():
        table = {}
        for k in range(clips):
            present = (
                [k % 2 == 0, k // 2 % 2 == 0] if multilabel else [k % len(labels) == n for n in range(len(labels))]
            )
            table[f"{split}_{k:03d}.wav"] = [label for label, is_there in zip(labels, present, strict=True) if is_there]
            write_clip(folder / str(RATE) / split / f"{split}_{k:03d}.wav", present, generator)
        (folder / f"{split}.json").write_text(json.dumps(table, indent=1))
    return folder


def write_clip(path: Path, present: list[bool], generator: np.random.Generator) -> None:
    """Noise, and a tone of its own frequency for each label that is present."""
    time = np.arange(int(RATE * SECONDS)) / RATE
    samples = 0.05 * generator.standard_normal(len(time))
    for k, is_there in enumerate(present):
        if is_there:
            samples += 0.2 * np.sin(2 * math.pi * (500 + 1500 * k) * time + generator.uniform(0, 6))
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", "NONE"))
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
