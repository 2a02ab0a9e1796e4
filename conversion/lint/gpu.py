"""What TFLite's GPU delegate is known not to take in a graph, or to take badly.

The delegate's own checks are repeated here: `gpu_compatibility.cc` (operators, inputs, options) and
`model_builder.cc` (versions). Nothing ran on a GPU.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from afterlens.conversion.lint.finding import Hit, hit, operator_detail, shape_text
from afterlens.conversion.lint.graph import Graph, Node, Tensor
from afterlens.conversion.lint.rules import RULES

# What gpu_compatibility.cc has a case for, and up to which version model_builder.cc takes it (None: it does not look).
_ONE_INPUT = (
    *("ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "LOG", "LOGISTIC", "NEG", "RSQRT", "SIGN", "SIN"),
    *("SQRT", "SQUARE", "TANH"),
)
COMPARISONS = ("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL")
_TWO_INPUTS = (
    *(
        "ATAN2",
        "DIV",
        "FLOOR_DIV",
        "FLOOR_MOD",
        "LOGICAL_AND",
        "MAXIMUM",
        "MINIMUM",
        "POW",
        "SQUARED_DIFFERENCE",
    ),
    *("SUB", *COMPARISONS),
)
ONE_INPUT, TWO_INPUTS = frozenset(_ONE_INPUT), frozenset(_TWO_INPUTS)
ELEMENTWISE = frozenset({*_TWO_INPUTS, "ADD", "MUL"})
GPU_OPERATORS: dict[str, int | None] = {
    **dict.fromkeys((*_ONE_INPUT, *_TWO_INPUTS, "ADD"), 2),
    "ADD_N": None, "AVERAGE_POOL_2D": 2, "BATCH_MATMUL": None, "CAST": None, "CONCATENATION": 2, "CONV_2D": 6,
    "CUMSUM": None, "DENSIFY": None, "DEPTHWISE_CONV_2D": 6, "DEPTH_TO_SPACE": None, "DEQUANTIZE": 3,
    "DYNAMIC_UPDATE_SLICE": None, "EMBEDDING_LOOKUP": None, "FULLY_CONNECTED": 9, "GATHER": None,
    "HARD_SWISH": None, "LEAKY_RELU": 2, "LSTM": 4, "MAX_POOL_2D": 2, "MEAN": None, "MIRROR_PAD": 2, "MUL": 3,
    "ONE_HOT": 1, "PACK": None, "PAD": 2, "PADV2": None, "PRELU": 1, "QUANTIZE": 2, "REDUCE_MAX": None,
    "REDUCE_MIN": None, "REDUCE_PROD": None, "RELU": 2, "RELU6": 2, "RELU_N1_TO_1": None, "RESHAPE": 1,
    "RESIZE_BILINEAR": 3, "RESIZE_NEAREST_NEIGHBOR": 3, "SELECT": 1, "SELECT_V2": 1, "SLICE": 2, "SOFTMAX": 2,
    "SPACE_TO_DEPTH": 2, "SPLIT": None, "SPLIT_V": None, "STABLEHLO_CLAMP": None, "STRIDED_SLICE": 2,
    "SUM": None, "TILE": None, "TRANSPOSE": None, "TRANSPOSE_CONV": 3,
}  # fmt: skip
GPU_CUSTOM = ("Convolution2DTransposeBias", "MaxPoolingWithArgmax2D", "MaxUnpooling2D", "Resampler")


def gpu_hits(graph: Graph) -> Iterator[Hit]:
    """The rules for TFLite's GPU delegate that a graph breaks, in the order of its operators."""
    by_operator = {
        operator: rule for rule in RULES if rule.target == "TFLite GPU" for operator in rule.operators
    }
    consumers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for tensor in node.inputs:
            consumers.setdefault(tensor.name, []).append(node)
    batch = next((tensor.shape[0] for tensor in graph.inputs if tensor.shape), None)
    for node in graph.nodes:
        operator = node.operator
        rule = by_operator.get(operator)
        if rule is not None:
            yield hit(rule.name, node, operator_detail(rule, node))
        elif operator not in GPU_OPERATORS and operator.removeprefix("CUSTOM ") not in GPU_CUSTOM:
            yield hit("gpu-operator", node, f"{operator} is not an operator that the delegate knows")
        limit = GPU_OPERATORS.get(operator)
        if limit is not None and node.version > limit:
            yield hit(
                "gpu-version", node, f"{operator} version {node.version}, the delegate takes up to {limit}"
            )
        refusal = _gpu_refusal(node, consumers)
        if refusal is not None:
            yield hit("gpu-options", node, f"{operator}: {refusal}")
        yield from _gpu_tensor_hits(node, batch)


