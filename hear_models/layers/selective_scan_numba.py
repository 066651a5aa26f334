"""The selective scan on a CPU: one compiled pass over time with the state in cache, forward and backward.

Channels are the inner loop, because they are independent and lie side by side: the compiler turns it into vector
instructions, whatever the number of states. An exponential per channel, state and step is nearly all of the work; the
library's is a call for every number, so 2^x is a polynomial here.

Threads are Python's own around a kernel that releases the interpreter lock. numba's parallel loops are not used: with
its built-in threads two callers at once end the process, with GNU OpenMP a fork does.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from math import log
from typing import Any

import numpy as np
import torch
from numba import config, float32, int32, njit
from torch import Tensor

WIDTH = 96  # channels that go through a kernel together, a divisor of 576, 1152 and 2304; 24 states are 9 kB
BLOCK = 16  # steps between the states that training keeps; the backward pass recomputes those between
GROUPS = 8  # partial sums over channels per batch item, whatever the threads: the same bits on every machine size
SERIAL = 1 << 19  # state updates below which waking other threads costs more than it saves
LOG2_E, LN_2 = 1 / log(2), log(2)

# Products and sums may be fused, nothing else: NaN and infinity stay what they are, and sums that round on purpose too.
# A division asks for no exception, which vectors have not.
OPTIONS: dict[str, Any] = {"fastmath": {"contract", "nsz"}, "error_model": "numpy", "nogil": True}


@njit(**{**OPTIONS, "fastmath": {"contract", "nsz", "reassoc"}})  # not inlined by numba, or the options would be lost
def dot(x: Any, y: Any) -> Any:
    """Sum of products over channels, in whatever order vectors give."""
    total = float32(0.0)
    for c in range(WIDTH):
        total += x[c] * y[c]
    return total


@njit(inline="always", **OPTIONS)
def exp2(x: Any) -> Any:
    """2^x in float32 within 2e-7 of itself; below 2^-125 it stays there, which is as good as 0."""
    x = float32(-125.0) if x < float32(-125.0) else x  # written so that NaN passes
    x = float32(128.0) if x > float32(128.0) else x
    shifted = x + float32(12582912.0)  # 1.5 * 2^23: what is left of x is a whole number, in the lowest bits
    f = x - (shifted - float32(12582912.0))  # in [-1/2, 1/2], where 1 + f q(f) is fitted to 2^f and exact at 0
    p = float32(1.3264727065e-03)
    p = p * f + float32(9.6715126489e-03)
    p = p * f + float32(5.5507337437e-02)
    p = p * f + float32(2.4022242085e-01)
    p = p * f + float32(6.9314697760e-01)
    p = p * f + float32(1.0)
    exponent = np.float32(shifted).view(np.int32) << int32(23)
    return np.int32(np.float32(p).view(np.int32) + np.int32(exponent)).view(np.float32)


@njit(inline="always", **OPTIONS)
def softplus(x: Any) -> Any:
    """log(1 + e^x), relatively exact for every x: a step of e^-60 is small and not nothing."""
    low = -abs(x)
    low = float32(-87.0) if low < float32(-87.0) else low
    whole = np.floor(low * float32(LOG2_E) + float32(0.5))
    # x - whole ln 2 in two parts, the first with few digits: low / ln 2 alone would lose what is left of -60
    rest = (low - whole * float32(0.693359375)) - whole * float32(LN_2 - 0.693359375)
    e = exp2(whole) * exp2(rest * float32(LOG2_E))
    v = e / (e + float32(2.0))
    v2 = v * v  # at most 1/9: log(1 + e) = 2 artanh(e / (e + 2)) in seven terms
    p = float32(1 / 13) + v2 * float32(1 / 15)
    p = float32(1 / 11) + v2 * p
    p = float32(1 / 9) + v2 * p
    p = float32(1 / 7) + v2 * p
    p = float32(1 / 5) + v2 * p
    p = float32(1 / 3) + v2 * p
    return (x if x > float32(0.0) else float32(0.0)) + float32(2.0) * (v + v * v2 * p)


@njit(inline="always", **OPTIONS)
def load(row: Any, source: Any, first: int) -> None:
    """WIDTH channels of `source` from `first` on; behind its end zeros, which add nothing anywhere."""
    if first + WIDTH <= source.shape[0]:
        part = source[first : first + WIDTH]
        for c in range(WIDTH):
            row[c] = part[c]
    else:
        row[:] = float32(0.0)
        for c in range(source.shape[0] - first):
            row[c] = source[first + c]


def forward_kernel(
    u: Any,
    delta: Any,
    a2: Any,
    b_in: Any,
    c_out: Any,
    skip: Any,
    gate: Any,
    bias: Any,
    soft: bool,
    state: Any,
    y: Any,
    borders: Any,
    first: int,
    last: int,
) -> None:
    """Items `first` to `last` - 1, an item being WIDTH channels of one batch item; fills y, borders, and state."""
    n_states, dim = a2.shape
    blocks = (dim + WIDTH - 1) // WIDTH
    h, a = np.empty((n_states, WIDTH), np.float32), np.empty((n_states, WIDTH), np.float32)
    step, dose, total = np.empty(WIDTH, np.float32), np.empty(WIDTH, np.float32), np.empty(WIDTH, np.float32)
    shift, through = np.empty(WIDTH, np.float32), np.empty(WIDTH, np.float32)
    for item in range(first, last):
        b, c0 = item // blocks, item % blocks * WIDTH
        width = min(WIDTH, dim - c0)
        load(shift, bias, c0)
        load(through, skip, c0)
        for s in range(n_states):
            load(h[s], state[b, s], c0)
            load(a[s], a2[s], c0)
        for t in range(u.shape[1]):
            if borders.shape[0] > 0 and t % BLOCK == 0:
                for s in range(n_states):
                    borders[b, t // BLOCK, s, c0 : c0 + width] = h[s, :width]
            load(step, delta[b, t], c0)
            load(dose, u[b, t], c0)
            if soft:
                for c in range(WIDTH):
                    step[c] = softplus(step[c] + shift[c])
            else:
                for c in range(WIDTH):
                    step[c] += shift[c]
            for c in range(WIDTH):
                total[c] = dose[c] * through[c]
                dose[c] *= step[c]
            for s in range(n_states):
                into, out, h_s, a_s = b_in[b, t, s], c_out[b, t, s], h[s], a[s]
                for c in range(WIDTH):
                    value = exp2(step[c] * a_s[c]) * h_s[c] + dose[c] * into
                    h_s[c] = value
                    total[c] += value * out
            if gate.shape[0] > 0:
                load(dose, gate[b, t], c0)
                for c in range(WIDTH):
                    total[c] *= dose[c] / (float32(1.0) + exp2(dose[c] * float32(-LOG2_E)))
            y[b, t, c0 : c0 + width] = total[:width]
        for s in range(n_states):
            state[b, s, c0 : c0 + width] = h[s, :width]


def backward_kernel(
    u: Any,
    delta: Any,
    a2: Any,
    b_in: Any,
    c_out: Any,
    borders: Any,
    dy: Any,
    dstate: Any,
    du: Any,
    ddelta: Any,
    da_out: Any,
    db: Any,
    dc: Any,
    first: int,
    last: int,
) -> None:
    """Items `first` to `last` - 1, an item being one of GROUPS groups of channels of one batch item.

    `dstate` holds dLoss/d(last state) and becomes dLoss/d(first state). With g_t = dLoss/dh_t all told, the recurrence
    runs from the right: g_t = C_t dy_t + exp(delta_{t+1} A) g_{t+1}. No division by a decay, which may be 0.
    """
    n_states, dim = a2.shape
    length = u.shape[1]
    groups = db.shape[1]
    blocks = (dim + WIDTH - 1) // WIDTH
    h = np.empty((BLOCK + 1, n_states, WIDTH), np.float32)
    decay = np.empty((BLOCK, n_states, WIDTH), np.float32)
    a, da, g = (
        np.empty((n_states, WIDTH), np.float32),
        np.empty((n_states, WIDTH), np.float32),
        np.empty((n_states, WIDTH), np.float32),
    )
    step, x, cot = np.empty(WIDTH, np.float32), np.empty(WIDTH, np.float32), np.empty(WIDTH, np.float32)
    dose = np.empty(WIDTH, np.float32)
    by_decay, by_dose = np.empty(WIDTH, np.float32), np.empty(WIDTH, np.float32)
    for item in range(first, last):
        b, group = item // groups, item % groups
        for block in range(group, blocks, groups):
            c0 = block * WIDTH
            width = min(WIDTH, dim - c0)
            for s in range(n_states):
                load(g[s], dstate[b, s], c0)
                load(a[s], a2[s], c0)
            da[:] = float32(0.0)
            for k in range((length - 1) // BLOCK, -1, -1):
                t0 = k * BLOCK
                steps = min(BLOCK, length - t0)
                for s in range(n_states):
                    load(h[0, s], borders[b, k, s], c0)
                for i in range(steps):
                    load(step, delta[b, t0 + i], c0)
                    load(x, u[b, t0 + i], c0)
                    for c in range(WIDTH):
                        dose[c] = step[c] * x[c]
                    for s in range(n_states):
                        into, a_s, before, after, kept = b_in[b, t0 + i, s], a[s], h[i, s], h[i + 1, s], decay[i, s]
                        for c in range(WIDTH):
                            e = exp2(step[c] * a_s[c])
                            kept[c] = e
                            after[c] = e * before[c] + dose[c] * into
                for i in range(steps - 1, -1, -1):
                    t = t0 + i
                    load(step, delta[b, t], c0)
                    load(x, u[b, t], c0)
                    load(cot, dy[b, t], c0)
                    for c in range(WIDTH):
                        dose[c] = step[c] * x[c]
                        by_decay[c] = float32(0.0)
                        by_dose[c] = float32(0.0)
                    for s in range(n_states):
                        into, out, a_s, da_s, g_s = b_in[b, t, s], c_out[b, t, s], a[s], da[s], g[s]
                        before, after, kept = h[i, s], h[i + 1, s], decay[i, s]
                        for c in range(WIDTH):
                            g_s[c] += out * cot[c]
                        db[b, group, t, s] += dot(g_s, dose)
                        dc[b, group, t, s] += dot(cot, after)
                        for c in range(WIDTH):
                            by_dose[c] += g_s[c] * into
                            g_s[c] *= kept[c]
                            w = g_s[c] * before[c]
                            da_s[c] += w * step[c]
                            by_decay[c] += w * a_s[c]
                    for c in range(width):
                        ddelta[b, t, c0 + c] = by_decay[c] * float32(LN_2) + x[c] * by_dose[c]
                        du[b, t, c0 + c] = step[c] * by_dose[c]
            for s in range(n_states):
                dstate[b, s, c0 : c0 + width] = g[s, :width]
                da_out[b, s, c0 : c0 + width] = da[s, :width]


@cache
def compiled_forward() -> Any:
    cube, matrix, row = "float32[:,:,::1]", "float32[:,::1]", "float32[::1]"
    kinds = [cube, cube, matrix, cube, cube, row, cube, row, "boolean", cube, cube, "float32[:,:,:,::1]"]
    return compile_kernel(f"void({', '.join(kinds)}, int64, int64)", forward_kernel)


@cache
def compiled_backward() -> Any:
    cube, hypercube = "float32[:,:,::1]", "float32[:,:,:,::1]"
    kinds = [cube, cube, "float32[:,::1]", cube, cube, hypercube, *[cube] * 5, hypercube, hypercube, "int64", "int64"]
    return compile_kernel(f"void({', '.join(kinds)})", backward_kernel)


_COMPILING = threading.RLock()
if hasattr(os, "register_at_fork"):
    # numba compiles under a lock of its own, which a child forked meanwhile would inherit locked for ever
    os.register_at_fork(
        before=_COMPILING.acquire, after_in_parent=_COMPILING.release, after_in_child=_COMPILING.release
    )


def compile_kernel(signature: str, function: Callable[..., None]) -> Any:
    """The function compiled, from numba's cache of earlier processes if there is one."""
    with _COMPILING:
        try:
            return njit(signature, cache=True, **OPTIONS)(function)
        except Exception:  # nowhere to write, a full disk, a damaged entry: no cache is no reason to fail
            return njit(signature, **OPTIONS)(function)


