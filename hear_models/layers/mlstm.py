"""The mLSTM cell of xLSTM: a matrix memory with exponential input gates, computed in one go, by chunks or step by step.

Beck et al. 2024, xLSTM (arXiv 2405.04517), section 2.3 and appendix A. One head, step i, everything before it j <= i:

    F_i = sum_{s <= i} log sigmoid(fgate_s)          how much was forgotten so far
    m_i = max_{j <= i} (F_i - F_j + igate_j)         the largest log weight of what is remembered: the stabiliser
    C_ij = q_i . k_j / sqrt(d) * exp(F_i - F_j + igate_j - m_i)
    h_i = sum_j C_ij v_j / (max(|sum_j C_ij|, exp(-m_i)) + EPS)

Because of EPS the result depends on m, so every form below arrives at this m, which starts at the first step (not at
the m = 0 of a recurrence that begins with an empty memory).

With a_j = igate_j - F_j the log weight is (F_i + a_j) - m_i = a_j - M_i, where M is the running maximum of a: no table
of steps x steps is needed for gates or stabiliser, and m_i = F_i + M_i. The gates' sums are float64 (they are vectors):
F grows with the length, and float32 would lose the small differences that decide.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple, get_args, overload

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from hear_models.errors import UsageError

Mode = Literal["auto", "parallel", "chunkwise", "sequential"]
MODES = get_args(Mode)  # here: the compiler of older torch cannot call it

EPS = 1e-6
# exp(-m) becomes infinite (float32: below m = -88.7, float64: -709). h would still be right (0), its gradient could be
# 0 * inf. Below these m the memory weighs less than e-80 of what it holds, so that the clamp is not seen.
LOWEST_M = {torch.float32: -80.0, torch.float64: -700.0}
# A table of weights is taken apart into exp(a_j - origin) * exp(origin - M_i) while M rises by no more than this in it.
# Both factors then stay far inside float32 (e88); what rounds to zero in the first weighs less than e-87 in the whole.
FACTORED_RISE = 50.0
# Rows that are weighed together, so that their weights stay in a CPU's cache: against all keys, and within a chunk.
PARALLEL_STEPS = 64
CHUNK_STEPS = 128


class MLSTMState(NamedTuple):
    """What the cell remembers after step T: sums over j <= T of exp(F_T - F_j + igate_j) times k_j v_j^T, times k_j."""

    matrix: Tensor  # [B, H, d, d], key x value; the sum is exp(log_scale) * matrix
    vector: Tensor  # [B, H, d]; the sum is exp(log_scale) * vector
    log_scale: Tensor  # [B, H], float64: m_T


class _Gates(NamedTuple):
    """The gates' vectors, [B, H, S]; float64 but for `floor`."""

    forgotten: Tensor  # F
    reach: Tensor  # a: the log weight of a step's input, as seen from before the first step
    peak: Tensor  # M: the largest reach so far
    floor: Tensor  # exp(-m)


@overload
def mlstm(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    igate: Tensor,
    fgate: Tensor,
    *,
    mode: Mode = ...,
    state: MLSTMState | None = ...,
    return_state: Literal[False] = ...,
) -> Tensor: ...
@overload
def mlstm(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    igate: Tensor,
    fgate: Tensor,
    *,
    mode: Mode = ...,
    state: MLSTMState | None = ...,
    return_state: Literal[True],
) -> tuple[Tensor, MLSTMState]: ...
def mlstm(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    igate: Tensor,
    fgate: Tensor,
    *,
    mode: Mode = "auto",
    state: MLSTMState | None = None,
    return_state: bool = False,
) -> Tensor | tuple[Tensor, MLSTMState]:
    """The mLSTM cell over a sequence, the same numbers in every mode up to rounding.

    Args:
        q, k, v: [B, H, S, d], of one floating dtype; S >= 1. q is scaled by 1 / sqrt(d) in here.
        igate, fgate: [B, H, S], before exp and sigmoid; finite.
        mode: "parallel" weighs every step against all before it (work grows with S squared), "chunkwise" carries the
            memory from chunk to chunk (work and memory linear in S), "sequential" from step to step (slow; it is the
            definition); "auto" takes the faster of the first two.
        state: what an earlier call returned, to go on where it ended; None: nothing is remembered.
        return_state: return the memory after the last step as well.

    Returns:
        h [B, H, S, d] in the dtype of q, or (h, state). float16 and bfloat16 inputs are multiplied as such; weights,
        sums and state are float32 then. Autocast changes nothing in here. Gradients flow through a state too.

    Raises:
        UsageError: shapes, dtypes or devices do not fit each other, or the mode is unknown.
    """
    _check(q, k, v, igate, fgate, mode, state)
    last: MLSTMState | None
    with _no_autocast(q.device.type):
        form = _faster(q.shape[2], q.shape[3]) if mode == "auto" else mode
        if form == "sequential":
            h, last = _by_steps(q, k, v, igate, fgate, state)
        else:
            gates = _gates(igate, fgate, state, _work_dtype(q))
            h, last = _by_blocks(q, k, v, gates, state, carry=form == "chunkwise", return_state=return_state)
    if not return_state:
        return h
    assert last is not None
    return h, last


