"""The selective scan of Mamba (Gu & Dao 2023, arXiv 2312.00752, section 3) on any machine, for inference and training.

    delta_t = softplus(delta_t + delta_bias)                     how much of step t every channel takes in
    h_t     = exp(delta_t A) h_{t-1} + delta_t B_t u_t           a state of its own for every channel
    y_t     = C_t h_t + D u_t,   out_t = y_t silu(z_t)

The recurrence itself has four implementations (`BACKENDS`) that agree within rounding; what surrounds it is here.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu, softplus

from hear_models.errors import UsageError

BACKENDS = ("auto", "torch", "numba", "triton", "reference")


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = True,
    *,
    backend: str = "auto",
    state: Tensor | None = None,
    return_state: bool = False,
) -> Any:
    """Run the recurrence over time; every argument has gradients (once: no gradients of gradients, but "reference").

    Args:
        u: input, [batch, dim, length]. Fastest where it, `delta` and `z` are transposed views of contiguous
            [batch, length, dim] tensors, as linear layers give them; the result is such a view in any case.
        delta: step sizes before bias and softplus, [batch, dim, length].
        A: decay rates, real and negative, [dim, state].
        B, C: what enters the state and what is read from it, [batch, state, length].
        D: what of u goes straight through, [dim].
        z: gate before its SiLU, [batch, dim, length].
        delta_bias: added to delta before the softplus, [dim].
        delta_softplus: False takes delta (with bias) as the step size itself.
        backend: "reference" is the formula as it stands, slow and hungry; "torch" works in blocks on any device;
            "numba" is compiled, for CPUs (the first call on a machine takes some 10 s); "triton" for CUDA, where it is
            installed and a first try agreed with "torch". "auto" takes the quickest that is there and fits.
        state: what an earlier call with `return_state` ended with; None is the zero state of a beginning.
        return_state: also return the state after the last step. A sequence in pieces, each given the state of the one
            before, gives what the whole gives; pieces may be empty.

    Returns:
        [batch, dim, length] in u's dtype, or the pair of it and the last state [batch, dim, state] in float32. Computed
        in float32, under autocast too, or in float64 where an argument is ("numba" and "triton" cannot).

    Raises:
        UsageError: shapes that do not fit, an unknown backend or one that cannot run here.
    """
    given = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "delta_bias": delta_bias, "state": state}
    tensors = {name: x for name, x in given.items() if x is not None}
    _check(tensors)
    dtype = torch.float64 if any(x.dtype == torch.float64 for x in tensors.values()) else torch.float32
    chosen = _choose(backend, u.device, dtype)
    with torch.autocast(u.device.type, enabled=False):
        start = u.new_zeros(u.shape[0], *A.shape) if state is None else state
        x, step, A, B, C, start = (tensor.to(dtype) for tensor in (u, delta, A, B, C, start))
        D, z, delta_bias = (None if tensor is None else tensor.to(dtype) for tensor in (D, z, delta_bias))
        if chosen == "numba" and not _wants_gradients(tensors.values()):
            y, last = _in_one_pass(x, step, A, B, C, D, z, delta_bias, delta_softplus, start)
        else:
            if delta_bias is not None:
                step = step + delta_bias[:, None]
            if delta_softplus:
                step = softplus(step)
            if chosen == "reference":
                y, last = _reference(x, step, A, B, C, start)
            else:
                y, last = _recurrence(_implementation(chosen), x, step, A, B, C, start)
            if D is not None:
                y = torch.addcmul(y, x, D[:, None])
            if z is not None:
                y = y * silu(z)
        y = y.to(u.dtype)
    return (y, last) if return_state else y


def _reference(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Everything that does not depend on the state for all steps at once, then step after step, in plain autograd."""
    u, delta = u.contiguous(), delta.contiguous()
    decay = torch.exp(delta[..., None] * A[:, None])  # [batch, dim, length, state]
    dose = (delta * u)[..., None] * B.transpose(1, 2)[:, None]
    y = []
    for t in range(u.shape[2]):
        h = decay[:, :, t] * h + dose[:, :, t]
        y.append(torch.einsum("bdn,bn->bd", h, C[:, :, t]))
    return torch.stack(y, dim=2) if y else torch.zeros_like(u), h


def _recurrence(implementation: ModuleType, *core: Tensor) -> tuple[Tensor, Tensor]:
    """By an implementation that has time before channels."""
    core = _time_first(*core)
    if _wants_gradients(core):
        y, last = _Scan.apply(implementation, *core)
    else:
        y, last, _ = implementation.forward(*(tensor.detach() for tensor in core), keep=False)
    return y.transpose(1, 2), last.transpose(1, 2)


