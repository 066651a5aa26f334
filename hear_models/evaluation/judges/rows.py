"""From an embedding folder to what a training eats: which split is what, rows as tensors, and the guards.

As in hear-eval-kit, rows keep their packed order; a k-fold training split is its folds one after another by name.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from hear_models.errors import HearModelsError
from hear_models.evaluation.embeddings.folder import EmbeddingFolder, EmbeddingFolderError, Split

KFOLD = ("new_split_kfold", "presplit_kfold")


@dataclass(frozen=True)
class DataSplit:
    """One way of dividing a task: names of the training folds, of the validation split and of the test split."""

    train: tuple[str, ...]
    valid: str
    test: str


@dataclass(frozen=True)
class Rows:
    """Rows on the training device: `embeddings` float32 [rows, dim], `targets` float32 [rows, classes], 0 or 1.

    `files` and `timestamps_ms` say whose they are, as in `folder.Split`.
    """

    embeddings: torch.Tensor
    targets: torch.Tensor
    files: list[str]
    timestamps_ms: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.files)


def data_splits(metadata: Mapping[str, Any]) -> list[DataSplit]:
    """train/valid/test as it is; of k folds by name: i tests, i + 1 (modulo k) validates, the rest trains."""
    mode, splits = metadata.get("split_mode"), metadata.get("splits") or []
    if mode == "trainvaltest":
        return [DataSplit(("train",), "valid", "test")]
    if mode not in KFOLD:
        raise HearModelsError(
            f"split_mode {mode!r} in the task's metadata is unknown. Write trainvaltest, {' or '.join(KFOLD)}."
        )
    folds = sorted(str(split) for split in splits)
    if len(folds) < 3 or len(set(folds)) != len(folds):
        raise HearModelsError(f"A k-fold task needs three or more different folds; the metadata lists {folds}.")
    found = []
    for index, test in enumerate(folds):
        valid = folds[(index + 1) % len(folds)]
        found.append(DataSplit(tuple(fold for fold in folds if fold not in (test, valid)), valid, test))
    return found


def read_rows(
    folder: EmbeddingFolder, device: torch.device, *, random_labels: bool = False, seed: int = 0
) -> dict[str, Rows]:
    """Every split of the task as rows, checked: finite, of one width, labels in the vocabulary.

    With `random_labels` the labels of each split are shuffled over its rows (an event task's embeddings instead, so
    that its reference events stay where they are): a judge without a leak must then score at chance.
    """
    found: dict[str, Rows] = {}
    names = sorted({name for split in data_splits(folder.metadata) for name in (*split.train, split.valid, split.test)})
    for name in names:
        split = folder.split(name)
        if random_labels:
            split = shuffled(split, seed, name)
        if not np.isfinite(split.embeddings).all():
            row = int(np.flatnonzero(~np.isfinite(split.embeddings).all(axis=1))[0])
            raise EmbeddingFolderError(
                f"{folder.path / name}.embeddings.npy has NaN or infinity, first in row {row} ({split.files[row]}). "
                "Look at the model's output for that file."
            )
        # the copy gets torch's own alignment, on which the bits of a matrix product may depend
        embeddings = torch.from_numpy(split.embeddings).clone().to(device)
        targets = torch.from_numpy(binary_targets(folder, name, split)).clone().to(device)
        found[name] = Rows(embeddings, targets, split.files, split.timestamps_ms)
    widths = {name: rows.embeddings.shape[1] for name, rows in found.items()}
    if len(set(widths.values())) > 1:
        raise EmbeddingFolderError(f"{folder.path}: the embeddings' widths differ: {widths}. Embed the task again.")
    return found


def binary_targets(folder: EmbeddingFolder, name: str, split: Split) -> np.ndarray:
    """Labels as 0 and 1, float32 [rows, classes]; compared as strings, since labels may be JSON integers."""
    index = {label: position for position, label in enumerate(folder.labels)}
    targets = np.zeros((len(split.labels), len(index)), np.float32)
    single = folder.metadata.get("prediction_type") == "multiclass"
    for row, labels in enumerate(split.labels):
        if single and len(labels) != 1:
            raise EmbeddingFolderError(
                f"{folder.path / name}.json gives {split.files[row]} {len(labels)} labels; a multiclass task needs one."
            )
        for label in labels:
            if str(label) not in index:
                raise EmbeddingFolderError(
                    f"{folder.path / name}.json gives {split.files[row]} the label {str(label)!r}, "
                    "which labelvocabulary.csv does not have."
                )
            targets[row, index[str(label)]] = 1.0
    return targets


def shuffled(split: Split, seed: int, name: str) -> Split:
    """The split with labels shuffled over rows; with timestamps, its embeddings instead. The seed says how."""
    order = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())])).permutation(len(split.files))
    if split.timestamps_ms is not None:
        return replace(split, embeddings=split.embeddings[order])
    return replace(split, labels=[split.labels[row] for row in order])


def training_rows(rows: Mapping[str, Rows], names: Sequence[str], batch_size: int) -> tuple[Rows, list[str]]:
    """The named splits one after another, and warnings. A last batch of a single row is left out.

    Batch normalisation cannot train on one row: the kit stops there with an error.
    """
    parts = [rows[name] for name in names]
    if len(parts) == 1:
        joined = parts[0]
    else:
        joined = Rows(
            torch.cat([part.embeddings for part in parts]),
            torch.cat([part.targets for part in parts]),
            [file for part in parts for file in part.files],
        )
    if len(joined) % batch_size != 1:
        return joined, []
    if len(joined) == 1:
        raise EmbeddingFolderError("The training split has a single row, which nothing can be trained on. Add clips.")
    warning = (
        f"{'+'.join(names)} has {len(joined)} rows, so its last batch of {batch_size} is one row, on which batch "
        f"normalisation cannot train and the kit stops. The row ({joined.files[-1]}) was left out."
    )
    return Rows(joined.embeddings[:-1], joined.targets[:-1], joined.files[:-1]), [warning]


def batches(rows: int, batch_size: int) -> list[slice]:
    """Slices of `batch_size` rows in order; the last may be short."""
    return [slice(start, min(start + batch_size, rows)) for start in range(0, rows, batch_size)]
