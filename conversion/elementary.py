"""Operators that coremltools does not know, or takes for something else, in others that both converters know.

changed = in_elementary_operators(module)      # a captured GraphModule, changed in place

Each function takes what the operator takes and gives what it gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten


def in_elementary_operators(module: torch.fx.GraphModule) -> bool:
    """Write out what is in `_FUNCTIONS`, of floating-point numbers. Whether anything was."""
    calls = [
        node
        for node in module.graph.nodes
        if node.target in _FUNCTIONS and node.args[0].meta["val"].is_floating_point()
    ]
    for node in calls:
        node.target = _FUNCTIONS[node.target]
    return bool(calls)


def _trunc(x: Tensor) -> Tensor:
    return x.sign() * x.abs().floor()


def _frac(x: Tensor) -> Tensor:
    return x - _trunc(x)


def _fmod(x: Tensor, other: Any) -> Tensor:
    return x - _trunc(x / other) * other


def _lerp(x: Tensor, end: Tensor, weight: Any) -> Tensor:
    return x + (end - x) * weight


def _log_sigmoid(x: Tensor) -> Tensor:
    # Not log(sigmoid(x)), which is minus infinity where the sigmoid ends.
    return x.clamp(max=0.0) - torch.log(1.0 + torch.exp(-x.abs()))


def _hardshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    return x * (x.abs() > lambd).to(x.dtype)


def _softshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    return x - x.clamp(-lambd, lambd)


def _hypot(x: Tensor, other: Tensor) -> Tensor:
    return (x * x + other * other).sqrt()


def _erfc(x: Tensor) -> Tensor:
    return 1.0 - torch.erf(x)


def _is_infinite(x: Tensor) -> Tensor:
    return x.abs() == float("inf")


def _is_finite(x: Tensor) -> Tensor:
    return x.abs() < float("inf")


def _median(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The lower one of the two in the middle, as PyTorch's."""
    return _kth(x, (x.shape[dim] - 1) // 2 + 1, dim, keepdim)


def _median_of_all(x: Tensor) -> Tensor:
    return x.reshape(-1).sort(0)[0][(x.numel() - 1) // 2]


def _product(x: Tensor, dim: int, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    first, *others = x.to(dtype or x.dtype).split(1, dim)
    for other in others:
        first = first * other
    return first if keepdim else first.squeeze(dim)


def _kth(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    values, places = (part.narrow(dim, k - 1, 1) for part in x.sort(dim))
    return (values, places) if keepdim else (values.squeeze(dim), places.squeeze(dim))


def _cosine_similarity(x: Tensor, other: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    one, two = (part.square().sum(dim).sqrt().clamp(min=eps) for part in (x, other))
    return (x * other).sum(dim) / (one * two)


def _acosh(x: Tensor) -> Tensor:
    return torch.log(x + torch.sqrt(x * x - 1.0))


def _copysign(x: Tensor, other: Any) -> Tensor:
    return x.abs() * (1.0 - 2.0 * (other < 0).to(x.dtype))


def _bucketize(x: Tensor, edges: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """How many of the edges are below."""
    apart = x.unsqueeze(-1)
    below = apart >= edges if right else apart > edges
    return below.to(torch.int32).sum(-1)


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    _aten.trunc.default: _trunc,
    _aten.frac.default: _frac,
    **dict.fromkeys((_aten.fmod.Scalar, _aten.fmod.Tensor), _fmod),
    **dict.fromkeys((_aten.lerp.Scalar, _aten.lerp.Tensor), _lerp),
    _aten.log_sigmoid.default: _log_sigmoid,
    _aten.hardshrink.default: _hardshrink,
    _aten.softshrink.default: _softshrink,
    _aten.hypot.default: _hypot,
    _aten.fmax.default: torch.maximum,
    _aten.fmin.default: torch.minimum,
    _aten.erfc.default: _erfc,
    _aten.isinf.default: _is_infinite,
    _aten.isfinite.default: _is_finite,
    _aten.median.dim: _median,
    _aten.median.default: _median_of_all,
    _aten.kthvalue.default: _kth,
    _aten.cosine_similarity.default: _cosine_similarity,
    _aten.acosh.default: _acosh,
    _aten.copysign.Tensor: _copysign,
    _aten.prod.dim_int: _product,
    _aten.bucketize.Tensor: _bucketize,
}
