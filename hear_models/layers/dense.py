"""Linear layers of the encoders; activation or residual sum in the same pass where the CPU's library can do it.

Only a plain `nn.Linear` is computed from its weight. A layer that somebody wrapped, hooked, quantised or parametrised
(adapters, for instance) is called, as it would be anywhere else.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear
from torch.nn.modules import module as module_hooks


def dense(x: Tensor, layer: nn.Module) -> Tensor:
    """[..., in] → [..., out]: x @ weight.T + bias, if the layer has one."""
    if _is_plain(layer) and _fused(x, layer):
        return _op()(x, layer.weight, layer.bias, "none", [], "")
    return layer(x)


def dense_gelu(x: Tensor, layer: nn.Module, approximate: str = "tanh") -> Tensor:
    """[..., in] → [..., out]: GELU after the linear layer; its approximation "tanh" (Flax's default) or "none"."""
    if _is_plain(layer) and _fused(x, layer):
        return _op()(x, layer.weight, layer.bias, "gelu", [], approximate)
    return gelu(layer(x), approximate=approximate)


def dense_add(x: Tensor, layer: nn.Module, residual: Tensor) -> Tensor:
    """[..., in], residual [..., out] → [..., out]: residual + linear layer."""
    if _is_plain(layer) and _fused(x, layer):
        return _op().binary(x, residual, layer.weight, layer.bias, "add")
    return residual + layer(x)


def dense_of_parts(parts: Sequence[Tensor], layers: Sequence[nn.Module]) -> list[Tensor]:
    """What each layer gives for `parts` [..., in] joined along the last axis: [..., out] each.

    Plain layers take the parts as they are: what few outputs cost is reading, and joining would read and write twice.
    """
    if not all(_is_plain(layer) for layer in layers):
        joined = torch.cat(list(parts), dim=-1)
        return [layer(joined) for layer in layers]
    plain = [layer for layer in layers if _is_plain(layer)]
    weights = torch.cat([layer.weight for layer in plain]).split([part.shape[-1] for part in parts], dim=1)
    y = sum(linear(part, weight) for part, weight in zip(parts, weights, strict=True))
    outputs = y.split([len(layer.weight) for layer in plain], dim=-1)  # type: ignore[union-attr]
    return [x if layer.bias is None else x + layer.bias for x, layer in zip(outputs, plain, strict=True)]


def _is_plain(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether calling the layer is its product and nothing else: nobody wrapped, hooked or parametrised it."""
    return (
        type(layer) is nn.Linear
        and "forward" not in vars(layer)
        and not any((layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks))
        and not any((module_hooks._global_forward_hooks, module_hooks._global_forward_pre_hooks))
        and not any((module_hooks._global_backward_hooks, module_hooks._global_backward_pre_hooks))
    )


def _fused(x: Tensor, layer: nn.Linear) -> bool:
    """Whether oneDNN may do it: it has no gradients, and torch.compile fuses by itself.

    Measured on x86 with AVX-512 (`benchmarks/throughput.py`): oneDNN multiplies these shapes 1.1 to 1.3 times faster
    than torch's default library, and a GELU of its own costs as much as a quarter of the product before it.
    """
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype in _dtypes()
        and layer.weight.dtype == x.dtype
        and not (torch.is_grad_enabled() and (x.requires_grad or layer.weight.requires_grad))
        and not torch.is_autocast_enabled("cpu")
    )


def _op() -> Any:
    return torch.ops.mkldnn._linear_pointwise


@cache
def _dtypes() -> frozenset[torch.dtype]:
    """What oneDNN multiplies natively on this CPU; empty where torch was built without it or it was not measured."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return frozenset()
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return frozenset()
    try:
        x, layer = torch.ones(2, 16), nn.Linear(16, 16)
        with torch.no_grad():
            _op()(x, layer.weight, layer.bias, "gelu", [], "tanh")
            _op().binary(x, x, layer.weight, layer.bias, "add")
            bfloat16 = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError, TypeError):  # not torch's public interface: it may change
        return frozenset()
    return frozenset({torch.float32, torch.bfloat16} if bfloat16 else {torch.float32})
