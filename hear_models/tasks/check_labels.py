"""What `hear-models tasks check` says of labels, splits, metrics and events, beyond what a single entry shows."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hear_models.metrics.clips import SCENE_METRICS
from hear_models.metrics.events import EVENT_METRICS
from hear_models.tasks.task import EVENT, METADATA, label_text

Splits = Mapping[str, Mapping[str, Sequence[Any]]]  # split → file → labels or events
SECONDS_A_MS = 1000.0


def unknown_metric(metadata: Mapping[str, Any]) -> str | None:
    """The first metric that no judge has for tasks of this kind, as a sentence part; None if all are known."""
    kind = metadata["embedding_type"]
    known = EVENT_METRICS if kind == EVENT else tuple(SCENE_METRICS)
    for metric in metadata["evaluation"]:
        if metric not in known:
            return f"{METADATA}: {metric!r} is no metric of {kind} tasks; there are {', '.join(known)}"
    return None


def canonical(text: str) -> str:
    """One of the spellings of a text that Unicode holds for the same."""
    return unicodedata.normalize("NFC", text)


def loosely(text: str) -> str:
    """The same for texts that people would take for the same: upper and lower case, spaces, compatible characters."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def alike(texts: Sequence[str], key: Callable[[str], str]) -> list[list[str]]:
    """The groups of different texts that have one key."""
    groups: dict[str, list[str]] = {}
    for text in dict.fromkeys(texts):
        groups.setdefault(key(text), []).append(text)
    return [group for group in groups.values() if len(group) > 1]


def divisions(splits: Sequence[str]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(tested, validated on, trained on): train, valid and test, or for every fold all but it and the next one."""
    if "train" in splits:
        yield "test", "valid", ("train",)
        return
    folds = sorted(splits)
    for test, valid in zip(folds, folds[1:] + folds[:1], strict=True):
        yield test, valid, tuple(fold for fold in folds if fold not in (test, valid))


def classes_without_clips(labels: Sequence[str], splits: Splits, metrics: Sequence[str]) -> Iterator[str]:
    """Which labels are never trained on, and which never tested, a sentence part each."""
    there = {split: {label_text(e) for entries in items.values() for e in entries} for split, items in splits.items()}
    said = set().union(*there.values())
    untrained: dict[str, list[str]] = {}
    untested: dict[str, list[str]] = {}
    for test, _, trained in divisions(list(splits)):
        seen = set().union(*(there[split] for split in trained))
        for label in labels:
            if label in said and label not in seen:
                untrained.setdefault(label, []).append(test)
            if label in said and label not in there[test]:
                untested.setdefault(label, []).append(test)
    if untrained:
        yield f"{_count(untrained)} no training clip, so nothing can learn them: {_where(untrained, 'tested on ')}"
    if untested:
        effects = {
            "mAP": "count as 0 in mAP",
            "aucroc": "leave aucroc not defined",
            "d_prime": "leave d_prime not defined",
        }
        effect = " and ".join(text for metric, text in effects.items() if metric in metrics)
        yield f"{_count(untested)} no test clip{f' and {effect}' if effect else ''}: {_where(untested, '')}"


def late_and_tiny_events(splits: Splits, seconds_of: Mapping[tuple[str, str], float]) -> Iterator[tuple[bool, str]]:
    """(whether it is an error, what): events past the end of their clip, or all of them in its first thousandth.

    `seconds_of`: (split, file) → length of the clip in seconds, where it is known.
    """
    ends = [
        (float(event["end"]), seconds)
        for (split, file), seconds in seconds_of.items()
        for event in splits[split].get(file, ())
    ]
    if not ends:
        return
    if all(end <= seconds for end, seconds in ends) and max(seconds for _, seconds in ends) > 1:
        yield True, f"all events end within {max(end for end, _ in ends):g} ms: these times look like seconds"
    late = sum(end > seconds * SECONDS_A_MS + 1 for end, seconds in ends)
    if late:
        yield False, f"{late} of {len(ends)} events end after their clip"


def _count(labels: Mapping[str, Any]) -> str:
    return f"{len(labels)} label{'s have' if len(labels) > 1 else ' has'}"


def _where(labels: Mapping[str, Sequence[str]], before: str, most: int = 6) -> str:
    """The labels, of folds with those that lack them."""
    shown = [
        label
        if splits == ["test"]
        else f"{label} ({before}{', '.join(splits[:3])}{', ...' if len(splits) > 3 else ''})"
        for label, splits in list(labels.items())[:most]
    ]
    return ", ".join(shown) + (", ..." if len(labels) > most else "")
