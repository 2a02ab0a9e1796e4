"""The operators of a TFLite file or a Core ML package in one form, with the layer of the network each comes from.

    graph = read_graph(Path("reflection_256x256_float16.mlpackage"))
    for node in graph.nodes:
        print(node.operator, node.name, node.layer)       # conv conv2d_3_cast_fp16 encoder_levels_0_0_mix

Core ML keeps the names of the weights (underscores for dots), and so of their layers. TFLite does not: its weights are
compared with those of a Core ML package of the same bundle. How layers get their names is in `layers.py`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.lint.layers import UNKNOWN, Step, common_prefix, layer_names, layer_of_weight
from afterlens.conversion.mil.package import Package, TensorType, read_package
from afterlens.conversion.tflite.graph import (
    dequantized,
    is_constant,
    operator_names,
    read_tflite,
    shape_of,
    type_names,
)
from afterlens.training.media.errors import UserError

Array = NDArray[np.float32]
# Weights that differ by less than this share of their RMS are the same ones: int8 differs by less than 2 %.
SAME_WEIGHTS = 0.2


@dataclass(frozen=True)
class Tensor:
    """What an operator reads or writes; `shape` has None where a dimension is not fixed."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    constant: bool = False


@dataclass(frozen=True)
class Node:
    """One operator. `options` are TFLite's own options, or the constant arguments of a MIL operator, by name."""

    operator: str  # CONV_2D, "CUSTOM name"; conv
    version: int  # TFLite's; 0 in Core ML
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    options: Mapping[str, Any]
    layer: str = UNKNOWN

    @property
    def name(self) -> str:
        """The name of its first output."""
        return self.outputs[0].name if self.outputs else "(no output)"


@dataclass(frozen=True)
class Constant:
    """A floating-point constant as the file stores it, as float32."""

    name: str
    dtype: str  # "float32" | "float16"
    value: Array
    layer: str
    role: str = ""  # "epsilon": of an operator; "limit": of a clip, which may be infinite


@dataclass(frozen=True)
class Graph:
    """A whole file. Constants, and operators that only widen them, are not nodes."""

    nodes: tuple[Node, ...]
    inputs: tuple[Tensor, ...]
    constants: tuple[Constant, ...]
    weights: Mapping[str, Array] = field(default_factory=dict)  # by layer; Core ML only


def read_graph(path: Path, named: Mapping[str, Array] | None = None) -> Graph:
    """Read a `.tflite` file or an `.mlpackage` folder. Raises UserError if it is missing or damaged.

    Args:
        named: weights by layer (`Graph.weights` of a Core ML package), to identify a TFLite file's layers.
    """
    if path.suffix == ".mlpackage":
        return _coreml_graph(read_package(path))
    model = read_tflite(path)
    try:
        return _TfliteReader(model, named or {}).graph()
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
    ) as error:  # numbers out of range
        raise UserError(f"{path}: the file is damaged ({type(error).__name__}: {error})") from error


def _with_layers(steps: Sequence[tuple[Node, Step]], inputs: Sequence[Hashable]) -> tuple[Node, ...]:
    names = layer_names([step for _, step in steps], inputs)
    return tuple(replace(node, layer=name) for (node, _), name in zip(steps, names, strict=True))


# Core ML
# Epsilons that MIL fills in where a package leaves them out, from coremltools 9.0's operator definitions.
_DEFAULT_EPSILON = {
    "batch_norm": 1e-5,
    "instance_norm": 1e-5,
    "inverse": 1e-4,
    "l2_norm": 1e-6,
    "layer_norm": 1e-5,
    "log": 1e-45,
    "rsqrt": 1e-12,
}


