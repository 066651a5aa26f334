"""Decoding ahead: in order, within its memory, and without a hang when the reader leaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hear_models.corpus import prefetch
from hear_models.corpus.discover import AudioFile
from hear_models.corpus.prefetch import End, Prefetcher, Window

Make = Callable[..., np.ndarray]


def sources_of(folder: Path) -> list[AudioFile]:
    return [AudioFile(path, path.name) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("window", [None, 4000])
def test_recordings_arrive_in_order_and_whole(tmp_path: Path, make: Make, workers: int, window: int | None) -> None:
    lengths = [0.1, 3.0, 0.01, 0.4, 1.7, 0.1]
    for k, seconds in enumerate(lengths):
        make(tmp_path / f"{k}.wav", seconds, seed=k)
    found: dict[int, list[np.ndarray]] = {}
    order = []
    with Prefetcher(sources_of(tmp_path), 16000, window_samples=window, workers=workers, ahead_s=1.0) as prefetcher:
        for index, item in prefetcher:
            if isinstance(item, Window):
                assert item.start_sample == sum(len(samples) for samples in found.get(index, []))
                found.setdefault(index, []).append(item.samples)
            else:
                assert item.error is None and item.duration_s == pytest.approx(lengths[index])
                order.append(index)
    assert order == list(range(len(lengths)))
    assert [sum(map(len, found[k])) for k in order] == [round(seconds * 16000) for seconds in lengths]
    assert prefetcher.wait_s >= 0


def test_decoding_stops_when_enough_lies_ready(tmp_path: Path, make: Make) -> None:
    for k in range(30):
        make(tmp_path / f"{k:02d}.wav", 1.0)
    with Prefetcher(sources_of(tmp_path), 16000, workers=2, ahead_s=5.0) as prefetcher:
        reader = iter(prefetcher)
        next(reader)
        time.sleep(0.5)  # a model at work
        begun = prefetcher._next
        assert 5 <= begun <= 9  # 5 s ahead, one in each worker's hands
        rest = sum(isinstance(item, End) for _, item in reader)
        assert rest == 30


def test_a_recording_longer_than_all_bounds_passes(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "LARGE_BYTES", 10)
    for k in range(3):
        make(tmp_path / f"{k}.wav", 3.0)
    (tmp_path / "3.wav").write_bytes(b"this is large, and no audio" * 10)
    with Prefetcher(sources_of(tmp_path), 16000, workers=3, ahead_s=1.0) as prefetcher:
        ends = [item for _, item in prefetcher if isinstance(item, End)]
    assert [end.error is None for end in ends] == [True, True, True, False]


def test_leaving_in_the_middle_ends_the_threads(tmp_path: Path, make: Make) -> None:
    before = threading.active_count()
    for k in range(10):
        make(tmp_path / f"{k}.wav", 2.0)
    with Prefetcher(sources_of(tmp_path), 16000, window_samples=1000, workers=3, ahead_s=1.0) as prefetcher:
        next(iter(prefetcher))
        threads = list(prefetcher._threads)
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)
    assert threading.active_count() <= before
