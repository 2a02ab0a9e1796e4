"""Rewrites a captured network where a converter does not know, or does not do well, what PyTorch calls one operator.

    program = lower(deployable)        # ExportedProgram of the same function, in operators that both converters know

Only the operators of `_REWRITES` and of formulas.py change, convolutions with a constant factor or offset behind them
(affine.py), and what is computed of constants alone, which becomes a constant: converters do so, and round it. Resizing
by a filter (bicubic, area, antialiased) is a fixed weighted sum along each axis: a 1x1 convolution whose channels are the
rows, and then the columns. The weights are read off PyTorch's own operator, so they are right for any factor and any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from afterlens.conversion.affine import affine_of, fold_affine
from afterlens.conversion.capture import capture, operator_of, place_of
from afterlens.conversion.clamps import CLAMPS, past_zero
from afterlens.conversion.elementary import in_elementary_operators
from afterlens.conversion.formulas import write_out
from afterlens.conversion.graph_edit import (
    call,
    constant_nodes,
    constant_of,
    constants,
    fold_constants,
    named,
    shape_of,
    value_of,
)
from afterlens.conversion.norms import group_norm, instance_norm, layer_norm
from afterlens.conversion.sampling import rewrite_fixed_sampling
from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import UserError

GraphModule = torch.fx.GraphModule
Node = torch.fx.Node
_aten = torch.ops.aten


def lower(deployable: Deployable, module: nn.Module | None = None, for_onnx: bool = False) -> ExportedProgram:
    """The captured graph of a network, rewritten; UserError where its Python cannot be captured or it
    computes complex numbers.

    Args:
        deployable: the network.
        module: in place of the deployable's own, with the same inputs.
        for_onnx: also change what onnx2tf gets wrong. What is flipped is read by index. An output that is an input, a
            constant or another output gets a zero added to it, so that an operator of its own computes it. A constant
            that varies over the picture is spread to the picture's shape, since onnx2tf guesses the axes of any other.
    """
    program = capture(module or deployable.module, deployable)
    _refuse_branches(deployable, program)
    _refuse_complex(deployable, program)
    try:
        program = _changed(program, deployable, _rewrite)
        return _changed(program, deployable, _for_onnx) if for_onnx else program
    except GuardOnDataDependentSymNode as error:
        raise UserError(f"{deployable.task}: {_of_unknown_size(program)}") from error


def _changed(
    program: ExportedProgram, deployable: Deployable, change: Callable[[GraphModule], bool]
) -> ExportedProgram:
    """The program with its graph changed and captured again; itself where nothing changed."""
    module = program.module(check_guards=False)
    # What the module loses is what its placeholders and operators are known by.
    known = {node.name: node.meta for node in program.graph.nodes}
    for node in module.graph.nodes:
        node.meta = node.meta or known.get(node.name, {})
    if not change(module):
        return program
    module.graph.lint()
    module.recompile()
    return capture(module, deployable)


def _rewrite(module: GraphModule) -> bool:
    calls = [node for node in module.graph.nodes if node.op == "call_function" and node.target in _REWRITES]
    changed = [_REWRITES[node.target](module, node) for node in calls]
    # Each is looked for in what the one before it has left.
    changed += [rewrite_fixed_sampling(module), in_elementary_operators(module), write_out(module)]
    changed += [_computed_outputs(module), fold_constants(module), fold_affine(module)]
    return any(changed)


def _for_onnx(module: GraphModule) -> bool:
    calls = [
        node
        for node in module.graph.nodes
        if node.op == "call_function" and node.target in _REWRITES_FOR_ONNX
    ]
    changed = [_REWRITES_FOR_ONNX[node.target](module, node) for node in calls]
    changed += [_unlike_corners(module), _own_outputs(module.graph, _is_borrowed), _spread_maps(module)]
    return any(changed)


def _flipped(module: GraphModule, node: Node) -> bool:
    """Rows, columns or channels in reverse, by index: onnx2tf reverses another axis, or none."""
    axes = _FLIPS[node.target] or named(node, "dims")[0]
    return call(node, _reversed, *_by_index(module, node, axes))


_FLIPS: dict[Any, tuple[int, ...]] = {
    _aten.flip.default: (),  # the axes that it is given
    _aten.fliplr.default: (1,),
    _aten.flipud.default: (0,),
}


def _rotated(module: GraphModule, node: Node) -> bool:
    """By quarters: flips, by index for the same reason, and a transposition."""
    quarters, axes = named(node, "k", "dims")
    turns = quarters % 4
    flipped = (axes[:0], axes[1:], axes, axes[:1])[turns]
    return call(node, _reversed_and_turned, *_by_index(module, node, flipped), axes if turns % 2 else None)


def _by_index(module: GraphModule, node: Node, axes: Sequence[int]) -> tuple[Any, list[int], list[Node]]:
    """The picture that a node reads, and the axes and places that put some of its axes in reverse."""
    x, shape = node.args[0], shape_of(node.args[0])  # type: ignore[arg-type]
    known = [axis % len(shape) for axis in axes]
    return x, known, constants(module, node, *(torch.arange(shape[axis] - 1, -1, -1) for axis in known))


def _reversed_and_turned(
    x: Tensor, axes: Sequence[int], places: Sequence[Tensor], turned: Sequence[int] | None
) -> Tensor:
    x = _reversed(x, axes, places)
    return x if turned is None else x.transpose(turned[0], turned[1])


def _reversed(x: Tensor, axes: Sequence[int], places: Sequence[Tensor]) -> Tensor:
    for axis, order in zip(axes, places, strict=True):
        x = x.index_select(axis, order)
    return x


def _gathered(module: GraphModule, node: Node) -> bool:
    """Read along one axis, at places of each pixel's own: from a list. onnx2tf takes no places that are constant."""
    x, dim, index, indices = named(node, "self", "dim", "index", "indices")
    places = index or indices
    shape, read = shape_of(x), shape_of(node)
    if dim is None or any(
        a < b for axis, (a, b) in enumerate(zip(shape, read, strict=True)) if axis != dim % len(shape)
    ):
        return False
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    # Where each result would be read if its place were 0.
    first = torch.zeros(read, dtype=torch.int64)
    for axis, side in enumerate(read):
        if axis != dim % len(shape):
            first += (
                torch.arange(side).reshape([-1 if a == axis else 1 for a in range(len(read))]) * steps[axis]
            )
    step, known = (
        steps[dim % len(shape)],
        value_of(module, places) if places in constant_nodes(module) else None,
    )
    if known is not None:
        (listed,) = constants(module, node, (first + known * step).reshape(-1))
        return call(node, _read, x, listed, list(read))
    (start,) = constants(module, node, first)
    return call(node, _read_from, x, places, start, step)


