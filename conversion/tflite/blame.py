"""Which operator of an ONNX graph a TFLite file computes wrongly.

name = first_wrong(Path("graph.onnx"), Path("float32.tflite"), {"image": photo})        # "node_Resize_12", or None
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Value = NDArray[np.float32]

_ALIKE = 1e-3
"""Largest difference, as a share of the largest value, between two computations of the same in float32."""


def first_wrong(graph: Path, path: Path, inputs: Mapping[str, Value]) -> str | None:
    """The name of the first operator whose result is not in the file, nor anything that is computed from it.

    Names do not survive onnx2tf, so values are looked for, in any order of their axes. An operator that was fused with
    the next one has no tensor in the file; what follows it has.

    Args:
        graph: the ONNX graph that the file was made from, nodes in the order of computation.
        path: a float32 file that LiteRT can run, its inputs named as the graph's.
        inputs: (N, C, H, W) by name.

    Returns: None where every result is found or none can be missed.
    """
    import onnx

    model = onnx.load(graph)
    values = _onnx_values(model, inputs)
    tensors = _tflite_values(path, inputs)
    sound: set[str] = set()  # tensors that the file computes rightly, or something from them
    for node in reversed(model.graph.node):
        if any(name in sound or _is_among(values.get(name), tensors) for name in node.output):
            sound |= {*node.input, *node.output}
    # Whole numbers and single values say little: they may be right by chance.
    compared = (
        node
        for node in model.graph.node
        if any(name in values and values[name].size > 1 for name in node.output)
    )
    return next((str(node.name) for node in compared if not sound & {*node.output}), None)


def _onnx_values(model: Any, inputs: Mapping[str, Value]) -> dict[str, Value]:
    """All results of the graph that are floating-point numbers, by name."""
    import onnx
    import onnxruntime

    names = [name for node in model.graph.node for name in node.output if name]
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        whole.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    results = zip(names, session.run(names, dict(inputs)), strict=True)
    return {name: value for name, value in results if value.dtype == np.float32}


def _tflite_values(path: Path, inputs: Mapping[str, Value]) -> dict[tuple[int, ...], list[Value]]:
    """All values of the file, without axes of length 1, by their sorted sides."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=path.read_bytes(),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        value = inputs[detail["name"]]
        kept = value.shape == tuple(detail["shape"])
        interpreter.set_tensor(detail["index"], value if kept else np.moveaxis(value, 1, -1))
    interpreter.invoke()
    found: dict[tuple[int, ...], list[Value]] = {}
    for detail in interpreter.get_tensor_details():
        if detail["dtype"] != np.float32:
            continue
        try:
            value = interpreter.get_tensor(detail["index"]).squeeze()
        except ValueError:  # scratch memory of a kernel
            continue
        found.setdefault(tuple(sorted(value.shape)), []).append(value)
    return found


def _is_among(wanted: Value | None, tensors: Mapping[tuple[int, ...], list[Value]]) -> bool:
    if wanted is None or wanted.size < 2:
        return False
    flat = wanted.squeeze()
    with np.errstate(all="ignore"):  # what is not finite is not alike
        limit = _ALIKE * float(np.abs(flat).max())
        return any(
            flat.transpose(order).shape == value.shape
            and float(np.abs(flat.transpose(order) - value).max()) <= limit
            for value in tensors.get(tuple(sorted(flat.shape)), ())
            for order in itertools.permutations(range(flat.ndim))
        )