def _in_one_pass(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    """Softplus, recurrence, D and gate together, without gradients."""
    core = _time_first(u, delta, A, B, C, state)
    gate = None if z is None else z.detach().transpose(1, 2).contiguous()
    skip, bias = (None if row is None else row.detach().contiguous() for row in (D, delta_bias))
    y, last, _ = _implementation("numba").whole(*core, skip, gate, bias, delta_softplus)
    return y.transpose(1, 2), last.transpose(1, 2)


def _time_first(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, ...]:
    core = (
        u.transpose(1, 2),
        delta.transpose(1, 2),
        A.t(),
        B.transpose(1, 2),
        C.transpose(1, 2),
        state.transpose(1, 2),
    )
    return tuple(tensor.contiguous() for tensor in core)


def _wants_gradients(tensors: Iterable[Tensor]) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


class _Scan(torch.autograd.Function):
    """Keeps the inputs and a state every few steps; the rest is computed again on the way back.

    Autograd through slices of [batch, length, state, dim] would make a tensor of that size for every step.
    """

    @staticmethod
    def forward(ctx: Any, implementation: ModuleType, *core: Tensor) -> tuple[Tensor, Tensor]:
        y, last, kept = implementation.forward(*(tensor.detach() for tensor in core), keep=True)
        ctx.implementation = implementation
        ctx.save_for_backward(*core[:5], kept)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dlast: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(dy.device.type, enabled=False):
            saved = (tensor.detach() for tensor in ctx.saved_tensors)
            return None, *ctx.implementation.backward(*saved, dy.contiguous(), dlast.contiguous())


def _check(tensors: dict[str, Tensor]) -> None:
    """Shapes, devices and kinds of number; a UsageError names the first argument that does not fit."""
    u, a = tensors["u"], tensors["A"]
    for name, tensor, letters in (("u", u, "[batch, dim, length]"), ("A", a, "[dim, state]")):
        if tensor.dim() != letters.count(",") + 1:
            raise UsageError(f"{name} has shape {list(tensor.shape)}. Pass it as {letters}.")
    batch, dim, length = u.shape
    states = a.shape[1]
    expected = {
        "delta": (batch, dim, length),
        "A": (dim, states),
        "B": (batch, states, length),
        "C": (batch, states, length),
        "D": (dim,),
        "z": (batch, dim, length),
        "delta_bias": (dim,),
        "state": (batch, dim, states),
    }
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != tuple(expected.get(name, tensor.shape)):
            raise UsageError(
                f"{name} has shape {list(tensor.shape)}. With u {list(u.shape)} and {states} states (columns of A) "
                f"it must be {list(expected[name])}."
            )
        if not tensor.is_floating_point():
            raise UsageError(f"{name} is {str(tensor.dtype).removeprefix('torch.')}. Pass real floating-point numbers.")
        if tensor.device != u.device:
            raise UsageError(f"{name} is on {tensor.device} and u on {u.device}. Move all arguments to one device.")


def _choose(backend: str, device: torch.device, dtype: torch.dtype) -> str:
    """The implementation to use; an explicit choice that cannot run here is an error that says why."""
    if backend not in BACKENDS:
        raise UsageError(f"There is no scan backend {backend!r}. Choose one of {', '.join(BACKENDS)}.")
    if backend == "auto":
        fast = {"cpu": "numba", "cuda": "triton"}.get(device.type)
        return fast if fast and dtype == torch.float32 and not _missing(fast) else "torch"
    if backend in ("torch", "reference"):
        return backend
    home = "cuda" if backend == "triton" and not _interpreted() else "cpu"
    if device.type != home:
        raise UsageError(f"The {backend} scan runs on {home}, not on {device}. Use backend='torch' or 'auto'.")
    if dtype != torch.float32:
        raise UsageError(f"The {backend} scan computes in float32 only. Use backend='torch' for float64.")
    if reason := _missing(backend):
        raise UsageError(f"The {backend} scan cannot run here: {reason}. Use backend='torch' or 'auto'.")
    return backend


def _implementation(name: str) -> ModuleType:
    """Imported where it is used: numba takes a second, triton may not be there."""
    return importlib.import_module(f"hear_models.layers.selective_scan_{name}")


def _interpreted() -> bool:
    """Whether Triton was told to run kernels as Python, for tests on a CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@functools.cache
def _missing(name: str) -> str:
    """Why an implementation cannot run on this machine; empty if it can. Asked once per process."""
    try:
        return _implementation(name).obstacle()
    except ImportError as error:
        return f"{error.name or name} is not installed"