def obstacle() -> str:
    """Why the kernels cannot be used, or nothing. As Python, without compiling, their loops would take hours."""
    return "NUMBA_DISABLE_JIT is set" if getattr(config, "DISABLE_JIT", False) else ""


_pools: list[ThreadPoolExecutor | None] = [None]  # the last is in use


def _forget_pool() -> None:
    """A forked child has none of its parent's threads; their pool is left alone, for its locks may be held."""
    _pools.append(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def run(kernel: Any, arrays: list[Any], items: int, updates: int) -> None:
    """kernel(*arrays, first, last) over all items, on at most as many threads as torch may use, this one included."""
    threads = min(torch.get_num_threads(), items) if updates >= SERIAL else 1
    if threads <= 1:
        kernel(*arrays, 0, items)
        return
    share = max(1, items // (4 * threads))  # small enough to even out threads of unequal speed
    starts = itertools.count(0, share)

    def work() -> None:
        while (first := next(starts)) < items:
            kernel(*arrays, first, min(first + share, items))

    pool = _pools[-1] or ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="selective-scan")
    _pools[-1] = pool
    helpers: list[Future[None]] = []
    with suppress(RuntimeError):  # the interpreter is shutting down: this thread does it all
        helpers.extend(pool.submit(work) for _ in range(threads - 1))
    work()
    for helper in helpers:
        if not helper.cancel():  # one that has not begun finds nothing left to do, and is not waited for
            helper.result()


def whole(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b_in: Tensor,
    c_out: Tensor,
    state: Tensor,
    skip: Tensor | None = None,
    gate: Tensor | None = None,
    bias: Tensor | None = None,
    soft: bool = False,
    keep: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `forward`, with what surrounds the recurrence in the same pass: alone it takes as long as the recurrence."""
    batch, length, dim = u.shape
    n_states = a.shape[0]
    y, last = torch.empty_like(u), state.clone()
    kept = u.new_empty(batch if keep else 0, -(-length // BLOCK), n_states, dim)
    nothing = u.new_zeros(dim)
    skip, bias = (nothing if row is None else row for row in (skip, bias))
    gate = u.new_empty(0, length, dim) if gate is None else gate
    inputs = [x.numpy() for x in (u, delta, a * LOG2_E, b_in, c_out, skip, gate, bias)]
    arrays = [*inputs, soft, last.numpy(), y.numpy(), kept.numpy()]
    run(compiled_forward(), arrays, batch * -(-dim // WIDTH), batch * length * dim * n_states)
    return y, last, kept


def forward(
    u: Tensor, delta: Tensor, a: Tensor, b_in: Tensor, c_out: Tensor, state: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """As `selective_scan_torch.forward`."""
    return whole(u, delta, a, b_in, c_out, state, keep=keep)


def backward(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b_in: Tensor,
    c_out: Tensor,
    kept: Tensor,
    dy: Tensor,
    dlast: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As `selective_scan_torch.backward`."""
    batch, length, dim = u.shape
    n_states = a.shape[0]
    groups = min(GROUPS, -(-dim // WIDTH))
    du, ddelta, dstate = torch.empty_like(u), torch.empty_like(u), dlast.clone()
    da = u.new_empty(batch, n_states, dim)
    db, dc = (u.new_zeros(batch, groups, length, n_states) for _ in range(2))
    inputs = (u, delta, a * LOG2_E, b_in, c_out, kept, dy)
    arrays = [x.numpy() for x in (*inputs, dstate, du, ddelta, da, db, dc)]
    run(compiled_backward(), arrays, batch * groups, batch * length * dim * n_states)
    return du, ddelta, da.sum(0), db.sum(1), dc.sum(1), dstate
