"""The selective scan on a GPU, in Triton: one program per channel group, states in registers, one pass over time.

Any obstacle, a wrong number first of all, is found by `obstacle` before the first use; the scan in torch's own
operations is what it is compared with and what runs instead.
"""

from __future__ import annotations

import os
from math import log

import torch
import triton
import triton.language as tl
from torch import Tensor

from hear_models.layers import selective_scan_torch

WIDTH = 16  # channels of a program; with 24 states in 32 rows, 512 numbers, 16 for each of a warp's threads
BLOCK = 16  # steps between the states that training keeps
LOG2_E, LN_2 = 1 / log(2), log(2)


@triton.jit
def forward_kernel(  # type: ignore[no-untyped-def]
    u,
    delta,
    a2,
    b_in,
    c_out,
    state,
    y,
    last,
    kept,
    length,
    dim,
    n_states,
    blocks,
    KEEP: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """y, last [batch, state, dim] and, if KEEP, the states before every BLOCK-th step."""
    batch = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    s = tl.arange(0, ROWS)
    in_c, in_s = c < dim, s < n_states
    inside = in_s[:, None] & in_c[None, :]
    place = s[:, None] * dim + c[None, :]
    a = tl.load(a2 + place, mask=inside, other=0.0)
    h = tl.load(state + batch * n_states * dim + place, mask=inside, other=0.0)
    for t in range(length):
        if KEEP:  # noqa: SIM102 (decided when the kernel is compiled, the other at run time)
            if t % BLOCK == 0:
                tl.store(kept + (batch * blocks + t // BLOCK) * n_states * dim + place, h, mask=inside)
        at = batch * length + t
        step = tl.load(delta + at * dim + c, mask=in_c, other=0.0)
        x = tl.load(u + at * dim + c, mask=in_c, other=0.0)
        into = tl.load(b_in + at * n_states + s, mask=in_s, other=0.0)
        out = tl.load(c_out + at * n_states + s, mask=in_s, other=0.0)
        h = tl.exp2(step[None, :] * a) * h + (step * x)[None, :] * into[:, None]
        tl.store(y + at * dim + c, tl.sum(h * out[:, None], axis=0), mask=in_c)
    tl.store(last + batch * n_states * dim + place, h, mask=inside)


@triton.jit
def backward_kernel(  # type: ignore[no-untyped-def]
    u,
    delta,
    a2,
    b_in,
    c_out,
    kept,
    dy,
    dlast,
    du,
    ddelta,
    da,
    db,
    dc,
    dstate,
    scratch,
    length,
    dim,
    n_states,
    blocks,
    LN_2: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Block by block from the right: states of a block again into `scratch`, then the recurrence of gradients."""
    batch, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    program = batch * tl.num_programs(1) + group
    c = group * WIDTH + tl.arange(0, WIDTH)
    s = tl.arange(0, ROWS)
    in_c, in_s = c < dim, s < n_states
    inside = in_s[:, None] & in_c[None, :]
    place = s[:, None] * dim + c[None, :]
    states = scratch + program * (BLOCK + 1) * ROWS * WIDTH + s[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    a = tl.load(a2 + place, mask=inside, other=0.0)
    g = tl.load(dlast + batch * n_states * dim + place, mask=inside, other=0.0)
    to_a = tl.zeros((ROWS, WIDTH), tl.float32)
    for k in range(blocks):
        block = blocks - 1 - k
        h = tl.load(kept + (batch * blocks + block) * n_states * dim + place, mask=inside, other=0.0)
        tl.debug_barrier()  # the block before has been read by all threads
        tl.store(states, h)
        for i in range(BLOCK):
            t = block * BLOCK + i
            at = batch * length + t
            here_c, here_s = in_c & (c * 0 + t < length), in_s & (s * 0 + t < length)
            step = tl.load(delta + at * dim + c, mask=here_c, other=0.0)  # 0 behind the end: h stays
            x = tl.load(u + at * dim + c, mask=here_c, other=0.0)
            into = tl.load(b_in + at * n_states + s, mask=here_s, other=0.0)
            h = tl.exp2(step[None, :] * a) * h + (step * x)[None, :] * into[:, None]
            tl.store(states + (i + 1) * ROWS * WIDTH, h)
        tl.debug_barrier()
        for j in range(BLOCK):
            i = BLOCK - 1 - j
            t = block * BLOCK + i
            at = batch * length + t
            here_c, here_s = in_c & (c * 0 + t < length), in_s & (s * 0 + t < length)
            step = tl.load(delta + at * dim + c, mask=here_c, other=0.0)
            x = tl.load(u + at * dim + c, mask=here_c, other=0.0)
            cotangent = tl.load(dy + at * dim + c, mask=here_c, other=0.0)
            into = tl.load(b_in + at * n_states + s, mask=here_s, other=0.0)
            out = tl.load(c_out + at * n_states + s, mask=here_s, other=0.0)
            before = tl.load(states + i * ROWS * WIDTH)
            after = tl.load(states + (i + 1) * ROWS * WIDTH)
            g += out[:, None] * cotangent[None, :]
            partial = (program * length + t) * n_states + s
            tl.store(db + partial, tl.sum(g * (step * x)[None, :], axis=1), mask=here_s)
            tl.store(dc + partial, tl.sum(after * cotangent[None, :], axis=1), mask=here_s)
            by_dose = tl.sum(g * into[:, None], axis=0)
            g *= tl.exp2(step[None, :] * a)
            w = g * before
            to_a += w * step[None, :]
            tl.store(ddelta + at * dim + c, tl.sum(w * a, axis=0) * LN_2 + x * by_dose, mask=here_c)
            tl.store(du + at * dim + c, step * by_dose, mask=here_c)
    tl.store(dstate + batch * n_states * dim + place, g, mask=inside)
    tl.store(da + batch * n_states * dim + place, to_a, mask=inside)


def forward(
    u: Tensor, delta: Tensor, a: Tensor, b_in: Tensor, c_out: Tensor, state: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """As `selective_scan_torch.forward`."""
    batch, length, dim = u.shape
    n_states, blocks = a.shape[0], -(-length // BLOCK)
    y, last = torch.empty_like(u), torch.empty_like(state)
    kept = u.new_empty(batch if keep else 0, blocks, n_states, dim)
    rows = triton.next_power_of_2(n_states)
    with torch.cuda.device_of(u):
        forward_kernel[(batch, triton.cdiv(dim, WIDTH))](
            *(u, delta, a * LOG2_E, b_in, c_out, state, y, last, kept, length, dim, n_states, blocks),
            **{"KEEP": keep, "BLOCK": BLOCK, "WIDTH": WIDTH, "ROWS": rows, "num_warps": 1},
        )
    return y, last, kept


def backward(
    u: Tensor, delta: Tensor, a: Tensor, b_in: Tensor, c_out: Tensor, kept: Tensor, dy: Tensor, dlast: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As `selective_scan_torch.backward`; sums over channels in one order always, without atomic additions."""
    batch, length, dim = u.shape
    n_states, groups, rows = a.shape[0], triton.cdiv(dim, WIDTH), triton.next_power_of_2(a.shape[0])
    du, ddelta, dstate = torch.empty_like(u), torch.empty_like(u), torch.empty_like(dlast)
    da = u.new_empty(batch, n_states, dim)
    db, dc = (u.new_empty(batch, groups, length, n_states) for _ in range(2))
    scratch = u.new_empty(batch * groups * (BLOCK + 1) * rows * WIDTH)
    with torch.cuda.device_of(u):
        backward_kernel[(batch, groups)](
            *(u, delta, a * LOG2_E, b_in, c_out, kept, dy, dlast, du, ddelta, da, db, dc, dstate, scratch),
            *(length, dim, n_states, kept.shape[1]),
            **{"LN_2": LN_2, "BLOCK": BLOCK, "WIDTH": WIDTH, "ROWS": rows, "num_warps": 1},
        )
    return du, ddelta, da.sum(0), db.sum(1), dc.sum(1), dstate


def obstacle() -> str:
    """Why the kernels cannot be used, or nothing: both passes are tried against torch's on a small problem."""
    device = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"  # kernels as Python, for tests
    if device == "cuda" and not torch.cuda.is_available():
        return "there is no CUDA device"
    try:
        generator = torch.Generator().manual_seed(0)
        shapes = (2, 37, 21), (2, 37, 21), (5, 21), (2, 37, 5), (2, 37, 5), (2, 5, 21), (2, 37, 21), (2, 5, 21)
        u, delta, a, b_in, c_out, state, dy, dlast = (
            torch.randn(shape, generator=generator, dtype=torch.float32).to(device) for shape in shapes
        )
        core = u, delta.abs(), -10 * a.abs(), b_in, c_out
        with torch.no_grad():
            results = []
            for room in (selective_scan_torch.forward, selective_scan_torch.backward), (forward, backward):
                y, last, kept = room[0](*core, state, True)
                results.append((y, last, *room[1](*core, kept, dy, dlast)))
    except Exception as error:  # whatever a compiler, a driver or a device may say
        return f"its kernels failed their first try ({type(error).__name__}: {str(error)[:200]})"
    for theirs, ours in zip(*results, strict=True):
        if not (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max():
            return "its kernels gave wrong numbers on this device"
    return ""
