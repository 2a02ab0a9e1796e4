"""Exact rewrites of an ONNX graph where onnx2tf would produce slow, unsupported or wrong operators.

reorder_shuffles(model)      # in place; the graph computes the same
spell_out_norms(model)
name_ports(model, {"afterlens_port_add": "add"})
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_PIXELWISE = ("Add", "Sub", "Mul", "Div", "Relu", "Clip", "Min", "Max", "Sigmoid", "Neg")


def reorder_shuffles(model: Any) -> int:
    """Put the channels of pixel-shuffles and -unshuffles into TFLite's order; returns how many were changed.

    PyTorch keeps the positions of one channel together (CRD in ONNX), TFLite's DEPTH_TO_SPACE and SPACE_TO_DEPTH the
    channels of one position (DCR). onnx2tf turns the former into a transpose of rank 6, which no GPU delegate takes.
    If everything between such a shuffle and the convolutions around it works channel by channel, the convolutions'
    weights can be permuted instead, and the result stays the same, bit for bit. Otherwise nothing is changed.
    """
    graph = _Graph(model)
    done = 0
    for node in list(model.graph.node):
        if node.op_type == "DepthToSpace" and _mode(node) == b"CRD":
            region = graph.region(node.input[0], _block(node))
            if region is not None:
                graph.reorder(region)
                done += len(region.shuffles) + len(region.unshuffles)
    _drop_unused(model)
    return done


def name_ports(model: Any, names: Mapping[str, str]) -> None:
    """Rename values; others that already have one of the new names make room."""
    graph = model.graph
    own = {name for node in graph.node for name in (*node.input, *node.output)}
    own |= {value.name for value in (*graph.initializer, *graph.input, *graph.output, *graph.value_info)}
    moved, taken = dict(names), own | set(names.values())
    for new in names.values():
        if new in own and new not in names:
            moved[new] = next(free for n in itertools.count() if (free := f"{new}_{n}") not in taken)
            taken.add(moved[new])
    for node in graph.node:
        for side in (node.input, node.output):
            for place, name in enumerate(side):
                side[place] = moved.get(name, name)
    for value in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        value.name = moved.get(value.name, value.name)


def spell_out_norms(model: Any) -> None:
    """Replace ReduceL1 and ReduceL2 by sums of absolute values or squares, the latter under a root.

    onnx2tf translates them to TensorFlow's `norm`, which fails on one axis and is a matrix norm on two.
    """
    from onnx import helper

    graph = model.graph
    for node in [n for n in graph.node if n.op_type in ("ReduceL1", "ReduceL2")]:
        source, result = node.input[0], node.output[0]
        each, total = f"{result}_each", f"{result}_total"
        squared = node.op_type == "ReduceL2"
        made = [
            helper.make_node("Mul", [source, source], [each])
            if squared
            else helper.make_node("Abs", [source], [each]),
            helper.make_node("ReduceSum", [each, *node.input[1:]], [total if squared else result]),
        ]
        made[1].attribute.extend(node.attribute)
        if squared:
            made.append(helper.make_node("Sqrt", [total], [result]))
        for place, one in enumerate(made):
            one.name = f"{node.name}_{place}"
            graph.node.insert(list(graph.node).index(node), one)
        graph.node.remove(node)


@dataclass
class _Region:
    """Tensors that share an order of channels, and the nodes at their borders."""

    block: int
    tensors: set[str] = field(default_factory=set)
    shuffles: list[Any] = field(default_factory=list)  # DepthToSpace
    unshuffles: list[tuple[Any, Any, Any]] = field(default_factory=list)  # Reshape, Transpose, Reshape
    makers: list[Any] = field(default_factory=list)  # Conv whose rows are permuted
    readers: list[Any] = field(default_factory=list)  # Conv whose columns are


class _Graph:
    """An ONNX graph with the maker and the readers of each tensor."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.maker = {name: node for node in model.graph.node for name in node.output}
        self.readers: dict[str, list[Any]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.outputs = {output.name for output in model.graph.output}
        self.shapes = _shapes(model)

    def region(self, start: str, block: int) -> _Region | None:
        """All that must change its order together with the tensor ``start``; None where that is impossible."""
        region = _Region(block)
        queue = [start]
        while queue:
            name = queue.pop()
            if name in region.tensors or self.shapes.get(name, ())[1:2] == (1,):
                continue  # a mask of one channel, the same for all: it has no order
            region.tensors.add(name)
            more = self._grow(region, name)
            if more is None:
                return None
            queue += more
        return region

    def _grow(self, region: _Region, name: str) -> list[str] | None:
        """Adds the borders at a tensor to the region; returns its neighbours that belong to it too, None to give up."""
        if name in self.outputs or name not in self.maker:
            return None
        maker, more = self.maker[name], []
        if maker.op_type == "Conv":
            # The new order would move channels from one group to another.
            if not self._own_constants(maker) or _attribute(maker, "group", 1) != 1:
                return None
            region.makers.append(maker)
        elif maker.op_type in _PIXELWISE:
            more += [n for n in maker.input if n and not self._scalar(n)]
        elif (unshuffle := self._unshuffle(maker, region.block)) is not None:
            region.unshuffles.append(unshuffle)
        else:
            return None
        for reader in self.readers.get(name, []):
            if (
                reader.op_type == "DepthToSpace"
                and _mode(reader) == b"CRD"
                and _block(reader) == region.block
            ):
                region.shuffles.append(reader)
            elif reader.op_type == "Conv" and reader.input[0] == name and self._own_constants(reader):
                if _attribute(reader, "group", 1) != 1:
                    return None
                region.readers.append(reader)
            elif reader.op_type in _PIXELWISE:
                more += reader.output
            else:
                return None
        return more

    def _own_constants(self, conv: Any) -> bool:
        return all(name in self.constants for name in conv.input[1:] if name)

    def _scalar(self, name: str) -> bool:
        return name in self.constants and all(size == 1 for size in self.constants[name].dims)

    def _unshuffle(self, last: Any, block: int) -> tuple[Any, Any, Any] | None:
        """The Reshape, Transpose, Reshape that a pixel-unshuffle is exported as."""
        from onnx import numpy_helper

        transpose = self.maker.get(last.input[0])
        if last.op_type != "Reshape" or transpose is None or transpose.op_type != "Transpose":
            return None
        first = self.maker.get(transpose.input[0])
        if first is None or first.op_type != "Reshape" or first.input[1] not in self.constants:
            return None
        shape = numpy_helper.to_array(self.constants[first.input[1]]).tolist()
        if list(_attribute(transpose, "perm", [])) != [0, 1, 3, 5, 2, 4] or shape[3:6:2] != [block, block]:
            return None
        between = (first.output[0], transpose.output[0])
        alone = all(len(self.readers[name]) == 1 and name not in self.outputs for name in between)
        return (first, transpose, last) if alone else None

    def reorder(self, region: _Region) -> None:
        from onnx import helper

        for conv in region.makers:
            for place, name in enumerate(conv.input):
                if place > 0 and name:
                    self._permute(conv, place, region.block, axis=0)
        for conv in region.readers:
            self._permute(conv, 1, region.block, axis=1)
        for shuffle in region.shuffles:
            next(a for a in shuffle.attribute if a.name == "mode").s = b"DCR"
        for first, transpose, last in region.unshuffles:
            whole = helper.make_node(
                "SpaceToDepth", [first.input[0]], list(last.output), blocksize=region.block
            )
            whole.name = last.name
            nodes = self.model.graph.node
            nodes.insert(list(nodes).index(last), whole)
            for node in (first, transpose, last):
                nodes.remove(node)

    def _permute(self, conv: Any, place: int, block: int, axis: int) -> None:
        """Gives a convolution its own copy of a constant, reordered from CRD to DCR along ``axis``."""
        import numpy as np
        from onnx import numpy_helper

        values = numpy_helper.to_array(self.constants[conv.input[place]])
        count = values.shape[axis]
        order = np.arange(count).reshape(count // block**2, block**2).T.reshape(-1)
        name = f"{conv.output[0]}_constant_{place}"
        copy = numpy_helper.from_array(np.ascontiguousarray(np.take(values, order, axis=axis)), name)
        if name in self.constants:  # changed on the other axis before
            self.constants[name].CopyFrom(copy)
            return
        self.model.graph.initializer.append(copy)
        self.constants[name] = self.model.graph.initializer[-1]
        conv.input[place] = name


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors by name, as far as they are known."""
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model).graph
    return {
        value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }


def _drop_unused(model: Any) -> None:
    """Removes constants that no node reads any more."""
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)


def _attribute(node: Any, name: str, default: Any) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _mode(node: Any) -> bytes:
    return bytes(_attribute(node, "mode", b"DCR"))


def _block(node: Any) -> int:
    return int(_attribute(node, "blocksize", 1))
