"""The 19 tasks of HEAR 2021 as data, and whether a task folder is one of them, another, a toy or a user's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from hear_models.resources import resource

RECORD_NUMBER = "6332517"  # on Zenodo; concept DOI 10.5281/zenodo.5885750
RECORD = f"https://zenodo.org/record/{RECORD_NUMBER}/files"
ARCHIVE_RATE = 48000  # Hz, the only one there
ALL_RATES = "gs:// and s3://hear2021-archive/tasks/ (requester pays)"
RATES = (16000, 22050, 32000, 44100, 48000)  # Hz, those of the archives
OFFICIAL, UNOFFICIAL, SYNTHETIC, USER = "official", "unofficial", "synthetic", "user"


@dataclass(frozen=True)
class KnownTask:
    """A task of HEAR 2021 (benchmarks/published/hear_tasks.json has the sources)."""

    folder: str  # NAME-VERSION-MODE
    title: str
    paper_name: str | None  # as the papers' tables call it; None outside of their ten tasks
    embedding_type: str
    prediction_type: str
    split_mode: str
    splits: tuple[str, ...]
    clip_s: float | None  # seconds; None: clips keep their length
    n_clips: int
    n_classes: int
    n_classes_stated: bool  # False: inferred from the corpus, not from HEAR's own pages
    evaluation: tuple[str, ...]
    hours: float
    tarball: str  # file name with RATE where the sample rate stands
    tarball_name_seen: bool  # False: by analogy with others
    note: str | None

    def address(self, sample_rate: int = 48000) -> str:
        """Where the archive of that rate is said to be; Zenodo has 48000 Hz only."""
        name = self.tarball.replace("RATE", str(sample_rate))
        return f"{RECORD}/{name}" if sample_rate == 48000 else f"gs://hear2021-archive/tasks/{name}"


@cache
def known_tasks() -> dict[str, KnownTask]:
    """Folder name → task, in the order of the file."""
    text = (resource("benchmarks/published") / "hear_tasks.json").read_text(encoding="utf-8")
    return {entry["folder"]: _known(entry) for entry in json.loads(text)["tasks"]}


def _known(entry: Mapping[str, Any]) -> KnownTask:
    return KnownTask(
        folder=entry["folder"],
        title=entry["name"],
        paper_name=entry["paper_ten"],
        embedding_type=entry["embedding_type"],
        prediction_type=entry["prediction_type"],
        split_mode=entry["split_mode"],
        splits=tuple(entry["splits"]),
        clip_s=entry["clip_seconds"],
        n_clips=entry["n_clips"],
        n_classes=entry["n_classes"],
        n_classes_stated=entry["n_classes_stated"],
        evaluation=tuple(entry["evaluation"]),
        hours=entry["hours"],
        tarball=entry["tarball"],
        tarball_name_seen=entry["tarball_name_seen"] is not None,
        note=entry["note"],
    )


def differences(folder_name: str, metadata: Mapping[str, Any], n_clips: int, n_labels: int) -> list[str]:
    """What sets a folder of a known name apart from the published task, a clause each; empty: nothing does.

    Raises KeyError for a name that is none of the known tasks.
    """
    known = known_tasks()[folder_name]
    compared = {
        "embedding_type": (metadata.get("embedding_type"), known.embedding_type),
        "prediction_type": (metadata.get("prediction_type"), known.prediction_type),
        "split_mode": (metadata.get("split_mode"), known.split_mode),
        "splits": (sorted(map(str, metadata.get("splits") or [])), sorted(known.splits)),
        "primary metric": ((metadata.get("evaluation") or [None])[0], known.evaluation[0]),
        "sample_duration": (metadata.get("sample_duration"), known.clip_s),
        "clips": (n_clips, known.n_clips),
    }
    if known.n_classes_stated:
        compared["labels"] = (n_labels, known.n_classes)
    return [f"{what}: {_plain(got)}, published {_plain(want)}" for what, (got, want) in compared.items() if got != want]


def _plain(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def origin_of(folder_name: str, metadata: Mapping[str, Any], n_clips: int, n_labels: int) -> str:
    """OFFICIAL, UNOFFICIAL (a known name, another content), SYNTHETIC (the metadata say so) or USER.

    `folder_name` decides which task it is, never the metadata's `task_name` (Mridangam Tonic's is Stroke's).
    """
    if metadata.get("synthetic"):
        return SYNTHETIC
    if folder_name not in known_tasks():
        return USER
    return UNOFFICIAL if differences(folder_name, metadata, n_clips, n_labels) else OFFICIAL
