"""Operators that a converter translates by a formula of its own, written out so that it cannot.

changed = write_out(module)      # a captured GraphModule, changed in place

coremltools adds numbers of its own to what it divides by: 1e-4 in a reciprocal, in a reciprocal root the smallest
number of float16. It leaves the threshold of a softplus out, and divides 0 by 0 in the root mean square of zeros.
onnx2tf does not know how windows are cut out and put back, nor tables that are read by place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from afterlens.conversion.graph_edit import call, constants, named, shape_of

Node = torch.fx.Node
_aten = torch.ops.aten


def write_out(module: torch.fx.GraphModule) -> bool:
    """Rewrite the operators of a captured graph that are in `_FORMULAS`. Whether any was."""
    calls = [node for node in module.graph.nodes if node.op == "call_function" and node.target in _FORMULAS]
    changed = [_FORMULAS[node.target](module, node) for node in calls]
    return any(changed)


def _rms_norm(module: torch.fx.GraphModule, node: Node) -> bool:
    x, shape, weight, eps = named(node, "input", "normalized_shape", "weight", "eps")
    axes = list(range(-len(shape), 0))
    return call(node, _normalized, x, axes, weight, torch.finfo(torch.float32).eps if eps is None else eps)


def _normalized(x: Tensor, axes: list[int], weight: Tensor | None, eps: float) -> Tensor:
    result = x / torch.sqrt(x.square().mean(axes, keepdim=True) + eps)
    return result if weight is None else result * weight


def _remainder(module: torch.fx.GraphModule, node: Node) -> bool:
    # Of whole numbers it stays: the quotient would be none.
    return node.meta["val"].is_floating_point() and call(node, _rest, *named(node, "self", "other"))


def _rest(a: Tensor, b: float) -> Tensor:
    return a - torch.floor(a) if b == 1 else a - torch.floor(a / b) * b


def _reciprocal(module: torch.fx.GraphModule, node: Node) -> bool:
    number = 1.0
    (first, *others) = node.users
    if not others and first.target is _aten.mul.Tensor and type(first.args[1]) in (int, float):
        number = first.args[1]  # type: ignore[assignment]  # of `number / x`
        first.replace_all_uses_with(node)
        module.graph.erase_node(first)
    (dividend,) = constants(module, node, torch.tensor([float(number)]))
    return call(node, torch.div, dividend, node.args[0])


def _reciprocal_root(module: torch.fx.GraphModule, node: Node) -> bool:
    (one,) = constants(module, node, torch.ones(1))
    return call(node, _over_root, one, node.args[0])


def _over_root(one: Tensor, x: Tensor) -> Tensor:
    return one / torch.sqrt(x)


def _softplus(module: torch.fx.GraphModule, node: Node) -> bool:
    x, beta, threshold = named(node, "self", "beta", "threshold")
    return threshold < _EXACT and call(node, _softplus_below, x, beta, threshold)


_EXACT = 16.0
"""Above it, log(1 + exp(x)) is x in float32."""


def _softplus_below(x: Tensor, beta: float, threshold: float) -> Tensor:
    return torch.where(x * beta > threshold, x, F.softplus(x, beta, 2 * _EXACT))


def _celu(module: torch.fx.GraphModule, node: Node) -> bool:
    return call(node, _scaled_elu, *named(node, "self", "alpha"))


def _scaled_elu(x: Tensor, alpha: float) -> Tensor:
    return F.elu(x / alpha) * alpha


def _deviation(module: torch.fx.GraphModule, node: Node) -> bool:
    """Variances and standard deviations: onnx2tf takes them over other axes, or divides by another count."""
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    given = dict(zip(names, named(node, *names), strict=True))
    x, axes = given["self"], given.get("dim")
    shape = shape_of(x)
    axes = list(range(len(shape))) if axes in (None, []) else [axis % len(shape) for axis in axes]
    less = given.get("correction", 1 if given.get("unbiased", True) else 0)
    count = math.prod(shape[axis] for axis in axes)
    less = 1 if less is None else less
    if count <= less:
        return False
    name = str(node.target.name())  # type: ignore[union-attr]
    root, with_mean = "std" in name, "mean" in name
    return call(node, _spread, x, axes, count / (count - less), given.get("keepdim", False), root, with_mean)


def _spread(x: Tensor, axes: list[int], factor: float, keepdim: bool, root: bool, with_mean: bool) -> Any:
    mean = x.mean(axes, keepdim=True)
    apart = x - mean
    variance = (apart * apart).mean(axes, keepdim=keepdim) * factor
    spread = variance.sqrt() if root else variance
    return (spread, mean if keepdim else x.mean(axes)) if with_mean else spread


def _whole_slice(module: torch.fx.GraphModule, node: Node) -> bool:
    """It takes all there is, which a second capture calls an alias, and coremltools knows none."""
    source = node.args[0]
    assert isinstance(source, Node)
    if shape_of(source) != shape_of(node):
        return False
    node.replace_all_uses_with(source)
    module.graph.erase_node(node)
    return True


def _windows(module: torch.fx.GraphModule, node: Node) -> bool:
    """Each place of a window is a channel: a convolution whose kernels have a single one."""
    x, *how = named(node, "self", "kernel_size", "dilation", "padding", "stride")
    if len(shape_of(node)) != 3:
        return False
    (kernels,) = constants(module, node, _single_ones(shape_of(x)[1], how[0]))
    return call(node, _cut, x, kernels, *how[1:], shape_of(node))


def _cut(x: Tensor, kernels: Tensor, dilation: Any, padding: Any, stride: Any, shape: Any) -> Tensor:
    return F.conv2d(x, kernels, None, stride, padding, dilation, x.shape[1]).reshape(shape)


def _windows_back(module: torch.fx.GraphModule, node: Node) -> bool:
    """The sum of overlapping windows: the transposed convolution with the same kernels."""
    x, size, kernel, *how = named(node, "self", "output_size", "kernel_size", "dilation", "padding", "stride")
    shape = shape_of(node)
    if len(shape) != 4:
        return False
    dilation, padding, stride = how
    if _is_mosaic(kernel, *how) and [s // kernel[0] * kernel[0] for s in size] == list(size):
        return call(node, _put_together, x, kernel[0], [s // kernel[0] for s in size])
    counts, more = [], []
    for side, k, d, p, s in zip(size, kernel, dilation, padding, stride, strict=True):
        count = (side + 2 * p - d * (k - 1) - 1) // s + 1
        counts.append(count)
        more.append(side - ((count - 1) * s - 2 * p + d * (k - 1) + 1))
    (kernels,) = constants(module, node, _single_ones(shape[1], kernel))
    return call(node, _put_back, x, kernels, counts, stride, padding, more, dilation)


def _is_mosaic(kernel: Any, dilation: Any, padding: Any, stride: Any) -> bool:
    """Square windows side by side."""
    side = [kernel[0], kernel[0]]
    return [kernel, dilation, padding, stride] == [side, [1, 1], [0, 0], side]


def _put_together(x: Tensor, side: int, counts: list[int]) -> Tensor:
    return F.pixel_shuffle(x.reshape(x.shape[0], x.shape[1], *counts), side)


def _put_back(
    x: Tensor, kernels: Tensor, counts: list[int], stride: Any, padding: Any, more: Any, dilation: Any
) -> Tensor:
    groups = kernels.shape[0] // (kernels.shape[2] * kernels.shape[3])
    pictures = x.reshape(x.shape[0], kernels.shape[0], *counts)
    return F.conv_transpose2d(pictures, kernels, None, stride, padding, more, groups, dilation)


def _single_ones(channels: int, kernel: Any) -> Tensor:
    """(channels * KH * KW, 1, KH, KW): for each channel one kernel a place."""
    places = kernel[0] * kernel[1]
    return torch.eye(places).reshape(places, 1, *kernel).repeat(channels, 1, 1, 1)


def _logical(module: torch.fx.GraphModule, node: Node) -> bool:
    """`&`, `|` and `^` of masks, whose names coremltools does not know."""
    operands = [value for value in node.args if isinstance(value, Node)]
    masks = len(operands) == 2 and all(value.meta["val"].dtype == torch.bool for value in operands)
    return masks and call(node, _LOGICAL[node.target], *node.args)


_LOGICAL: dict[Any, Callable[..., Tensor]] = {
    **dict.fromkeys((_aten.__and__.Tensor, _aten.bitwise_and.Tensor), torch.logical_and),
    **dict.fromkeys((_aten.__or__.Tensor, _aten.bitwise_or.Tensor), torch.logical_or),
    **dict.fromkeys((_aten.__xor__.Tensor, _aten.bitwise_xor.Tensor), torch.logical_xor),
}


def _table(module: torch.fx.GraphModule, node: Node) -> bool:
    """Read by place along one axis: the places as a list too."""
    table, indices = node.args
    given = [(axis, places) for axis, places in enumerate(indices) if places is not None]  # type: ignore[arg-type]
    if len(given) != 1 or not isinstance(table, Node) or given[0][1].meta["val"].dtype == torch.bool:
        return False
    ((axis, places),) = given
    if len(shape_of(places)) == 1:
        return call(node, torch.index_select, table, axis, places)
    return len(shape_of(table)) == 1 and shape_of(places) != () and call(node, _looked_up, table, places)


def _looked_up(table: Tensor, places: Tensor) -> Tensor:
    return table.index_select(0, places.reshape(-1)).reshape(places.shape)


def _choice(module: torch.fx.GraphModule, node: Node) -> bool:
    """Between a tensor and a number: coremltools makes a whole number of it, whatever the tensor is."""
    condition, *values = named(node, "condition", "self", "other")
    kind = node.meta["val"].dtype
    numbers = [torch.full((1,), value, dtype=kind) for value in values if not isinstance(value, Node)]
    made = iter(constants(module, node, *numbers))
    return call(node, torch.where, condition, *(v if isinstance(v, Node) else next(made) for v in values))


def _slide(module: torch.fx.GraphModule, node: Node) -> bool:
    """Windows along one axis: read by place, as a list."""
    x, dim, size, step = named(node, "self", "dimension", "size", "step")
    dim %= len(shape_of(x))
    places = torch.arange(shape_of(node)[dim])[:, None] * step + torch.arange(size)
    (given,) = constants(module, node, places.reshape(-1))
    return call(node, _slid, x, dim, given, tuple(places.shape))


def _slid(x: Tensor, dim: int, places: Tensor, shape: tuple[int, int]) -> Tensor:
    return x.index_select(dim, places).unflatten(dim, shape).movedim(dim + 1, -1)


def _affine_grid(module: torch.fx.GraphModule, node: Node) -> bool:
    """coremltools knows it only in front of a plain sampling."""
    theta, size, align = named(node, "theta", "size", "align_corners")
    if len(size) != 4:
        return False
    plain = F.affine_grid(torch.eye(2, 3)[None], [1, 1, *size[2:]], align).reshape(-1, 2)
    (places,) = constants(module, node, torch.cat([plain, torch.ones(len(plain), 1)], 1))
    return call(node, _moved, places, theta, list(size[2:]))


def _moved(places: Tensor, theta: Tensor, size: list[int]) -> Tensor:
    return (places @ theta.transpose(1, 2)).reshape(theta.shape[0], *size, 2)


_FORMULAS: dict[Any, Callable[[torch.fx.GraphModule, Node], bool]] = {
    _aten.rms_norm.default: _rms_norm,
    _aten.remainder.Scalar: _remainder,
    _aten.reciprocal.default: _reciprocal,
    _aten.rsqrt.default: _reciprocal_root,
    _aten.softplus.default: _softplus,
    _aten.celu.default: _celu,
    **{
        getattr(kind, overload): _deviation
        for kind in (_aten.std, _aten.var, _aten.std_mean, _aten.var_mean)
        for overload in ("default", "dim", "correction")
    },
    _aten.slice.Tensor: _whole_slice,
    _aten.alias.default: _whole_slice,
    _aten.im2col.default: _windows,
    _aten.col2im.default: _windows_back,
    _aten.index.Tensor: _table,
    **dict.fromkeys((_aten.where.Scalar, _aten.where.ScalarSelf, _aten.where.ScalarOther), _choice),
    _aten.unfold.default: _slide,
    _aten.affine_grid_generator.default: _affine_grid,
    **dict.fromkeys(_LOGICAL, _logical),
}
