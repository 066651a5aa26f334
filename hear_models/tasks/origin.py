"""Whether a task folder is one of HEAR's, something else of that name, a toy, or a user's own: by what it holds.

A name proves nothing, and whoever renames a folder changes nothing in it. HEAR's preparation writes its whole
configuration into the metadata, with the addresses of the corpus; makers of tasks here leave their own mark. The
archives themselves were never seen by this project, so no digest of them can be asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hear_models.tasks.known_tasks import KnownTask, known_tasks

OFFICIAL, UNOFFICIAL, SYNTHETIC, USER = "official", "unofficial", "synthetic", "user"
MADE_HERE = ("origin", "made_by")  # in the metadata of a task that somebody made; in none of HEAR's


@dataclass(frozen=True)
class Content:
    """What a task folder holds, its audio apart."""

    metadata: Mapping[str, Any]
    counts: Mapping[str, int]  # split → clips
    labels: Sequence[str]  # the vocabulary
    said: Mapping[str, int]  # label → how many clips or events carry it


def origin_of(folder_name: str, content: Content) -> str:
    """OFFICIAL, UNOFFICIAL (a known name, another content), SYNTHETIC (the metadata say so) or USER.

    `folder_name` decides which task it is, never the metadata's `task_name` (Mridangam Tonic's is Stroke's).
    """
    if content.metadata.get("synthetic"):
        return SYNTHETIC
    if folder_name not in known_tasks():
        return USER
    return UNOFFICIAL if differences(folder_name, content) else OFFICIAL


def differences(folder_name: str, content: Content) -> list[str]:
    """What sets a folder of a known name apart from the published task, a clause each; empty: nothing does.

    Raises KeyError for a name that is none of the known tasks.
    """
    known, metadata = known_tasks()[folder_name], content.metadata
    compared = {
        "embedding_type": (metadata.get("embedding_type"), known.embedding_type),
        "prediction_type": (metadata.get("prediction_type"), known.prediction_type),
        "split_mode": (metadata.get("split_mode"), known.split_mode),
        "splits": (sorted(map(str, metadata.get("splits") or [])), sorted(known.splits)),
        "primary metric": ((metadata.get("evaluation") or [None])[0], known.evaluation[0]),
        "sample_duration": (metadata.get("sample_duration"), known.clip_s),
        "clips": (sum(content.counts.values()), known.n_clips),
        **{f"clips of {split}": (content.counts.get(split), n) for split, n in known.clips_by_split.items()},
    }
    if known.n_classes_stated:
        compared["labels"] = (len(content.labels), known.n_classes)
    mark = next((key for key in MADE_HERE if key in metadata), None)
    found = [f"its metadata say who made it ({mark}: {metadata[mark]})"] if mark else []
    found += [
        f"{what}: {_plain(got)}, published {_plain(want)}" for what, (got, want) in compared.items() if got != want
    ]
    return [*found, *_other_labels(known, content), *_other_corpus(known, metadata)]


def _other_labels(known: KnownTask, content: Content) -> list[str]:
    strange = sorted(set(content.labels) - set(known.labels)) if known.labels else []
    if strange:
        return [f"the label {strange[0]!r}, published {', '.join(known.labels[:4])}, ..."]
    if known.clips_by_class is not None:
        for label in content.labels:
            if content.said.get(label, 0) != known.clips_by_class:
                return [f"clips of {label!r}: {content.said.get(label, 0)}, published {known.clips_by_class}"]
    return []


def _other_corpus(known: KnownTask, metadata: Mapping[str, Any]) -> list[str]:
    """HEAR's metadata name the files of the corpus, with MD5 sums, or its data set of TensorFlow."""
    said = json.dumps([metadata.get("download_urls"), f"tfds:{metadata.get('tfds_task_name')}"], default=str)
    if any(text in said for text in known.corpus):
        return []
    return [f"its metadata name none of the files that it was made from, published {known.corpus[0]}"]


def _plain(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
