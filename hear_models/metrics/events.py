"""Scores of predicted events against reference events: onset F-measures and the 1 s segment error rate.

What sed_eval computes for hear-eval-kit (Mesaros et al. 2016, "Metrics for polyphonic sound event detection"), without
it. Events are mappings with `label`, `start` and `end` in milliseconds, given per file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hear_models.errors import UsageError

Event = Mapping[str, Any]
Events = Mapping[str, Sequence[Event]]  # file → events

# metric → (onset collar in s, share of the reference event's length that its end may be off; None: ends do not count)
COLLARS: dict[str, tuple[float, float | None]] = {
    "event_onset_200ms_fms": (0.2, None),
    "event_onset_50ms_fms": (0.05, None),
    "event_onset_offset_50ms_20perc_fms": (0.05, 0.2),
}
SEGMENT_METRIC = "segment_1s_er"
SEGMENT_S = 1.0
EVENT_METRICS = (*COLLARS, SEGMENT_METRIC)
EPSILON = float(np.spacing(1))  # sed_eval's guard against an empty reference


def score_events(metric: str, predicted: Events, reference: Events, labels: Sequence[str]) -> dict[str, float]:
    """The metric's value under its own name, then its parts (`NAME_precision`, `NAME_recall`), as float32; maybe NaN.

    Files of `predicted` are scored, as the kit does; a file that `reference` lacks has no reference events. `labels` is
    the vocabulary as strings. Raises UsageError for a metric that is not one of events.
    """
    if metric == SEGMENT_METRIC:
        return {metric: float(np.float32(segment_error_rate(predicted, reference, labels)))}
    if metric not in COLLARS:
        raise UsageError(f"{metric!r} is no metric of events. Known ones: {', '.join(EVENT_METRICS)}.")
    f_measure, precision, recall = event_f_measure(predicted, reference, *COLLARS[metric])
    values = {metric: f_measure, f"{metric}_precision": precision, f"{metric}_recall": recall}
    return {name: float(np.float32(value)) for name, value in values.items()}


def event_f_measure(
    predicted: Events, reference: Events, collar_s: float, offset_share: float | None
) -> tuple[float, float, float]:
    """(F, precision, recall) over all files and labels; NaN where nothing was predicted or nothing is there to find.

    An event is found if it is paired with a predicted one of its label whose onset is at most `collar_s` off, and
    (unless `offset_share` is None) whose end is at most max(collar_s, offset_share x its length) off. Each pairs once;
    as many pairs are made as can be.
    """
    hits = predictions = references = 0
    for file, events in predicted.items():
        truth = reference.get(file, ())
        predictions += len(events)
        references += len(truth)
        for label in {str(event["label"]) for event in truth}:
            wanted = [_seconds(event) for event in truth if str(event["label"]) == label]
            given = [_seconds(event) for event in events if str(event["label"]) == label]
            hits += largest_matching(_agree(wanted, given, collar_s, offset_share))
    precision = hits / predictions if predictions else math.nan
    recall = hits / references if references else math.nan
    if precision == 0 and recall == 0:
        return 0.0, precision, recall
    return 2 * precision * recall / (precision + recall), precision, recall


def why_not_a_number(predicted: Events, reference: Events) -> str:
    """Why an F-measure or its parts are not a number, as a clause."""
    if not any(predicted.values()):
        return "no event was predicted"
    if not any(reference.get(file) for file in predicted):
        return "there is no event to be found"
    return "it is not a number"


def largest_matching(fits: np.ndarray) -> int:
    """How many pairs can be made at once, bool [left, right]: augmenting paths, searched breadth first (Berge 1957)."""
    partner_of: dict[int, int] = {}  # right → left
    for start in np.flatnonzero(fits.any(1)).tolist():
        reached_from: dict[int, int] = {}  # right → left it was reached from, on the paths searched for this start
        queue = [start]
        for left in queue:
            fresh = [right for right in np.flatnonzero(fits[left]).tolist() if right not in reached_from]
            reached_from.update(dict.fromkeys(fresh, left))
            free = next((right for right in fresh if right not in partner_of), None)
            if free is not None:
                _flip(partner_of, reached_from, free, start)
                break
            queue.extend(partner_of[right] for right in fresh)
    return len(partner_of)


def _flip(partner_of: dict[int, int], reached_from: Mapping[int, int], right: int, start: int) -> None:
    """Give each left on the path that ends at `right` the partner it was reached by; `start` gets its first."""
    partner_to = {left: right for right, left in partner_of.items()}
    while True:
        left = reached_from[right]
        partner_of[right] = left
        if left == start:
            return
        right = partner_to[left]


def segment_error_rate(predicted: Events, reference: Events, labels: Sequence[str]) -> float:
    """(substitutions + deletions + insertions) / reference activities over 1 s segments of all predicted files."""
    position = {label: index for index, label in enumerate(labels)}
    active = substitutions = deletions = insertions = 0
    for file, events in predicted.items():
        truth = reference.get(file, ())
        end_s = max((event["end"] / 1000.0 for event in (*truth, *events)), default=0.0)
        segments = math.ceil(end_s / SEGMENT_S)
        wanted, given = _roll(truth, segments, position), _roll(events, segments, position)
        both = (wanted & given).sum(1)
        n_wanted, n_given = wanted.sum(1), given.sum(1)
        active += int(n_wanted.sum())
        substitutions += int((np.minimum(n_wanted, n_given) - both).sum())
        deletions += int(np.maximum(0, n_wanted - n_given).sum())
        insertions += int(np.maximum(0, n_given - n_wanted).sum())
    return sum(count / (active + EPSILON) for count in (substitutions, deletions, insertions))


def _roll(events: Sequence[Event], segments: int, position: Mapping[str, int]) -> np.ndarray:
    """Which label is active in which segment, bool [segments, labels]; a touched segment counts whole."""
    roll = np.zeros((segments, len(position)), dtype=bool)
    for event in events:
        start, end = _seconds(event)
        roll[math.floor(start / SEGMENT_S) : math.ceil(end / SEGMENT_S), position[str(event["label"])]] = True
    return roll


def _seconds(event: Event) -> tuple[float, float]:
    return event["start"] / 1000.0, event["end"] / 1000.0


def _agree(
    wanted: Sequence[tuple[float, float]],
    found: Sequence[tuple[float, float]],
    collar_s: float,
    offset_share: float | None,
) -> np.ndarray:
    """Which reference event (rows) fits which predicted one (columns), bool."""
    wants, finds = np.array(wanted).reshape(-1, 1, 2), np.array(found).reshape(1, -1, 2)
    fits = np.abs(wants[..., 0] - finds[..., 0]) <= collar_s
    if offset_share is not None:
        length = wants[..., 1] - wants[..., 0]
        fits &= np.abs(wants[..., 1] - finds[..., 1]) <= np.maximum(collar_s, offset_share * length)
    return fits
