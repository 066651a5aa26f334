""" "Same" padding as TensorFlow and Flax define it: as many positions come out as strides begin in the input."""

from __future__ import annotations

import math


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Positions to add (before, after) so that `ceil(size / stride)` come out; of an odd number, one more after."""
    missing = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return missing // 2, missing - missing // 2
