"""Dropout masks with torch's bits in a third of torch's time: its Mersenne Twister, run block by block.

After the matrix products, drawing masks is what a training spends most on. torch asks its generator for one element at
a time; here a block of 624 words is made and tempered at once, by numba, which saves the whole judge 8 to 10 % of its
CPU time on a task of the size of ESC-50 (`benchmarks/judges.py --masks`). The generator is left as torch would have
left it. Whether the bits are torch's is tried out before the first use; where they are not (another build of torch),
or without numba, torch draws.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch

WORTHWHILE = 1 << 17  # elements; smaller masks are not worth loading the compiled kernel for
WORDS = 624
# Of a CPU generator's state in bytes: words left before the next block, the next word, the words (64 bits each)
LEFT, NEXT, STATE = slice(8, 12), slice(16, 24), slice(24, 24 + 8 * WORDS)


def fill_mask(mask: torch.Tensor, keep: float, generator: torch.Generator) -> None:
    """`mask.bernoulli_(keep).div_(keep)` of a contiguous float32 tensor: 1 / keep with probability `keep`, else 0."""
    if mask.device.type == "cpu" and mask.numel() >= WORTHWHILE and bits_are_torchs():
        _fill(mask, keep, generator)
    else:
        mask.bernoulli_(keep, generator=generator).div_(keep)


@functools.cache
def bits_are_torchs() -> bool:
    """Whether the kernel here draws what this torch draws, and leaves the generator as it does: tried, not assumed."""
    try:
        for rows, drawn in ((3_000, 0), (1_001, 7), (1_000, 623)):
            ours, theirs = (torch.Generator().manual_seed(drawn) for _ in range(2))
            for generator in (ours, theirs):
                torch.empty(drawn, dtype=torch.int32).random_(generator=generator)
            found, expected = torch.empty(2, rows)
            expected.bernoulli_(0.75, generator=theirs).div_(0.75)
            _fill(found, 0.75, ours)
            if not (torch.equal(found, expected) and torch.equal(ours.get_state(), theirs.get_state())):
                return False
    except (ImportError, RuntimeError, ValueError, TypeError):  # no numba, or another layout of the state
        return False
    return True


def _fill(mask: torch.Tensor, keep: float, generator: torch.Generator) -> None:
    state = generator.get_state()
    raw = state.numpy()
    words = raw[STATE].view(np.uint64).astype(np.uint32)
    position = WORDS + 1 - int(raw[LEFT].view(np.int32)[0])
    value = np.float32(1) / np.float32(keep)
    # torch takes 53 bits as a number in [0, 1) and compares it with `keep`
    position = _kernel()(mask.numpy().reshape(-1), words, position, math.ceil(keep * 2.0**53), value)
    raw[STATE].view(np.uint64)[:] = words
    raw[LEFT].view(np.int32)[0] = WORDS + 1 - position
    raw[NEXT].view(np.uint64)[0] = position
    generator.set_state(state)


@functools.cache
def _kernel() -> Any:
    """The compiled kernel: (mask, words, position, bound, value) → the next position; `words` is changed in place."""
    from numba import njit, uint32, uint64  # a second to import, so only where it pays

    # MT19937, Matsumoto and Nishimura 1998: recurrence over words k, k + 1 and k + 397, then tempering
    @njit(cache=True)
    def twist(words: Any, k: int, other: int, source: int) -> None:
        y = (words[k] & uint32(0x80000000)) | (words[other] & uint32(0x7FFFFFFF))
        words[k] = words[source] ^ (y >> uint32(1)) ^ ((uint32(0) - (y & uint32(1))) & uint32(0x9908B0DF))

    @njit(cache=True)
    def next_block(words: Any) -> None:
        for k in range(227):
            twist(words, k, k + 1, k + 397)
        for k in range(227, 623):
            twist(words, k, k + 1, k - 227)
        twist(words, 623, 0, 396)

    @njit(cache=True)
    def temper(words: Any, tempered: Any) -> None:
        for k in range(624):
            y = words[k]
            y ^= y >> uint32(11)
            y ^= (y << uint32(7)) & uint32(0x9D2C5680)
            y ^= (y << uint32(15)) & uint32(0xEFC60000)
            tempered[k] = y ^ (y >> uint32(18))

    @njit(cache=True)
    def below(high: Any, low: Any, bound: int) -> bool:
        return (uint64(high & uint32(0x1FFFFF)) << uint64(32)) | uint64(low) < uint64(bound)

    @njit(cache=True)
    def fill(mask: Any, words: Any, position: int, bound: int, value: Any) -> int:
        tempered = np.empty(624, np.uint32)
        temper(words, tempered)
        nothing = value - value
        done = 0
        while done < mask.size:
            if position == 624:
                next_block(words)
                temper(words, tempered)
                position = 0
            if position == 623:  # the two words of this element lie in two blocks
                high = tempered[623]
                next_block(words)
                temper(words, tempered)
                mask[done] = value if below(high, tempered[0], bound) else nothing
                position = 1
                done += 1
                continue
            here = min((624 - position) // 2, mask.size - done)
            for j in range(here):
                high, low = tempered[position + 2 * j], tempered[position + 2 * j + 1]
                mask[done + j] = value if below(high, low, bound) else nothing
            done += here
            position += 2 * here
        return position

    return fill
