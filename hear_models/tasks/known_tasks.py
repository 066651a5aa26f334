"""The 19 tasks of HEAR 2021 as data; `origin.py` says whether a folder is one of them."""

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


@dataclass(frozen=True)
class KnownTask:
    """A task of HEAR 2021 (benchmarks/published/hear_tasks.json has the sources)."""

    folder: str  # NAME-VERSION-MODE
    title: str
    paper_name: str | None  # as the papers' tables call it; None outside of their ten tasks
    short: str  # the head of a column: the paper's name, or one of that kind
    embedding_type: str
    prediction_type: str
    split_mode: str
    splits: tuple[str, ...]
    clip_s: float | None  # seconds; None: clips keep their length
    n_clips: int
    n_classes: int
    n_classes_stated: bool  # False: inferred from the corpus, not from HEAR's own pages
    labels: tuple[str, ...]  # empty: not known
    clips_by_split: Mapping[str, int]  # of the splits of which it is known
    clips_by_class: int | None  # where every class has as many
    corpus: tuple[str, ...]  # addresses and MD5 sums of what it was made from; of TensorFlow's data sets "tfds:NAME"
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
        short=entry["paper_ten"] or entry["short"],
        embedding_type=entry["embedding_type"],
        prediction_type=entry["prediction_type"],
        split_mode=entry["split_mode"],
        splits=tuple(entry["splits"]),
        clip_s=entry["clip_seconds"],
        n_clips=entry["n_clips"],
        n_classes=entry["n_classes"],
        n_classes_stated=entry["n_classes_stated"],
        labels=tuple(map(str, entry["labels"] or ())),
        clips_by_split=entry.get("clips_by_split", {}),
        clips_by_class=entry.get("clips_by_class"),
        corpus=tuple(
            text
            for source in entry["corpus_sources"]
            for text in ([f"tfds:{source['tfds']}"] if "tfds" in source else [source["url"], source["md5"]])
        ),
        evaluation=tuple(entry["evaluation"]),
        hours=entry["hours"],
        tarball=entry["tarball"],
        tarball_name_seen=entry["tarball_name_seen"] is not None,
        note=entry["note"],
    )