def _coreml_graph(package: Package) -> Graph:
    steps: list[tuple[Node, Step]] = []
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}  # of constants that are not packed
    constants: list[Constant] = []
    roles: dict[str, str] = {}  # of constants
    weights: dict[str, Array] = {}
    inputs = []
    for function in package.model.mlProgram.functions.values():
        for value in function.inputs:
            tensor = _coreml_tensor(value.name, package.tensor_type(value.type))
            tensors[value.name] = tensor
            inputs.append(tensor)
        for operation in _operations(function.block_specializations.values()):
            outputs = [(output.name, output.type) for output in operation.outputs]
            if operation.type == "const":
                name, kind = outputs[0] if outputs else ("", None)
                if kind is None or kind.WhichOneof("type") != "tensorType":
                    continue
                declared = package.tensor_type(kind)
                tensors[name] = _coreml_tensor(name, declared, constant=True)
                if "val" in operation.attributes:
                    values[name] = package.value(operation.attributes["val"])
                if declared.dtype.name in ("float16", "float32") and name in values:
                    constants.append(
                        Constant(name, declared.dtype.name, np.asarray(values[name], np.float32), UNKNOWN)
                    )
                continue
            arguments = {
                parameter: [binding.name for binding in argument.arguments if binding.name]
                for parameter, argument in operation.inputs.items()
            }
            written = [_coreml_tensor(name, package.tensor_type(kind)) for name, kind in outputs]
            if (
                operation.type.startswith("constexpr_") and written
            ):  # weights that are expanded when the package loads
                tensors |= {tensor.name: replace(tensor, constant=True) for tensor in written}
                for parameter, attribute in operation.attributes.items():
                    kind = attribute.type
                    if kind.WhichOneof("type") == "tensorType" and parameter != "name":
                        declared = package.tensor_type(kind)
                        if declared.dtype.name in ("float16", "float32"):
                            stored = np.asarray(package.value(attribute), np.float32)
                            label = f"{written[0].name} {parameter}"
                            constants.append(Constant(label, declared.dtype.name, stored, UNKNOWN))
                continue
            tensors |= {tensor.name: tensor for tensor in written}
            read = [name for names in arguments.values() for name in names]
            node = Node(
                operation.type,
                0,
                tuple(tensors[name] for name in read if name in tensors),
                tuple(written),
                {
                    parameter: values[names[0]]
                    for parameter, names in arguments.items()
                    if len(names) == 1 and names[0] in values and np.size(values[names[0]]) <= 16
                },
            )
            roles |= dict.fromkeys(arguments.get("epsilon", ()), "epsilon")
            if operation.type == "clip":  # a clamp of one side has an infinity on the other
                roles |= dict.fromkeys((*arguments.get("alpha", ()), *arguments.get("beta", ())), "limit")
            if "epsilon" not in operation.inputs and operation.type in _DEFAULT_EPSILON:
                # Computed in the type of the result.
                default = np.float32(_DEFAULT_EPSILON[operation.type])
                kind = written[0].dtype if written else "float32"
                constants.append(
                    Constant(f"{node.name} epsilon", kind, np.array(default), UNKNOWN, "epsilon")
                )
            layer = _layer_of(arguments, tensors)
            # When coremltools fuses a scale into a convolution, it names the new weights after the operator.
            if layer is not None and node.name.startswith(f"{layer}_"):
                layer = None
            if layer is not None and (name := arguments["weight"][0]) in values:
                weights[layer] = np.asarray(values[name], np.float32)
            steps.append((node, Step(read, [tensor.name for tensor in written], layer)))
    layers = {step.own for _, step in steps if step.own is not None}
    prefix = common_prefix(sorted(layers))
    short = [(node, replace(step, own=step.own and step.own.removeprefix(prefix))) for node, step in steps]

    def of_constant(constant: Constant) -> Constant:
        layer = layer_of_weight(constant.name)
        layer = layer.removeprefix(prefix) if layer in layers else UNKNOWN
        return replace(constant, layer=layer, role=roles.get(constant.name, constant.role))

    return Graph(
        _with_layers(short, [tensor.name for tensor in inputs]),
        tuple(inputs),
        tuple(of_constant(constant) for constant in constants),
        {layer.removeprefix(prefix): value for layer, value in weights.items()},
    )


def _coreml_tensor(name: str, declared: TensorType, constant: bool = False) -> Tensor:
    shape = (None,) if declared.any_rank else declared.shape
    return Tensor(name, declared.dtype.name, shape, constant)


def _operations(blocks: Any) -> Iterator[Any]:
    """Operations in their order, those of inner blocks behind the one that holds them."""
    for block in blocks:
        for operation in block.operations:
            yield operation
            yield from _operations(operation.blocks)


def _layer_of(arguments: Mapping[str, list[str]], tensors: Mapping[str, Tensor]) -> str | None:
    """The layer whose weights a Core ML operator reads."""
    names = arguments.get("weight", [])
    if len(names) != 1 or names[0] not in tensors or not tensors[names[0]].constant:
        return None
    layer = layer_of_weight(names[0])
    return None if layer == UNKNOWN else layer


# TFLite

# Axis order that turns TFLite's weights into PyTorch's and Core ML's.
_TO_PYTORCH = {
    "CONV_2D": (0, 3, 1, 2),
    "DEPTHWISE_CONV_2D": (3, 0, 1, 2),
    "TRANSPOSE_CONV": (3, 0, 1, 2),
    "FULLY_CONNECTED": (0, 1),
}


