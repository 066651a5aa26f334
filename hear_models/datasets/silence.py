"""Takes the pauses out of isolated events, as GISE-51's script did with SoX."""

from __future__ import annotations

import math

import numpy as np

SHORTEST_SAMPLES = 220  # what is left of a clip; a shorter one is dropped
SHORTEST_S = 1.25  # a shorter one is repeated
THRESHOLD = 328  # of 32768: SoX compares with 1 %, on a grid of 1/32768
PAUSE_S = 0.1
# labels whose sound is made of short parts; the authors' list names "Zipper" and "Rattle", which no label is called
SHORT_PAUSES_S = dict.fromkeys(
    ("Whispering", "Wind", "Crumpling_and_crinkling_and_crushing", "Writing", "Cricket"), 0.025
) | dict.fromkeys(("Glass", "Tap", "Chirp_and_tweet", "Tearing"), 0.05)


def strip_silence(samples: np.ndarray, sample_rate: int, pause_s: float) -> np.ndarray:
    """SoX's `silence 1 D 1% -1 D 1%` of 16-bit samples: no silence at the beginning, no pauses of D or longer.

    A sample is active if the root mean square of the last 20 ms (itself included) is at least 1 % of full scale. Sound
    begins with D seconds of active samples and ends with D seconds of inactive ones, which are left out.

    Args:
        samples: int16 [samples], mono.
        pause_s: D in seconds.
    """
    window, hold = sample_rate // 50, int(sample_rate * pause_s + 0.5)
    energy = np.append(0, np.cumsum(samples.astype(np.int64) ** 2))
    n, position = len(samples), 0
    kept = []
    while position < n:
        # the window holds nothing from before `position`: SoX empties it when sound has ended
        ends = np.arange(position + 1, n + 1)
        active = energy[ends] - energy[np.maximum(position, ends - window)] >= THRESHOLD**2 * window
        begin = _first_run(active, hold)
        if begin is None:
            break
        silent = _first_run(~active[begin + hold :], hold)
        if silent is None:
            kept.append(samples[position + begin :])
            break
        end = position + begin + hold + silent
        kept.append(samples[position + begin : end])
        position = end + hold
    return np.concatenate(kept) if kept else samples[:0]


def _first_run(flags: np.ndarray, length: int) -> int | None:
    """Where `flags` is first true `length` times in a row, or None."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    long = np.flatnonzero(edges[1::2] - edges[::2] >= length)
    return int(edges[::2][long[0]]) if len(long) else None


def pause_s_of(label: str) -> float:
    """The pause that is cut out of events of a label, in seconds."""
    return SHORT_PAUSES_S.get(label, PAUSE_S)


def isolated_event(samples: np.ndarray, sample_rate: int, label: str) -> np.ndarray | None:
    """An event without pauses, at least 1.25 s long (repeated and cut if need be); None if next to nothing is left.

    Args:
        samples: int16 [samples], mono.
    """
    stripped = strip_silence(samples, sample_rate, pause_s_of(label))
    if len(stripped) < SHORTEST_SAMPLES:
        return None
    if len(stripped) >= SHORTEST_S * sample_rate:
        return stripped
    wanted = int(SHORTEST_S * sample_rate)
    return np.tile(stripped, math.ceil(wanted / len(stripped)))[:wanted]