def _faster(steps: int, width: int) -> Mode:
    """ "parallel" or "chunkwise", whichever takes less time.

    A row costs 2 width (steps + PARALLEL_STEPS) operations in the one, 4 width (CHUNK_STEPS + width) in the other, and
    the milliseconds follow (`benchmarks/mlstm.py --forms`, CPU): they meet near 300 steps at width 96, near 900 at 384.
    """
    return "parallel" if steps <= CHUNK_STEPS + 2 * width else "chunkwise"


def _gates(igate: Tensor, fgate: Tensor, state: MLSTMState | None, dtype: torch.dtype) -> _Gates:
    igate, fgate = _float64(igate), _float64(fgate)
    forgotten = logsigmoid(fgate).cumsum(dim=-1)
    reach = igate - forgotten
    peak = reach.cummax(dim=-1).values
    if state is not None:
        peak = torch.maximum(peak, state.log_scale[..., None])
    return _Gates(forgotten, reach, peak, _floor(forgotten + peak, dtype))


def _by_blocks(
    q: Tensor, k: Tensor, v: Tensor, gates: _Gates, state: MLSTMState | None, carry: bool, return_state: bool
) -> tuple[Tensor, MLSTMState | None]:
    """Block after block of rows, each against all keys of the call, or (`carry`) its own ones and the memory so far.

    `log_scale` of the memory counts from before the call's first step in here, as `reach` and `peak` do.
    """
    steps, size = q.shape[2], CHUNK_STEPS if carry else PARALLEL_STEPS
    tops, bottoms = [], []  # of the fraction h, [B, H, rows, d] and [B, H, rows]
    whole = None if carry else _factored(q, k, gates.reach, gates.peak)
    for first in range(0, steps, size):
        last = min(first + size, steps)
        rows, keys = slice(first, last), slice(first if carry else 0, last)
        reach, peak = gates.reach[..., keys], gates.peak[..., rows]
        if whole is not None:
            weights = _matmul(whole[0][..., rows, :], whole[1][..., keys, :].transpose(-2, -1))
        else:
            weights = _weights(q[..., rows, :], k[..., keys, :], reach, peak)
        weights.tril_(first - keys.start)  # a later key weighs nothing
        top, bottom = _matmul(weights.to(v.dtype), v[..., keys, :]), weights.sum(dim=-1)
        if state is not None:
            faded = _query(q[..., rows, :], state.log_scale[..., None] - peak)
            top += _matmul(faded, state.matrix.to(q.dtype))
            bottom += _matmul(faded, state.vector.to(q.dtype)[..., None])[..., 0]
        tops.append(top)
        bottoms.append(bottom)
        if carry and (last < steps or return_state):
            state = _remember(state, k[..., rows, :], v[..., rows, :], reach, peak[..., -1])
    if return_state:
        if not carry:
            state = _remember(state, k, v, gates.reach, gates.peak[..., -1])
        assert state is not None
        state = state._replace(log_scale=state.log_scale + gates.forgotten[..., -1])
    return _fraction(torch.cat(tops, dim=2), torch.cat(bottoms, dim=2), gates.floor).to(q.dtype), state


