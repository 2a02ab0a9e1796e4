"""Exact rewrites of an ONNX graph, for what onnx2tf would otherwise translate into slow or unsupported operators.

reorder_shuffles(model)      # in place; the graph computes the same
"""

from __future__ import annotations

from typing import Any


def reorder_shuffles(model: Any) -> int:
    """Let every pixel-shuffle behind a convolution read its channels in TFLite's order; returns how many.

    PyTorch keeps the places of one output channel together (ONNX calls it CRD), TFLite's DEPTH_TO_SPACE the channels of one
    place (DCR). onnx2tf makes a CRD shuffle a transpose of rank 6, which no GPU delegate takes. Permuting the rows of
    the convolution's weights instead gives the same picture, bit for bit.
    """
    import numpy as np
    from onnx import numpy_helper

    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    users: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            users[name] = users.get(name, 0) + 1
    constants = {tensor.name: tensor for tensor in graph.initializer}
    done = 0
    for node in graph.node:
        if node.op_type != "DepthToSpace":
            continue
        attributes = {attribute.name: attribute for attribute in node.attribute}
        conv = producers.get(node.input[0])
        if "mode" not in attributes or attributes["mode"].s != b"CRD" or conv is None:
            continue
        names = list(conv.input[1:])
        if conv.op_type != "Conv" or users[node.input[0]] != 1:
            continue
        if any(name not in constants or users[name] != 1 for name in names):
            continue
        block = attributes["blocksize"].i
        for name in names:
            values = numpy_helper.to_array(constants[name])
            channels = values.shape[0] // block**2
            order = np.arange(values.shape[0]).reshape(channels, block**2).T.reshape(-1)
            constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[order]), name))
        attributes["mode"].s = b"DCR"
        done += 1
    return done