def _gpu_tensor_hits(node: Node, batch: int | None) -> Iterator[Hit]:
    """Rules on the types and shapes of an operator's tensors."""
    operator = node.operator
    moving = [tensor for tensor in (*node.inputs, *node.outputs) if not tensor.constant]
    allowed = {"float32", "float16", "int8", "uint8"}
    if operator == "CAST":
        allowed |= {"bool", "int32"}
    if operator in COMPARISONS:
        allowed |= {"bool"}
    if operator == "ONE_HOT":
        allowed |= {"int32"}
    odd = next((tensor for tensor in moving if tensor.dtype not in allowed), None)
    if odd is not None:
        yield hit("gpu-type", node, f"{operator} on {odd.dtype} values")
    if operator == "QUANTIZE" and any(tensor.dtype in ("int8", "uint8") for tensor in node.outputs):
        yield hit("gpu-quantized", node, f"{operator} to {node.outputs[0].dtype} becomes rounding")
    tensors = [*moving, *(tensor for tensor in node.inputs if tensor.constant)]
    deep = next((tensor for tensor in tensors if len(tensor.shape) > 4), None)
    if deep is not None:
        yield hit(
            "gpu-rank", node, f"{operator} on a tensor of rank {len(deep.shape)}, {shape_text(deep.shape)}"
        )
    loose = next((tensor for tensor in moving if None in tensor.shape), None)
    if loose is not None:
        yield hit("gpu-dynamic", node, f"{operator} on a tensor of open shape {shape_text(loose.shape)}")
    flat = [tensor for tensor in moving if tensor.shape]
    if operator == "CONV_2D" and (groups := _groups(*node.inputs[:2])) > 1:
        yield hit("gpu-groups", node, f"CONV_2D of {groups} groups")
    split = next((t for t in flat if t.shape[0] not in (batch, None)), None)
    if batch is not None and split is not None:
        yield hit(
            "gpu-batch",
            node,
            f"{operator} on {shape_text(split.shape)}, whose first dimension is not the input's {batch}",
        )
    if operator in ("SOFTMAX", "BATCH_MATMUL") and any(len(tensor.shape) == 3 for tensor in moving):
        yield hit("gpu-rank-3", node, f"{operator} on a tensor of rank 3")
    if operator in ELEMENTWISE:
        ranks = {len(tensor.shape) for tensor in node.inputs if not tensor.constant}
        if len(ranks) > 1:
            yield hit(
                "gpu-mixed-rank",
                node,
                f"{operator} of ranks {' and '.join(str(rank) for rank in sorted(ranks))}",
            )
        names = [tensor.name for tensor in node.inputs if not tensor.constant]
        if len(names) == 2 and names[0] == names[1] and operator not in ("ADD", "MUL"):
            yield hit("gpu-identical-inputs", node, f"{operator} of a tensor with itself")
    paddings = np.asarray(node.options.get("paddings", ()))
    if operator == "PAD" and node.inputs and len(node.inputs[0].shape) == 3 and np.any(paddings[:-1]):
        yield hit("gpu-rank-3-pad", node, "PAD of a rank-3 tensor, not along the last axis alone")


