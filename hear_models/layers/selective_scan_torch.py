"""The selective scan in torch's own operations, on any device: blocks of steps, and a backward pass that recomputes.

A block's decays and inputs are made at once, then its steps are run in place, then one product with C reads them out.
Nothing of length x dim x state is ever held, only a block of it, which on a CPU stays in the cache. States are only
ever multiplied by decays of at most 1: forms that divide by a decay, or exponentiate sums of them, overflow as soon as
a channel forgets quickly.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log

import torch
from torch import Tensor

LOG2_E = 1 / log(2)
BLOCK = 16  # steps between the states that training keeps: they take 24 / 16 of u's memory where there are 24 states
IN_CACHE = 200_000  # numbers in a block on a CPU, of which there are two: 1.6 MB; flat from half to twice that


def forward(
    u: Tensor, delta: Tensor, a: Tensor, b_in: Tensor, c_out: Tensor, state: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The bare recurrence, all tensors contiguous and of one dtype, without gradients: no softplus, D or gate.

    Args:
        u, delta: [batch, length, dim].
        a: [state, dim].
        b_in, c_out: [batch, length, state].
        state: before the first step, [batch, state, dim].
        keep: whether `backward` will follow.

    Returns:
        y [batch, length, dim], the last state, and what `backward` needs: the states before every BLOCK-th step.
    """
    batch, length, _ = u.shape
    y, last = torch.empty_like(u), torch.empty_like(state)
    kept = state.new_empty(batch if keep else 0, -(-length // BLOCK), *state.shape[1:])
    for items, steps in _parts(state, BLOCK if keep else None):
        h = state[items]
        for first in range(0, length, steps):
            block = (items, slice(first, first + steps))
            if keep:
                kept[items, first // BLOCK] = h
            _, states = _states(u[block], delta[block], a, b_in[block], h)
            torch.matmul(c_out[block][:, :, None], states, out=y[block][:, :, None])
            h = states[:, -1]
        last[items] = h
    return y, last, kept


def backward(
    u: Tensor, delta: Tensor, a: Tensor, b_in: Tensor, c_out: Tensor, kept: Tensor, dy: Tensor, dlast: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, delta, a, b_in, c_out and the first state, from those of y and of the last state.

    With g_t = dLoss/dh_t all told, g_t = C_t dy_t + exp(delta_{t+1} A) g_{t+1}, block by block from the right.
    """
    du, ddelta, da = torch.empty_like(u), torch.empty_like(u), torch.zeros_like(a)
    db, dc, dstate = torch.empty_like(b_in), torch.empty_like(c_out), torch.empty_like(dlast)
    for items, _ in _parts(dlast, BLOCK):
        later = dlast[items]  # dLoss/dh of the step before the block at hand, through all that follows
        for k in range(kept.shape[1] - 1, -1, -1):
            block = (items, slice(k * BLOCK, (k + 1) * BLOCK))
            x, step, cotangent = u[block], delta[block], dy[block]
            decay, states = _states(x, step, a, b_in[block], kept[items, k])
            dc[block] = torch.matmul(states, cotangent[..., None])[..., 0]
            g = c_out[block][..., None] * cotangent[:, :, None]
            for i in range(g.shape[1] - 1, -1, -1):
                later = g[:, i].add_(later) * decay[:, i]
            db[block] = torch.matmul(g, (step * x)[..., None])[..., 0]
            by_dose = torch.matmul(b_in[block][:, :, None], g)[:, :, 0]
            du[block] = step * by_dose
            w = decay.mul_(g)  # dLoss/d(delta A), once multiplied by the state before
            w[:, 0] *= kept[items, k]
            w[:, 1:] *= states[:, :-1]
            ddelta[block] = (w * a).sum(2).addcmul_(x, by_dose)
            da += w.mul_(step[:, :, None]).sum((0, 1))
        dstate[items] = later
    return du, ddelta, da, db, dc, dstate


def _states(u: Tensor, delta: Tensor, a: Tensor, b_in: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Decays of a block's steps and the states after them, both [batch, steps, state, dim], from the state before."""
    decay = (delta[:, :, None] * (a * LOG2_E)).exp2_()  # torch's exp takes three times as long, a third of the whole
    states = b_in[..., None] * (delta * u)[:, :, None]
    for i in range(states.shape[1]):
        h = states[:, i].addcmul_(decay[:, i], h)
    return decay, states


def _parts(state: Tensor, steps: int | None) -> Iterator[tuple[slice, int]]:
    """(batch items, steps in a block) of parts that are run one after another; on a GPU all items at once."""
    batch, row = state.shape[0], max(1, state[0].numel()) if len(state) else 1
    together = batch
    if state.device.type == "cpu":
        together = max(1, IN_CACHE // (row * (steps or 4)))
        steps = steps or min(32, max(4, IN_CACHE // (row * min(batch, together))))
    for first in range(0, batch, max(1, together)):
        yield slice(first, first + together), steps or BLOCK