def _read(x: Tensor, places: Tensor, shape: Sequence[int]) -> Tensor:
    return x.reshape(-1).index_select(0, places).reshape(list(shape))


def _read_from(x: Tensor, places: Tensor, start: Tensor, step: int) -> Tensor:
    return _read(x, (places * step + start).reshape(-1), start.shape)


def _running_product(module: GraphModule, node: Node) -> bool:
    """Along one axis: ONNX has no such operator."""
    return call(node, _products, *named(node, "self", "dim"))


def _products(x: Tensor, dim: int) -> Tensor:
    products = list(x.split(1, dim))
    for place in range(1, len(products)):
        products[place] = products[place - 1] * products[place]
    return torch.cat(products, dim)


def _by_matrix(module: GraphModule, node: Node) -> bool:
    """Rows or columns of pictures times a constant matrix: onnx2tf takes other axes of the picture."""
    one, two = node.args
    for x, matrix, dim in ((two, one, 2), (one, two, 3)):
        value = constant_of(module, matrix)
        if value is not None and value.ndim == 2 and isinstance(x, Node) and len(shape_of(x)) == 4:
            (weights,) = constants(module, node, value if dim == 2 else value.T.contiguous())
            return call(node, _along_axis, x, weights, dim)
    return False


def _computed_kernels(module: GraphModule, node: Node) -> bool:
    """A convolution whose weights the network computes, by the places of its kernel: a sum or a product of matrices.

    TFLite has none that is depthwise, and onnx2tf mixes the axes of the others up.
    """
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    x, weight, bias, stride, padding, dilation, groups = named(node, *names)
    depthwise = shape_of(weight)[:2] == (groups, 1) and shape_of(x)[1] == groups
    # Last what looks through the whole graph, since every convolution comes here.
    if not (groups == 1 or depthwise) or weight.target in _FILLED or weight in constant_nodes(module):
        return False
    how = (_pair(stride), _pair(padding), _pair(dilation), list(shape_of(node)[2:]))
    if groups > 1:
        return call(node, _sum_of_places, x, weight, bias, *how)
    channels, places = shape_of(x)[1], math.prod(shape_of(weight)[2:])
    (order,) = constants(
        module, node, torch.arange(places * channels).reshape(places, channels).T.reshape(-1)
    )
    return call(node, _product_of_places, x, weight, bias, *how, order)