def _gpu_refusal(node: Node, consumers: Mapping[str, Sequence[Node]]) -> str | None:
    """Why the delegate would refuse an operator's inputs or options; None if it would not."""
    operator, options = node.operator, node.options
    moving = [tensor for tensor in node.inputs if not tensor.constant]
    ranks = [len(tensor.shape) for tensor in node.inputs]
    sides = [tensor.shape for tensor in node.inputs]
    if operator in ONE_INPUT and (len(moving) != 1 or len(node.inputs) != 1):
        return f"expected one computed input, got {len(moving)}"
    if operator in TWO_INPUTS and (len(node.inputs) != 2 or not moving):
        return f"expected two inputs, one of them computed, got {len(node.inputs)} and {len(moving)}"
    if operator in ("ADD", "MUL", "ADD_N") and len(node.inputs) != 2:
        return f"expected two inputs, got {len(node.inputs)}"
    if operator in ("ADD", "MUL") and min(ranks) > 1 and ranks[0] != ranks[1] and not _broadcasts(*sides):
        return f"cannot broadcast {shape_text(sides[0])} and {shape_text(sides[1])}"
    if operator == "MUL" and ranks[0] == ranks[1] and None not in (*sides[0], *sides[1]):
        smaller = [(a or 0) < (b or 0) for a, b in zip(*sides, strict=True)]
        larger = [(a or 0) > (b or 0) for a, b in zip(*sides, strict=True)]
        if any(smaller) and any(larger):
            return f"neither of {shape_text(sides[0])} and {shape_text(sides[1])} is the larger in all dimensions"
    if operator in COMPARISONS:
        users = [user for tensor in node.outputs for user in consumers.get(tensor.name, ())]
        if len(users) != 1 or users[0].operator != "CAST":
            return "only in front of a single CAST to float"
    if operator in ("SLICE", "STRIDED_SLICE") and ranks and ranks[0] not in (3, 4):
        return f"supports 3 or 4 dimensions, got {ranks[0]}"
    for mask in ("ellipsisMask", "newAxisMask", "shrinkAxisMask"):
        if operator == "STRIDED_SLICE" and options.get(mask):
            return f"does not support {mask}"
    if operator == "SOFTMAX" and options.get("beta", 1.0) != 1.0:
        return f"beta {options['beta']:g}, only 1 is supported"
    if operator == "RESIZE_BILINEAR" and options.get("alignCorners") and options.get("halfPixelCenters"):
        return "aligned corners and half-pixel centres at once"
    if operator in ("PAD", "PADV2", "MIRROR_PAD") and len(sides) > 1 and sides[1] not in ((3, 2), (4, 2)):
        return f"paddings of shape {shape_text(sides[1])}, expected (3, 2) or (4, 2)"
    if operator == "MIRROR_PAD" and options.get("mode", 0) != 0:
        return "only reflection is supported"
    if operator in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"):
        axes = node.inputs[1] if len(node.inputs) > 1 else None
        if axes is None or not axes.constant or axes.dtype != "int32":
            return "the axes must be an int32 constant"
    if operator == "GATHER" and ([t.dtype for t in node.inputs[1:]] != ["int32"] or ranks[1] != 1):
        return "only by a list of int32 indices"
    multiplied = operator == "DEPTHWISE_CONV_2D" and options.get("depthMultiplier", 1) != 1
    if multiplied and sides and sides[0][-1:] != (1,):
        return "a depth multiplier needs an input of one channel"
    if operator == "DEQUANTIZE" and node.inputs and node.inputs[0].dtype == "int16":
        return "unsupported type int16"
    return None


def _groups(data: Tensor, weights: Tensor) -> int:
    """Each group sees as many channels as the weights' last dimension says."""
    return (data.shape[-1] or 0) // (weights.shape[-1] or 1)


def _broadcasts(first: Sequence[int | None], second: Sequence[int | None]) -> bool:
    pairs = zip(reversed(first), reversed(second), strict=False)
    return all(a == b or 1 in (a, b) or None in (a, b) for a, b in pairs)
