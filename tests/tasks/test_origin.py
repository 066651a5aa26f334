"""Only what holds HEAR's own content is official: no other name, no edited metadata makes a task one of HEAR's."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tone_tasks import write_clip

from hear_models.tasks.check import check_task
from hear_models.tasks.known_tasks import KnownTask, known_tasks
from hear_models.tasks.make_small import make_small
from hear_models.tasks.new_task import TaskOptions, new_task
from hear_models.tasks.origin import Content, differences, origin_of
from hear_models.tasks.task import read_task

OPERA, ESC50, PITCH = "beijing_opera-v1.0-hear2021-full", "esc50-v2.0.0-full", "nsynth_pitch-v2.2.3-5h"


def released(name: str) -> Content:
    """What a folder holds that HEAR released, as far as it is known."""
    known = known_tasks()[name]
    corpus = {"download_urls": [{"split": "train", "md5": known.corpus[-1]}]}
    if known.corpus[0].startswith("tfds:"):
        corpus = {"tfds_task_name": known.corpus[0].removeprefix("tfds:")}
    metadata = {
        "embedding_type": known.embedding_type,
        "prediction_type": known.prediction_type,
        "split_mode": known.split_mode,
        "splits": list(known.splits),
        "evaluation": list(known.evaluation),
        "sample_duration": known.clip_s,
        **corpus,
    }
    counts = {split: 0 for split in known.splits} | dict(known.clips_by_split)
    counts[known.splits[0]] += known.n_clips - sum(counts.values())
    labels = known.labels or tuple(map(str, range(known.n_classes)))
    return Content(metadata, counts, labels, said(known, labels))


def said(known: KnownTask, labels: tuple[str, ...]) -> dict[str, int]:
    return Counter({label: known.clips_by_class or 1 for label in labels})


@pytest.mark.parametrize("name", known_tasks())
def test_a_task_is_official_only_with_the_published_content(name):
    known, content = known_tasks()[name], released(name)
    assert origin_of(name, content) == "official", differences(name, content)
    assert origin_of(f"my_{name}", content) == "user"
    for other in (
        {**content.metadata, "evaluation": ["other"]},
        {**content.metadata, "download_urls": [], "tfds_task_name": "another"},
        {key: value for key, value in content.metadata.items() if key not in ("download_urls", "tfds_task_name")},
    ):
        assert origin_of(name, replace(content, metadata=other)) == "unofficial"
    assert origin_of(name, replace(content, metadata={**content.metadata, "synthetic": True})) == "synthetic"
    for mark in ({"origin": "user"}, {"made_by": {"tool": "hear-models tasks new"}}, {"origin": "official"}):
        assert origin_of(name, replace(content, metadata={**content.metadata, **mark})) == "unofficial"
    fewer = {**content.counts, known.splits[0]: content.counts[known.splits[0]] - 1}
    assert origin_of(name, replace(content, counts=fewer)) == "unofficial"
    assert "clips: " in " ".join(differences(name, replace(content, counts=fewer)))


@pytest.mark.parametrize("name", [name for name, task in known_tasks().items() if task.clips_by_split])
def test_a_clip_moved_into_another_split_is_seen_where_the_splits_are_known(name):
    content = released(name)
    a, b = known_tasks()[name].splits[:2]
    moved = {**content.counts, a: content.counts[a] - 1, b: content.counts[b] + 1}
    assert sum(moved.values()) == known_tasks()[name].n_clips
    assert origin_of(name, replace(content, counts=moved)) == "unofficial"


@pytest.mark.parametrize("name", [name for name, task in known_tasks().items() if task.labels])
def test_a_renamed_label_is_seen_where_the_labels_are_known(name):
    content = released(name)
    renamed = ("another", *content.labels[1:])
    assert origin_of(name, replace(content, labels=renamed)) == "unofficial"
    assert "the label 'another'" in " ".join(differences(name, replace(content, labels=renamed)))


@pytest.mark.parametrize("name", [name for name, task in known_tasks().items() if task.clips_by_class])
def test_a_clip_that_got_another_label_is_seen_where_classes_are_equally_large(name):
    content = released(name)
    a, b = content.labels[:2]
    altered = {**content.said, a: content.said[a] - 1, b: content.said[b] + 1}
    assert origin_of(name, replace(content, said=altered)) == "unofficial"


# ------------------------------------------------------------------------------------------------------- whole folders
@pytest.fixture(scope="module")
def own_task(tmp_path_factory) -> Path:
    """A task of somebody's own recordings with everything that can be counted in Beijing Opera."""
    root = tmp_path_factory.mktemp("own")
    known, rng = known_tasks()[OPERA], np.random.default_rng(0)
    write_clip(root / "recordings" / "0.wav", [True], rng)
    with open(root / "table.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "label"])
        for k in range(known.n_clips):
            if k:
                shutil.copy(root / "recordings" / "0.wav", root / "recordings" / f"{k}.wav")
            rows.writerow([f"{k}.wav", "abcd"[k % 4]])
    options = TaskOptions(sample_duration=known.clip_s, folds=5)
    return new_task(root / "table.csv", root / "recordings", root / "tasks" / "mine-v1-full", options).folder


def renamed(task: Path, name: str, **metadata) -> Path:
    """A copy of the folder under a name of HEAR's; None takes a line out of the metadata."""
    folder = task.parent.parent / "renamed" / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(task, folder)
    path = folder / "task_metadata.json"
    changed = {**json.loads(path.read_text()), **metadata}
    path.write_text(json.dumps({key: value for key, value in changed.items() if value is not None}))
    return folder


def test_a_renamed_task_of_ones_own_is_never_official(own_task):
    assert read_task(own_task).origin == "user"
    for edited in ({}, {"origin": None}, {"origin": None, "made_by": None, "task_name": "beijing_opera"}):
        assert read_task(renamed(own_task, OPERA, **edited)).origin == "unofficial"
    report = check_task(renamed(own_task, OPERA, origin=None, made_by=None))
    told = " ".join(finding.text for finding in report.findings)
    assert report.origin == "unofficial" and "name none of the files that it was made from" in told


def test_a_renamed_toy_is_never_official(tmp_path):
    make_small(tmp_path / "toys", only=[PITCH])
    for name in (PITCH, ESC50, "nsynth_pitch-v2.2.3-50h"):
        assert read_task(renamed(tmp_path / "toys" / PITCH, name)).origin == "synthetic"
        assert read_task(renamed(tmp_path / "toys" / PITCH, name, synthetic=None)).origin == "unofficial"