class _TfliteReader:
    """One pass over the flatbuffer; constants are read only when needed."""

    def __init__(self, model: Any, named: Mapping[str, Array]) -> None:
        self.model, self.graph_object = model, model.subgraphs[0]
        self.named = named
        self.tensors = [self._tensor(entry) for entry in self.graph_object.tensors]
        # An operator widens each float16 weight; here the widened tensor counts as the constant.
        self.widened: dict[int, int] = {}

    def graph(self) -> Graph:
        steps: list[tuple[Node, Step]] = []
        layers: dict[int, str] = {}  # of constants
        for operator, entry in zip(operator_names(self.model), self.graph_object.operators, strict=True):
            version = int(self.model.operatorCodes[entry.opcodeIndex].version)
            read = [int(index) for index in entry.inputs if index != -1]
            written = [int(index) for index in entry.outputs]
            if operator == "DEQUANTIZE" and len(read) == len(written) == 1 and self.tensors[read[0]].constant:
                self.widened[written[0]] = read[0]
                self.tensors[written[0]] = replace(self.tensors[written[0]], constant=True)
                continue
            own = self._layer(operator, read)
            if own is not None:
                layers |= {index: own for index in read if self.tensors[index].constant}
            options = {} if entry.builtinOptions is None else dict(vars(entry.builtinOptions))
            if operator in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
                options["kernel_sizes"] = np.array([options["filterHeight"], options["filterWidth"]])
            if operator == "PAD" and len(read) > 1 and self.tensors[read[1]].constant:
                options["paddings"] = self._value(read[1])
            node = Node(
                operator,
                version,
                tuple(self.tensors[index] for index in read),
                tuple(self.tensors[index] for index in written),
                options,
            )
            steps.append((node, Step(read, written, own)))
        entrances = [int(index) for index in self.graph_object.inputs]
        return Graph(
            _with_layers(steps, entrances),
            tuple(self.tensors[index] for index in entrances),
            tuple(self._constants(layers)),
        )

    def _tensor(self, entry: Any) -> Tensor:
        name = (entry.name or b"").decode("utf-8", "replace")
        # An open dimension is 1 in `shape` and -1 in the signature.
        signature = entry.shapeSignature
        shape = shape_of(entry) if signature is None or not len(signature) else signature
        dtype = type_names().get(entry.type, f"type {entry.type}").lower()
        sides = tuple(None if side < 0 else int(side) for side in shape)
        return Tensor(name, dtype, sides, is_constant(self.model, entry))

    def _value(self, index: int) -> NDArray[Any]:
        """A constant: floats as float32, quantized integers as the numbers they stand for, others as they are."""
        return dequantized(self.model, self.graph_object.tensors[self.widened.get(index, index)])

    def _layer(self, operator: str, read: Sequence[int]) -> str | None:
        """The layer whose weights a TFLite operator reads."""
        if operator not in _TO_PYTORCH or len(read) < 2 or not self.tensors[read[1]].constant:
            return None
        weight = self._value(read[1])
        order = _TO_PYTORCH[operator]
        if weight.ndim != len(order):
            return None
        weight = weight.transpose(order)
        size = float(np.sqrt(np.mean(np.square(weight)))) if weight.size else 0.0
        best, nearest = None, SAME_WEIGHTS * size
        for layer, known in self.named.items():
            if known.size != weight.size or known.shape[: weight.ndim] != weight.shape[: known.ndim]:
                continue
            for candidate in _arrangements(known.reshape(weight.shape)):
                distance = float(np.sqrt(np.mean(np.square(candidate - weight))))
                if distance < nearest:
                    best, nearest = layer, distance
        return best

    def _constants(self, layers: Mapping[int, str]) -> Iterator[Constant]:
        originals = {self.widened.get(index, index): layer for index, layer in layers.items()}
        for index, tensor in enumerate(self.tensors):
            if tensor.constant and tensor.dtype in ("float32", "float16") and index not in self.widened:
                yield Constant(tensor.name, tensor.dtype, self._value(index), originals.get(index, UNKNOWN))


def _arrangements(weight: Array) -> Iterator[Array]:
    """The weight as it is, and as `onnx_rewrite` permutes it before a pixel shuffle."""
    yield weight
    for block in (2, 3, 4):
        if weight.shape[0] % block**2 == 0:
            channels = weight.shape[0] // block**2
            order = np.arange(weight.shape[0]).reshape(channels, block**2).T.reshape(-1)
            yield weight[order]
