"""What the Neural Engine is known not to take in a Core ML package, or to take badly. Nothing ran on one."""

from collections.abc import Iterator, Sequence

import numpy as np

from afterlens.conversion.lint.finding import Hit, Place, hit, operator_detail, shape_text
from afterlens.conversion.lint.graph import Graph
from afterlens.conversion.lint.rules import RULES

WIDE = 1 << 20  # bytes that padding of the last axis must waste to be worth a note
MAX_DIMENSION = 16384


def neural_engine_hits(graph: Graph) -> Iterator[Hit]:
    """The rules for the Neural Engine that a graph breaks, in the order of its operators."""
    by_operator = {
        operator: rule for rule in RULES if rule.target == "Neural Engine" for operator in rule.operators
    }
    read = {tensor.name for node in graph.nodes for tensor in node.inputs}
    entrances = {tensor.name for tensor in graph.inputs}
    for tensor in graph.inputs:
        if None in tensor.shape:
            place = Place(
                "input",
                tensor.name,
                "input",
                f"input {tensor.name!r} of open shape {shape_text(tensor.shape)}",
            )
            yield Hit("ane-dynamic", place)
    for node in graph.nodes:
        operator = node.operator
        if operator in by_operator:
            rule = by_operator[operator]
            yield hit(rule.name, node, operator_detail(rule, node))
        # Casts of inputs and outputs do not count: pictures always come and go in float32.
        at_door = operator == "cast" and (
            node.name not in read or any(tensor.name in entrances for tensor in node.inputs)
        )
        if any(tensor.dtype == "float32" for tensor in node.outputs) and not at_door:
            yield hit("ane-float32", node, f"{operator} is typed float32")
        tensors = [*node.outputs, *(t for t in node.inputs if t.name in entrances)]
        for tensor in tensors:
            shape = tensor.shape
            if len(shape) > 5:
                yield hit(
                    "ane-rank", node, f"{operator} on a tensor of rank {len(shape)}, {shape_text(shape)}"
                )
            elif len(shape) == 5:
                yield hit("ane-rank-5", node, f"{operator} on a tensor of rank 5, {shape_text(shape)}")
            if None in shape and tensor.name not in entrances:
                yield hit("ane-dynamic", node, f"{operator} on a tensor of open shape {shape_text(shape)}")
            if max((side or 0 for side in shape), default=0) > MAX_DIMENSION:
                yield hit("ane-dimension", node, f"{operator} on {shape_text(shape)}")
            wasted = _wasted(shape)
            if wasted >= WIDE:
                yield hit(
                    "ane-last-axis",
                    node,
                    f"{operator} {shape_text(shape)} takes {wasted / 1e6:.1f} MB more than it holds",
                )
        dilations = np.asarray(node.options.get("dilations", 1))
        if operator == "conv" and dilations.dtype.kind in "iu" and np.any(dilations > 1):
            yield hit("ane-dilation", node, f"conv of dilation {dilations.tolist()}")


def _wasted(shape: Sequence[int | None]) -> int:
    """Bytes that float16 values take on top where the last axis is padded to 64 bytes."""
    if not shape or None in shape:
        return 0
    sides = [side or 0 for side in shape]
    rows = int(np.prod(sides[:-1], dtype=np.int64))
    return rows * (-(-sides[-1] * 2 // 64) * 64 - sides[-1] * 2)