def _weights(q: Tensor, k: Tensor, reach: Tensor, peak: Tensor) -> Tensor:
    """C of rows q [B, H, R, d] against keys k [B, H, N, d]: [B, H, R, N]; keys that come after a row hold anything."""
    factors = _factored(q, k, reach, peak)
    if factors is not None:
        return _matmul(factors[0], factors[1].transpose(-2, -1))
    # a - M is exact enough in float32 if what the rounding of each took away is made good:
    # exp(a + da - M - dM) = exp(a - M) exp(da) exp(-dM). The weight of a later key may be infinite, and gradients would
    # get a 0 * inf from it; no other is above exp(0), so that the clamp touches only what is then cut off.
    reach_high, peak_high = (x.to(q.device, _work_dtype(q)) for x in (reach, peak))
    decay = (reach_high[..., None, :] - peak_high[..., None]).clamp_(max=0).exp_()
    left, right = _query(q, -_rounded_off(peak, peak_high)), _scaled(k, _rounded_off(reach, reach_high))
    return _matmul(left, right.transpose(-2, -1)).mul_(decay)


def _factored(q: Tensor, k: Tensor, reach: Tensor, peak: Tensor) -> tuple[Tensor, Tensor] | None:
    """q and k scaled so that their product is C, with no exp of R x N; None where the gates change too much for that.

    A look at the numbers would be lost in a recorded graph, and waited for on a GPU. Half precision lacks
    the range.
    """
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if recorded or q.device.type != "cpu" or q.dtype not in (torch.float32, torch.float64):
        return None
    origin = peak[..., :1].detach()  # cancels, so that it needs no gradient
    if float((peak[..., -1:] - origin).detach().max()) > FACTORED_RISE:
        return None
    return _query(q, origin - peak), _scaled(k, reach - origin)


def _remember(state: MLSTMState | None, k: Tensor, v: Tensor, reach: Tensor, peak: Tensor) -> MLSTMState:
    """The memory after more steps k, v [B, H, steps, d] and their `reach`, scaled by the `peak` [B, H] at their end."""
    weighted = _scaled(k, reach - peak[..., None])
    matrix = _matmul(weighted.transpose(-2, -1), v)
    vector = weighted.sum(dim=-2, dtype=matrix.dtype)
    if state is not None:
        fade = _like(matrix, (state.log_scale - peak).exp())[..., None]
        matrix += fade[..., None] * state.matrix
        vector += fade * state.vector
    return MLSTMState(matrix, vector, peak)


def _by_steps(
    q: Tensor, k: Tensor, v: Tensor, igate: Tensor, fgate: Tensor, state: MLSTMState | None
) -> tuple[Tensor, MLSTMState]:
    """The recurrence: forget, write, read."""
    igate, log_forget = _float64(igate), logsigmoid(_float64(fgate))
    work, dtype = _work_dtype(q), q.dtype
    q, k, v = q.to(work) / math.sqrt(q.shape[3]), k.to(work), v.to(work)
    if state is None:
        batch, heads, _, width = q.shape
        matrix, vector = q.new_zeros(batch, heads, width, width), q.new_zeros(batch, heads, width)
        m = igate.new_full((batch, heads), -math.inf)
    else:
        matrix, vector, m = state
    tops, bottoms, floors = [], [], []
    for t in range(q.shape[2]):
        before = log_forget[..., t] + m
        m = torch.maximum(before, igate[..., t])
        keep, write = _like(q, (before - m).exp())[..., None], _like(q, (igate[..., t] - m).exp())[..., None]
        written = write * k[..., t, :]
        matrix = keep[..., None] * matrix + written[..., None] * v[..., t, None, :]
        vector = keep * vector + written
        tops.append((q[..., t, None, :] @ matrix)[..., 0, :])
        bottoms.append((q[..., t, :] * vector).sum(dim=-1))
        floors.append(_floor(m, work))
    top, bottom, floor = (torch.stack(parts, dim=2) for parts in (tops, bottoms, floors))
    return _fraction(top, bottom, floor).to(dtype), MLSTMState(matrix, vector, m)


