"""What threads load ahead comes in order, and no more of it than was asked for."""

from __future__ import annotations

import time

import pytest

from hear_models.pipeline.ahead import load_ahead


def test_things_come_in_the_order_of_the_items():
    def load(item: int) -> list[int]:
        time.sleep(0.002 * (item % 3))
        return [item] * (item % 3)

    assert list(load_ahead(load, range(30), 4, 8)) == [k for k in range(30) for _ in range(k % 3)]


def test_no_more_is_loaded_than_was_asked_for():
    begun: list[int] = []

    def load(item: int) -> list[int]:
        begun.append(item)
        return [item]

    stream = load_ahead(load, range(100), 2, 5)
    assert [next(stream), next(stream)] == [0, 1]
    stream.close()
    assert len(begun) <= 6


def test_an_error_comes_at_its_item():
    def load(item: int) -> list[float]:
        return [1 / (3 - item)]

    stream = load_ahead(load, range(9), 2, 4)
    assert [next(stream) for _ in range(3)] == [1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(stream)
