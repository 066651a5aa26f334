"""Batches side by side: in order, with the first error, and torch's settings as they were."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from hear_models.evaluation.model_threads import in_threads


@pytest.fixture
def cores():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield 4
    torch.set_num_threads(before)


def settled() -> bool:
    end = time.monotonic() + 10
    while any(thread.name.startswith("model-") for thread in threading.enumerate()) and time.monotonic() < end:
        time.sleep(0.01)
    return time.monotonic() < end


def test_results_come_in_order_and_really_side_by_side(cores):
    both = threading.Barrier(2, timeout=30)  # passes only if two are at work at once

    def work(k: int) -> tuple[int, int, str]:
        both.wait()
        return k * k, torch.get_num_threads(), threading.current_thread().name

    found = [(item, result()) for item, result in in_threads(work, iter(range(10)), 2)]
    assert [item for item, _ in found] == list(range(10))
    assert [square for _, (square, _, _) in found] == [k * k for k in range(10)]
    assert {threads for _, (_, threads, _) in found} == {2}, "the cores are divided"
    assert settled() and torch.get_num_threads() == 4
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start(), thread.join()
    assert seen == [4], "a thread that begins later is not left with one core"


def test_one_core_means_no_threads_at_all():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        names = [result() for _, result in in_threads(lambda _: threading.current_thread().name, range(3), 8)]
    finally:
        torch.set_num_threads(before)
    assert set(names) == {threading.current_thread().name}


def test_an_error_reaches_the_reader_at_its_item_and_the_rest_is_dropped(cores):
    done = []

    def work(k: int) -> int:
        if k == 3:
            raise ValueError("three")
        done.append(k)
        return k

    read = []
    with pytest.raises(ValueError, match="three"):
        for item, result in in_threads(work, range(1000), 2):
            read.append(item)
            result()
    assert read == [0, 1, 2, 3] and settled()
    assert len(done) < 20 and torch.get_num_threads() == 4


def test_not_more_is_read_ahead_than_the_threads_need(cores):
    taken = []

    def items():
        for k in range(100):
            taken.append(k)
            yield k

    for item, result in in_threads(lambda k: k, items(), 2):
        result()
        assert len(taken) <= item + 4