def _fraction(top: Tensor, bottom: Tensor, floor: Tensor) -> Tensor:
    """h [B, H, S, d] from its numerator, the sum of its weights [B, H, S], and exp(-m)."""
    return top.div_((torch.maximum(bottom.abs(), floor.to(bottom.device)) + EPS)[..., None])


def _floor(m: Tensor, dtype: torch.dtype) -> Tensor:
    return (-m.clamp(min=LOWEST_M[dtype])).exp().to(dtype)


def _matmul(x: Tensor, y: Tensor) -> Tensor:
    """x @ y, and no half precision from there on."""
    return (x @ y).to(_work_dtype(x))


def _work_dtype(x: Tensor) -> torch.dtype:
    """What is added up in: float64 for float64, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _float64(gate: Tensor) -> Tensor:
    """Gates in float64; Apple's GPUs have none, so theirs are summed on the CPU."""
    return gate.to("cpu" if gate.device.type == "mps" else gate.device, torch.float64)


def _like(x: Tensor, gates: Tensor) -> Tensor:
    """A gates' vector in the dtype and on the device of x."""
    return gates.to(x.device, x.dtype)


def _scaled(x: Tensor, log_factor: Tensor) -> Tensor:
    """x [B, H, N, d] times exp of its steps' log factors [B, H, N]."""
    return x * _like(x, log_factor.exp())[..., None]


def _query(q: Tensor, log_factor: Tensor) -> Tensor:
    """The same of q / sqrt(d), in one pass."""
    return _scaled(q, log_factor - 0.5 * math.log(q.shape[-1]))


def _rounded_off(gates: Tensor, high: Tensor) -> Tensor:
    """What a float64 vector lost when it became `high`; gradients pass through `high`: rounding does not bend it."""
    return gates.detach() - high.detach().to(gates.device, torch.float64)


def _no_autocast(device_type: str) -> AbstractContextManager[object]:
    """Autocast would take the products of weights back to half precision."""
    if device_type in ("cpu", "cuda") and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def _check(q: Tensor, k: Tensor, v: Tensor, igate: Tensor, fgate: Tensor, mode: str, state: MLSTMState | None) -> None:
    """Raise UsageError unless everything fits."""
    if mode not in MODES:
        raise UsageError(f"mLSTM has no mode {mode!r}. Use one of: {', '.join(MODES)}.")
    if q.dim() != 4 or 0 in q.shape or not q.shape == k.shape == v.shape:
        shapes = ", ".join(str(list(x.shape)) for x in (q, k, v))
        raise UsageError(f"q, k and v have the shapes {shapes}. Give all three as [B, H, S, d], no size 0.")
    if not igate.shape == fgate.shape == q.shape[:3]:
        raise UsageError(
            f"The gates have the shapes {list(igate.shape)} and {list(fgate.shape)}. "
            f"Give one number for each head and step, {list(q.shape[:3])}."
        )
    if not (q.is_floating_point() and q.dtype == k.dtype == v.dtype):
        raise UsageError(f"q, k and v are {q.dtype}, {k.dtype} and {v.dtype}. Give all three in one floating dtype.")
    if not (igate.is_floating_point() and fgate.is_floating_point()):
        raise UsageError(f"The gates are {igate.dtype} and {fgate.dtype}. Give floating-point numbers.")
    if len({x.device for x in (q, k, v, igate, fgate)}) > 1:
        raise UsageError("q, k, v and the gates are on different devices. Move them to one.")
    if state is not None:
        batch, heads, _, width = q.shape
        wanted = ((batch, heads, width, width), (batch, heads, width), (batch, heads))
        found = tuple(tuple(x.shape) for x in state)
        if found != wanted:
            raise UsageError(f"The state has the shapes {found}, not {wanted}. Give the one that this batch returned.")
        if state.matrix.dtype != _work_dtype(q) or state.vector.dtype != _work_dtype(q):
            raise UsageError(
                f"The state is {state.matrix.dtype}, not {_work_dtype(q)} as for {q.dtype}. Keep to one dtype."
            )
        if state.log_scale.dtype != torch.float64:
            raise UsageError(f"The state's log_scale is {state.log_scale.dtype}. Leave it in float64.")
