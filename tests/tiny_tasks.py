"""Four task folders of a few short clips, by arithmetic alone: no random generator, no resampler, the same everywhere.

tests/golden/evaluation/kit_embeddings.zip is what the released kit's embedding runner wrote for them.
"""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np

# A HEAR module whose embeddings are samples and counts, so that they are exact on any machine. They say which clip was
# embedded, in a batch of which size, at which place in it, and whether somebody called eval() or train().
ECHO = '''
"""A HEAR module that says what it was given."""
import torch

class Model(torch.nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = RATE, 6, 3

def load_model(model_file_path: str = "", training: bool = False, offset: float = 0.0):
    model = Model().train(training)
    model.offset = offset
    return model

def get_scene_embeddings(audio, model):
    n, samples = audio.shape
    rows = torch.stack([torch.full((n,), float(samples)), torch.full((n,), float(n)), torch.arange(n).float(),
                        torch.full((n,), float(model.training))], 1)
    return torch.cat([audio[:, :1] + model.offset, audio.amax(1, keepdim=True), rows], 1)

def get_timestamp_embeddings(audio, model):
    step = model.sample_rate // 40  # 25 ms
    audio = audio[:, : audio.shape[1] // step * step].reshape(len(audio), -1, step)
    times = 25.0 * torch.arange(audio.shape[1]).float()
    rows = torch.stack([audio[..., 0], audio.amax(2), torch.full(audio.shape[:2], float(len(audio)))], 2)
    return rows.half(), times.expand(len(audio), -1)
'''

RATES = {"kfold-v1-full": 16000, "tvt-v2-5h": 32000, "tags-v1-full": 16000, "events-v1-full": 16000}


def write_all(root: Path) -> list[Path]:
    """A task with folds and integer labels, one with train/valid/test, one of clips of any length with any number of
    labels, and one of events whose ends lie on timestamps."""
    folds = {f"fold{k:02d}": 5 for k in range(3)}
    tvt = {"train": 7, "valid": 3, "test": 4}
    return [
        write_task(root, "kfold-v1-full", folds, [60, 61, 62, 100], 30.0, lambda k: [(60, 61, 62, 100)[k % 4]]),
        write_task(root, "tvt-v2-5h", tvt, ["a", "b", "ö"], 8.0, lambda k: ["abö"[k % 3]]),
        write_task(root, "tags-v1-full", tvt, ["x", "y"], None, lambda k: [[], ["x"], ["y"], ["x", "y"]][k % 4]),
        write_task(root, "events-v1-full", {"train": 3, "valid": 2, "test": 2}, ["hit", "ring"], 60.0, events, True),
    ]


def events(k: int) -> list[dict[str, Any]]:
    """Of a clip of 0.6 s: onsets and ends on the grid of 25 ms and beside it, two at a time, and none at all."""
    if k % 3 == 2:
        return []
    return [
        {"label": "ring", "start": 50.0 * k, "end": 300.0},
        {"label": "hit", "start": 110.5, "end": 175.0},
        {"label": "hit", "start": 175.0, "end": 190.25 + k},
        {"label": "hit", "start": 575.0, "end": 600.0},
    ]


def write_task(
    root: Path,
    name: str,
    clips: dict[str, int],
    labels: list[Any],
    seconds: float | None,
    said: Any,
    event: bool = False,
) -> Path:
    """One folder. `clips`: split → number of them; `seconds` is what the metadata say, by which the kit makes batches;
    `said` gives the labels of clip k."""
    folder, rate, number = root / name, RATES[name], 0
    folder.mkdir(parents=True)
    several = event or seconds is None
    metadata = {
        "task_name": name.split("-")[0],
        "version": name.split("-")[1],
        "embedding_type": "event" if event else "scene",
        "prediction_type": "multilabel" if several else "multiclass",
        "split_mode": "trainvaltest" if "train" in clips else "new_split_kfold",
        "sample_duration": seconds,
        "evaluation": ["event_onset_200ms_fms"] if event else ["mAP" if several else "top1_acc"],
        "splits": list(clips),
        "synthetic": True,
    }
    (folder / "task_metadata.json").write_text(json.dumps(metadata, indent=1))
    lines = "".join(f"{idx},{label}\n" for idx, label in enumerate(labels))
    (folder / "labelvocabulary.csv").write_text(f"idx,label\n{lines}", encoding="utf-8")
    for split, count in clips.items():
        table = {}
        for _ in range(count):
            file = f"{(number * 7919) % 104729:06d}-{number}.wav"  # neither in the order of numbers nor of splits
            table[file] = said(number)
            n_samples = 9600 if event else 800 if seconds else 400 + 160 * (number % 5)
            write_clip(folder / str(rate) / split / file, samples_of(number, n_samples), rate)
            number += 1
        (folder / f"{split}.json").write_text(json.dumps(table, indent=1, sort_keys=True))
    return folder


def samples_of(number: int, n_samples: int) -> np.ndarray:
    """int16 [n_samples], another sawtooth for each number."""
    return ((np.arange(n_samples) * (37 + 2 * number) + 1009 * number) % 20011 - 10005).astype("<i2")


def write_clip(path: Path, samples: np.ndarray, rate: int) -> None:
    """16-bit PCM, mono."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


def write_module(folder: Path, name: str, rate: int) -> Path:
    """ECHO at a sample rate, as FOLDER/NAME.py."""
    path = folder / f"{name}.py"
    path.write_text(ECHO.replace("RATE", str(rate)))
    return path