_FILLED = (_aten.new_full.default, _aten.new_ones.default, _aten.full_like.default, _aten.ones_like.default)
"""What reads the shape of a tensor and none of its values: constants, if not at first sight."""


def _sum_of_places(x: Tensor, weight: Tensor, bias: Tensor | None, *how: Sequence[int]) -> Tensor:
    columns = weight.shape[3]
    total = None
    for place, pixels in enumerate(_places(x, weight, *how)):
        part = pixels * weight[:, :, place // columns, place % columns].reshape(1, -1, 1, 1)
        total = part if total is None else total + part
    assert total is not None
    return total if bias is None else total + bias.reshape(1, -1, 1, 1)


def _product_of_places(x: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Tensor:
    *geometry, order = how
    pixels = torch.cat(_places(x, weight, *geometry), 1).index_select(1, order)
    # The weights as a matrix at once: computed by a layer, they are laid out as pictures, which they are not.
    result = (weight.flatten(1) @ pixels.flatten(2)).reshape(x.shape[0], weight.shape[0], *pixels.shape[2:])
    return result if bias is None else result + bias.reshape(1, -1, 1, 1)


def _places(
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    size: Sequence[int],
) -> list[Tensor]:
    """The pixels that each place of the kernel reads, row by row."""
    x = F.pad(x, [padding[1], padding[1], padding[0], padding[0]])
    parts = []
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            top, left = row * dilation[0], column * dilation[1]
            rows = slice(top, top + (size[0] - 1) * stride[0] + 1, stride[0])
            columns = slice(left, left + (size[1] - 1) * stride[1] + 1, stride[1])
            parts.append(x[:, :, rows, columns])
    return parts


def _error_function(module: GraphModule, node: Node) -> bool:
    """TFLite has none. Abramowitz and Stegun, 7.1.26: within 1.5e-7."""
    return call(node, _erf, node.args[0])


def _erf(x: Tensor) -> Tensor:
    size = x.abs()
    t = 1.0 / (1.0 + 0.3275911 * size)
    series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    return torch.sign(x) * (1.0 - series * torch.exp(-size * size))


def _by_mask(module: GraphModule, node: Node) -> bool:
    """A choice by a constant mask that is spread over channels or pictures: onnx2tf takes other axes of such a mask.

    Still a choice, not a sum of both times zero or one: what is not chosen may be infinite.
    """
    mask, one, two = node.args
    shape = shape_of(node)
    if mask not in constant_nodes(module) or len(shape) != 4 or shape_of(mask) == shape:  # type: ignore[arg-type]
        return False
    (spread,) = constants(module, node, value_of(module, mask).expand(shape).contiguous())
    return call(node, torch.where, spread, one, two)


def _unlike_corners(module: GraphModule) -> bool:
    """Bilinear resizes that align corners where others of the same sizes do not, which a file of onnx2tf mixes up."""
    resizes: dict[Any, dict[bool, list[Node]]] = {}
    for node in module.graph.nodes:
        if node.target is _aten.upsample_bilinear2d.vec:
            sizes = (shape_of(node.args[0])[2:], shape_of(node)[2:])
            resizes.setdefault(sizes, {True: [], False: []})[named(node, "align_corners")[0]].append(node)
    changed = [_filtered(module, node) for both in resizes.values() if both[False] for node in both[True]]
    return any(changed)


def _refuse_branches(deployable: Deployable, program: ExportedProgram) -> None:
    for node in program.graph.nodes:
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            raise UserError(
                f"{deployable.task}: {operator_of(node)} ({place_of(node)}) decides by values what is computed, which a file "
                "cannot do: use torch.where, and compute both"
            )


def _refuse_complex(deployable: Deployable, program: ExportedProgram) -> None:
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and value.is_complex():
            raise UserError(
                f"{deployable.task}: {operator_of(node)} ({place_of(node)}) computes complex numbers, which neither "
                "TFLite nor Core ML files hold; use a real operator instead, such as a convolution with a large kernel"
            )


def _of_unknown_size(program: ExportedProgram) -> str:
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and not all(isinstance(side, int) for side in value.shape):
            return (
                f"the size of the result of {operator_of(node)} ({place_of(node)}) depends on values, which a file cannot "
                "hold: use torch.where, and keep every pixel"
            )
    return "a size in it depends on values, which a file cannot hold"


def _is_borrowed(node: Node, before: Sequence[Any]) -> bool:
    """Whether no operator computes an output for it alone; ``before``: the outputs before it."""
    return node.op != "call_function" or node in before


def _own_outputs(graph: torch.fx.Graph, lacks: Callable[[Node, Sequence[Any]], bool]) -> bool:
    """Give an operator of its own to each output that lacks one."""
    last = graph.output_node()
    (returned,) = last.args
    assert isinstance(returned, tuple | list)
    outputs: list[Any] = list(returned)
    first = next(node for node in graph.nodes if node.op == "placeholder")
    places = [i for i, node in enumerate(returned) if isinstance(node, Node) and lacks(node, returned[:i])]
    for place in places:
        with graph.inserting_before(last):
            outputs[place] = graph.call_function(_plus_zero, (outputs[place], first))
    last.args = (type(returned)(outputs),)
    return bool(places)


def _computed_outputs(module: GraphModule) -> bool:
    """Let outputs that are constants be computed: Core ML would keep them in float32.

    Where one is a multiple of a constant picture, as a picture of levels is, that picture gets the zero: float16 rounds
    it as it is in the network. The picture, not the number that it is multiplied by: onnx2tf takes the axes of a constant
    picture for those of TensorFlow.
    """
    graph, known = module.graph, constant_nodes(module)
    sources = {node: _source(node) for node in known if node.op == "call_function"}
    changed = _own_outputs(graph, lambda node, before: node in known and sources.get(node) is None)
    first = next(node for node in graph.nodes if node.op == "placeholder")
    for node in graph.output_node().all_input_nodes:
        place = sources.get(node)
        if place is not None:
            with graph.inserting_before(node):
                node.update_arg(place, graph.call_function(_plus_zero, (node.args[place], first)))
            changed = True
    return changed


def _source(node: Node) -> int | None:
    """Which argument is a tensor like the one that a node computes, of the same shape and type."""
    like = _kind_of(node)
    places = (i for i, value in enumerate(node.args) if isinstance(value, Node) and _kind_of(value) == like)
    return None if like is None else next(places, None)


def _kind_of(node: Node) -> tuple[tuple[int, ...], torch.dtype] | None:
    value = node.meta.get("val")
    return (shape_of(node), value.dtype) if isinstance(value, Tensor) else None


def _plus_zero(value: Tensor, source: Tensor) -> Tensor:
    one = source.reshape(-1)[:1]
    # No optimizer sees that this is zero, as it does for 0 * x.
    return value + F.relu(-F.relu(one)).reshape([1] * value.ndim)


def _spread_maps(module: GraphModule) -> bool:
    """Constants that vary along rows or columns, or by channel, added to or multiplied with a picture."""
    graph, known = module.graph, constant_nodes(module)
    changed = []
    for node in [n for n in graph.nodes if n.target in _ELEMENTWISE and n not in known]:
        operands = [value for value in node.args[:2] if isinstance(value, Node)]
        if len(operands) != 2 or len(shape_of(node)) != 4 or not known & set(operands):
            continue
        place = 0 if operands[0] in known else 1
        constant, picture = operands[place], operands[1 - place]
        shape = (1,) * (4 - len(shape_of(constant))) + shape_of(constant)
        if shape_of(picture) != shape_of(node):
            changed.append(shape == shape_of(node) and _as_picture(graph, node, place))
            continue
        if max(shape[2:]) == 1:
            changed.append(_by_channel(module, node, constant, picture, flipped=place == 0))
            continue
        with graph.inserting_before(node):
            laid_out = graph.call_function(_spread, (constant, picture))
        node.update_arg(place, laid_out)
        changed.append(True)
    return any(changed)


def _as_picture(graph: torch.fx.Graph, node: Node, place: int) -> bool:
    """A constant picture beside what is smaller, a mean for instance: onnx2tf would keep PyTorch's order of axes."""
    other = node.args[1 - place]
    assert isinstance(other, Node)
    if node.target is _aten.add.Tensor and shape_of(other) == (1, 1, 1, 1):
        return False  # it takes a sum with a single number
    first = next(n for n in graph.nodes if n.op == "placeholder")
    with graph.inserting_before(node):
        node.update_arg(place, graph.call_function(_picture_plus_zero, (node.args[place], first)))
    return True


def _picture_plus_zero(value: Tensor, source: Tensor) -> Tensor:
    return _plus_zero(value.reshape([1] * (4 - value.ndim) + list(value.shape)), source)


def _by_channel(module: GraphModule, node: Node, constant: Node, picture: Node, flipped: bool) -> bool:
    """Factors and offsets of channels that are as many as rows or columns, by a convolution: onnx2tf mixes them up."""
    channels, height, width = shape_of(picture)[1:]
    value = constant_of(module, constant)
    if value is None or value.numel() != channels or channels not in (height, width):
        return False
    affine = affine_of(node.target, value.reshape(-1), flipped)
    if affine is None:
        return False
    factor, offset = affine
    return call(node, _scaled, picture, *constants(module, node, factor.reshape(-1, 1, 1, 1), offset))


def _scaled(x: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    return F.conv2d(x, factor, offset, groups=x.shape[1])


def _spread(constant: Tensor, picture: Tensor) -> Tensor:
    """A constant in the shape of ``picture`` (N, C, H, W); of one channel, where it is the same for all."""
    shape = (1,) * (4 - constant.ndim) + tuple(constant.shape)
    one_for_all = shape[1] == 1
    wide = constant.reshape(shape).expand(1, 1 if one_for_all else picture.shape[1], *picture.shape[2:])
    # Adding a zero that is computed makes it a picture: onnx2tf knows the axes of those.
    return wide + F.relu(-F.relu(picture[:, :1])) if one_for_all else wide


_ELEMENTWISE = (
    *(_aten.add.Tensor, _aten.sub.Tensor, _aten.mul.Tensor, _aten.div.Tensor),
    *(_aten.maximum.default, _aten.minimum.default),
)


def _max_pool(module: nn.Module, node: Node) -> bool:
    """No stride left out, which coremltools does not read, and no padding, which onnx2tf gets wrong.

    Repeating the edge changes no maximum: each window that reaches beyond the edge also holds the edge.
    """
    names = ("self", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    x, kernel, stride, padding, dilation, ceil = named(node, *names)
    spread = _pair(dilation)
    kernel, step, padding = _pair(kernel), _pair(stride or kernel), _pair(padding)
    if spread != [1, 1] or (padding == [0, 0] and not ceil):
        return not stride and call(node, F.max_pool2d, x, kernel, kernel, padding, spread, ceil)
    return call(node, _padded_maximum, x, _edges(node, x, kernel, step, padding), kernel, step)


def _edges(node: Node, x: Node, kernel: list[int], stride: list[int], padding: list[int]) -> list[int]:
    """What to put around a picture (left, right, top, bottom) so that whole windows fit."""
    after = [
        max(0, (result - 1) * step + side - size - before)
        for size, result, side, step, before in zip(
            shape_of(x)[2:], shape_of(node)[2:], kernel, stride, padding, strict=True
        )
    ]
    return [padding[1], after[1], padding[0], after[0]]


def _padded_maximum(x: Tensor, edges: list[int], kernel: list[int], stride: list[int]) -> Tensor:
    return F.max_pool2d(F.pad(x, edges, mode="replicate"), kernel, stride)


def _average_pool(module: nn.Module, node: Node) -> bool:
    """Padding and windows beyond the edge: zeros around the picture, and the shares of what is really there.

    Both converters and their runtimes differ in what they count at the edge.
    """
    names = ("self", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    x, kernel, stride, padding, ceil, include, divisor = named(node, *names)
    kernel, stride, padding = _pair(kernel), _pair(stride or kernel), _pair(padding)
    if padding == [0, 0] and not ceil and divisor is None:
        return False
    edges = _edges(node, x, kernel, stride, padding)
    ones = torch.ones(1, 1, *shape_of(x)[2:])
    shares = F.avg_pool2d(ones, kernel, stride, padding, ceil, include, divisor)
    shares = shares / F.avg_pool2d(F.pad(ones, edges), kernel, stride)
    if bool((shares == 1).all()):
        return call(node, _padded_average, x, edges, kernel, stride)
    (name,) = constants(module, node, shares)
    return call(node, _padded_average, x, edges, kernel, stride, name)


def _padded_average(
    x: Tensor, edges: list[int], kernel: list[int], stride: list[int], shares: Tensor | None = None
) -> Tensor:
    pooled = F.avg_pool2d(F.pad(x, edges), kernel, stride)
    return pooled if shares is None else pooled * shares


def _pair(value: Any) -> list[int]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values * 2 if len(values) == 1 else values


def _transposed(module: nn.Module, node: Node) -> bool:
    """Dilation, which TFLite has no transposed convolution for: zeros between the weights."""
    names = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
    x, weight, bias, stride, padding, more, groups, dilation = named(node, *names)
    step, value = _pair(dilation), constant_of(module, weight)
    if step == [1, 1] or value is None:
        return False
    height, width = ((side - 1) * apart + 1 for side, apart in zip(value.shape[2:], step, strict=True))
    spread = torch.zeros(*value.shape[:2], height, width)
    spread[..., :: step[0], :: step[1]] = value
    (weight,) = constants(module, node, spread)
    return call(node, F.conv_transpose2d, x, weight, bias, _pair(stride), _pair(padding), _pair(more), groups)


def _by_running_statistics(module: nn.Module, node: Node) -> bool:
    """Such an instance normalization is a batch normalization; coremltools normalizes by the picture's own."""
    names = ("input", "weight", "bias", "running_mean", "running_var", "use_input_stats", "eps")
    x, weight, bias, mean, variance, own, eps = named(node, *names)
    return not own and call(node, F.batch_norm, x, mean, variance, weight, bias, False, 0.0, eps)


def _running_sum(module: nn.Module, node: Node) -> bool:
    """Along rows or columns: each a sum of those before it. onnx2tf sums along another axis."""
    x, dim = named(node, "self", "dim")
    shape = shape_of(x)
    if len(shape) != 4 or dim % 4 < 2:
        return False
    triangle = torch.ones(shape[dim], shape[dim]).tril()
    return call(node, _along_axis, x, *constants(module, node, triangle), dim % 4)


def _along_axis(x: Tensor, weights: Tensor, dim: int) -> Tensor:
    """``(N, C, H, W)``: each row (dim 2) or column (dim 3) becomes a weighted sum of all."""
    return F.conv2d(x.transpose(1, dim), weights[:, :, None, None]).transpose(1, dim)


def _pad(module: nn.Module, node: Node) -> bool:
    """Circular padding: the opposite edges, put beside the picture. Less than none: what is cut off.

    coremltools knows neither.
    """
    x, pad, *how = named(node, *(argument.name for argument in node.target._schema.arguments))  # type: ignore[union-attr]
    if how[0] == "circular":
        return call(node, _circular, x, list(pad))
    return min(pad, default=0) < 0 and call(node, _padded_and_cut, x, list(pad), node.target, how)


def _padded_and_cut(x: Tensor, pad: Sequence[int], operator: Any, how: Sequence[Any]) -> Tensor:
    if max(pad) > 0:
        x = operator(x, [max(0, side) for side in pad], *how)
    for axis in range(len(pad) // 2):
        before, after = (max(0, -side) for side in pad[2 * axis : 2 * axis + 2])
        dim = x.ndim - 1 - axis
        x = x.narrow(dim, before, x.shape[dim] - before - after)
    return x


def _circular(x: Tensor, pad: Sequence[int]) -> Tensor:
    for axis in range(len(pad) // 2):
        before, after = pad[2 * axis : 2 * axis + 2]
        dim = x.ndim - 1 - axis
        x = x.narrow(dim, max(0, -before), x.shape[dim] + min(0, before) + min(0, after))
        parts, size = [x], x.shape[dim]
        if before > 0:
            parts.insert(0, x.narrow(dim, size - before, before))
        if after > 0:
            parts.append(x.narrow(dim, 0, after))
        x = torch.cat(parts, dim) if len(parts) > 1 else parts[0]
    return x


def _filtered(module: nn.Module, node: Node) -> bool:
    """Any resizing whose rows and columns are weighted sums."""
    image = node.args[0]
    assert isinstance(image, Node)
    before, after = shape_of(image), shape_of(node)
    if len(before) != 4:
        return False
    if node.target in _AREA and all(
        size % part == 0 for size, part in zip(before[2:], after[2:], strict=True)
    ):
        return False  # plain average pooling
    weights = [_weights_along(node, axis, before[axis], after[axis]) for axis in (2, 3)]
    return call(node, _along_both_axes, image, *constants(module, node, *weights))


def _weights_along(node: Node, axis: int, size: int, result: int) -> Tensor:
    """The weights (result, size) of a resizing operator along one axis: what it makes of single lit pixels."""
    # Channel i has its row i lit. The columns, which stay as they are, are more than one: PyTorch's antialiasing
    # takes (1, C, H, 1) for another memory format, and gives the wrong result.
    impulses = torch.eye(size)[None, :, :, None].repeat(1, 1, 1, 4)
    shape, turned = [result, 4], axis == 3
    if turned:
        impulses, shape = impulses.transpose(2, 3).contiguous(), [4, result]
    if node.target in _AREA:
        returned = F.adaptive_avg_pool2d(impulses, (shape[0], shape[1]))
    else:
        align, factors = named(node, "align_corners", "scale_factors")
        # The factor, where one was given, decides on the positions, not the sizes.
        along = None if factors is None else [factors[0], 1.0] if not turned else [1.0, factors[1]]
        operator: Any = node.target
        returned = operator(impulses, shape if along is None else None, align, along)
    lines = returned[0, :, 0, :] if turned else returned[0, :, :, 0]  # (size, result)
    return lines.T.contiguous()


def _along_both_axes(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``(N, C, H, W)`` -> ``(N, C, rows, columns)``: each row and column a weighted sum of all."""
    x = F.conv2d(x.permute(0, 2, 1, 3), rows[:, :, None, None])  # (N, H', C, W)
    x = F.conv2d(x.permute(0, 3, 2, 1), columns[:, :, None, None])  # (N, W', C, H')
    return x.permute(0, 2, 3, 1)


def _bilinear(module: nn.Module, node: Node) -> bool:
    """By a factor that gives no whole number of pixels: the converters would take the ratio of the sizes for it."""
    (factors,) = named(node, "scale_factors")
    before, after = shape_of(node.args[0])[2:], shape_of(node)[2:]  # type: ignore[arg-type]
    exact = factors is None or all(size * f == n for size, f, n in zip(before, factors, after, strict=True))
    return not exact and _filtered(module, node)


def _nearest(module: nn.Module, node: Node) -> bool:
    """Pixels chosen by index along each axis. onnx2tf chooses others, but for whole factors of enlarging."""
    image = node.args[0]
    assert isinstance(image, Node)
    before, after = shape_of(image), shape_of(node)
    if all(result % size == 0 for size, result in zip(before[2:], after[2:], strict=True)):
        return node.target is not _aten.upsample_nearest2d.vec and call(
            node, _enlarged, image, after[2] // before[2], after[3] // before[3]
        )
    (factors,) = named(node, "scale_factors")
    operator: Any = node.target
    size = list(after[2:]) if factors is None else None
    # Read off PyTorch's own operator: which row and column each pixel comes from.
    rows = torch.arange(before[2], dtype=torch.float32)[:, None].expand(before[2:])
    columns = torch.arange(before[3], dtype=torch.float32).expand(before[2:])
    found = operator(torch.stack([rows, columns])[None], size, factors)[0].long()
    return call(node, _chosen, image, *constants(module, node, found[0, :, 0], found[1, 0, :]))


def _enlarged(x: Tensor, rows: int, columns: int) -> Tensor:
    return F.interpolate(x, size=(x.shape[2] * rows, x.shape[3] * columns), mode="nearest")


def _chosen(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return x.index_select(2, rows).index_select(3, columns)


def _lengthened(module: nn.Module, node: Node) -> bool:
    """Of one dimension: a list of places, or a weighted sum."""
    x, (before, after), operator = node.args[0], (shape_of(node.args[0])[2], shape_of(node)[2]), node.target  # type: ignore[arg-type]
    nearest = operator is not _aten.upsample_linear1d.vec
    factors = named(node, "scale_factors")
    how = [None if factors[0] else [after], *([] if nearest else named(node, "align_corners")), *factors]
    if nearest:
        found = operator(torch.arange(before, dtype=torch.float32)[None, None], *how)[0, 0].long()  # type: ignore[operator]
        return call(node, _chosen_along, x, *constants(module, node, found))
    weights = operator(torch.eye(before)[None], *how)[0].T.contiguous()  # type: ignore[operator]
    return call(node, _summed_along, x, *constants(module, node, weights))


def _chosen_along(x: Tensor, places: Tensor) -> Tensor:
    return x.index_select(2, places)


def _summed_along(x: Tensor, weights: Tensor) -> Tensor:
    return _along_axis(x.unsqueeze(2), weights, 3).squeeze(2)


_AREA = (_aten.adaptive_avg_pool2d.default, _aten._adaptive_avg_pool2d.default)

_REWRITES: dict[Any, Callable[[nn.Module, Node], bool]] = {
    _aten.max_pool2d.default: _max_pool,
    _aten.avg_pool2d.default: _average_pool,
    _aten.conv_transpose2d.input: _transposed,
    _aten.cumsum.default: _running_sum,
    _aten.instance_norm.default: _by_running_statistics,
    _aten.group_norm.default: group_norm,
    _aten.layer_norm.default: layer_norm,
    **dict.fromkeys((_aten.pad.default, _aten.constant_pad_nd.default), _pad),
    **dict.fromkeys(_AREA, _filtered),
    _aten.upsample_bicubic2d.vec: _filtered,
    _aten._upsample_bicubic2d_aa.vec: _filtered,
    _aten._upsample_bilinear2d_aa.vec: _filtered,
    _aten.upsample_bilinear2d.vec: _bilinear,
    _aten._upsample_nearest_exact2d.vec: _nearest,
    _aten.upsample_nearest2d.vec: _nearest,
    _aten.upsample_linear1d.vec: _lengthened,
    _aten.upsample_nearest1d.vec: _lengthened,
    _aten._upsample_nearest_exact1d.vec: _lengthened,
}
"""What rewrites a call of an operator; False: it stays as it is."""

_REWRITES_FOR_ONNX: dict[Any, Callable[[GraphModule, Node], bool]] = {
    **dict.fromkeys(_FLIPS, _flipped),
    _aten.rot90.default: _rotated,
    _aten.gather.default: _gathered,
    _aten.take_along_dim.default: _gathered,
    _aten.cumprod.default: _running_product,
    _aten.matmul.default: _by_matrix,
    _aten.conv2d.default: _computed_kernels,
    _aten.erf.default: _error_function,
    _aten.where.self: _by_mask,
    _aten.instance_norm.default: instance_norm,
    **dict.fromkeys(CLAMPS, past_zero),
}
"""The same, for onnx2tf alone."""
