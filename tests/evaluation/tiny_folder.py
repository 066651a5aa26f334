"""Embedding folders as the kit lays them out, small and made up."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np


def write_folder(
    path: Path, rows: dict[str, int], dim: int = 16, classes: int = 4, noise: float = 0.3, **changes
) -> Path:
    """An embedding folder as the kit lays it out; a class is a direction in the embedding, blurred by noise."""
    path.mkdir()
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(classes, dim))
    kfold = "fold00" in rows
    metadata = {
        "task_name": "mine",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "new_split_kfold" if kfold else "trainvaltest",
        "evaluation": ["top1_acc"],
        "splits": list(rows),
        **changes,
    }
    (path / "task_metadata.json").write_text(json.dumps(metadata), "utf-8")
    (path / "labelvocabulary.csv").write_text(
        "idx,label\n" + "".join(f"{i},{i + 60}\n" for i in range(classes)), "utf-8"
    )
    names = {split: sorted(f"{split}-{index}.wav" for index in range(count)) for split, count in rows.items()}
    labels = {
        split: {name: [60 + generator.integers(classes).item()] for name in files} for split, files in names.items()
    }
    order = random.Random(0)
    for split, files in names.items():
        (path / f"{split}.json").write_text(json.dumps(labels[split]), "utf-8")
        packed = list(files)
        order.shuffle(packed)
        wanted = np.array([labels[split][name][0] - 60 for name in packed])
        values = centres[wanted] + noise * generator.normal(size=(len(packed), dim))
        (path / f"{split}.embeddings.npy").write_bytes(values.astype("<f4").tobytes())
        (path / f"{split}.embedding-dimensions.json").write_text(json.dumps(list(values.shape)), "utf-8")
    return path
