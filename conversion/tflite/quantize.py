"""A float32 TFLite file -> its quantized variants, written operator by operator into the flatbuffer.

    model = read_tflite(Path("reflection_256x256_float32.tflite"))
    ranges = measure_ranges(model, pictures)                     # of every tensor, on real pictures
    data = quantize(model, ranges, Scheme.INT8, keep_float=set())

TFLite's own converter decides by itself what stays in float, takes minutes and renames the graph's tensors. Here every
operator and range is under our control. Biases are int32 (int64 with int16 activations) with the scale of the product;
for all other numbers see scales.py.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.tflite.graph import (
    FLOAT32,
    INT8,
    INT16,
    INT32,
    INT64,
    activations,
    array_of,
    builtin_number,
    operator_names,
    pack,
    require_runtime,
)
from afterlens.conversion.tflite.ranges import Ranges
from afterlens.conversion.tflite.scales import Scheme, quantized_weights, scale_and_zero_point

MINIMUM_RUNTIME = "2.6.0"
"""The first release of TensorFlow Lite that has every version of `_VERSIONS`."""


# Operators with kernels for int8 activations; the results of `_KEEP_SCALE` must keep their inputs' scale.
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
_KEEP_SCALE = (
    *(
        "RESHAPE",
        "CONCATENATION",
        "AVERAGE_POOL_2D",
        "MAX_POOL_2D",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
    ),
    *("STRIDED_SLICE", "SLICE", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "PAD", "MIRROR_PAD", "TRANSPOSE"),
    *("MINIMUM", "MAXIMUM"),
)
_FREE_SCALE = ("ADD", "SUB", "MUL", "MEAN", "LOGISTIC", "SOFTMAX", "RELU", "RELU6", "TANH")
# How many times smaller than a sum's steps those of a summand may be, and than the products' those of a result: XNNPACK
# refuses 1024 and 256.
_FINEST_SUMMAND, _FINEST_RESULT = 1000.0, 250.0
_NO_INT16 = ("DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "MIRROR_PAD", "RELU6", "DEPTHWISE_CONV_2D")
# The specification fixes these results' scale.
_FIXED = {
    "LOGISTIC": (1 / 256, -128, 1 / 32768),
    "SOFTMAX": (1 / 256, -128, 1 / 32768),
    "TANH": (1 / 128, 0, 1 / 32768),
}
# The first version of each operator that takes int8 and int16 activations, from TFLite's register of versions.
_VERSIONS = {
    "CONV_2D": (3, 4), "DEPTHWISE_CONV_2D": (3, 5), "TRANSPOSE_CONV": (2, 3), "FULLY_CONNECTED": (4, 7),
    "ADD": (2, 3), "SUB": (2, 5), "MUL": (2, 4), "MEAN": (2, 3), "LOGISTIC": (2, 3), "SOFTMAX": (2, 3), "RELU": (2, 3),
    "RELU6": (2, 2), "TANH": (2, 3), "RESHAPE": (1, 1), "CONCATENATION": (2, 3), "AVERAGE_POOL_2D": (2, 3),
    "MAX_POOL_2D": (2, 3), "RESIZE_BILINEAR": (3, 4), "RESIZE_NEAREST_NEIGHBOR": (3, 4), "STRIDED_SLICE": (2, 4),
    "SLICE": (2, 4), "DEPTH_TO_SPACE": (2, 2), "SPACE_TO_DEPTH": (2, 2), "PAD": (2, 3), "MIRROR_PAD": (2, 2),
    "TRANSPOSE": (2, 4), "MINIMUM": (2, 4), "MAXIMUM": (2, 4), "QUANTIZE": (1, 2), "DEQUANTIZE": (2, 3),
}  # fmt: skip


def quantizable(model: Any, scheme: Scheme) -> list[int]:
    """Indices of the operators that the scheme can quantize."""
    types = CONVOLUTIONS if scheme is Scheme.DYNAMIC else (*CONVOLUTIONS, *_KEEP_SCALE, *_FREE_SCALE)
    excluded = (
        _NO_INT16 if scheme is Scheme.INT16 else ("TRANSPOSE_CONV",) if scheme is Scheme.DYNAMIC else ()
    )
    floats = set(activations(model))
    return [
        index
        for index, (name, operator) in enumerate(
            zip(operator_names(model), model.subgraphs[0].operators, strict=True)
        )
        if name in types
        and name not in excluded
        and set(operator.outputs) <= floats
        # A matrix product may have its weights first: there is no activation to take the bias's scale from.
        and (name != "FULLY_CONNECTED" or operator.inputs[0] in floats)
    ]


def quantize(model: Any, ranges: Ranges, scheme: Scheme, keep_float: Collection[int] = ()) -> bytes:
    """The file with every operator quantized that the scheme can quantize, except those at the indices ``keep_float``.

    Inputs and outputs stay float32. ``ranges``: of `measure_ranges`; not read for DYNAMIC.
    """
    return _Rewrite(model, ranges, scheme, set(quantizable(model, scheme)) - set(keep_float)).data()


MAX_BIAS = 1 << 30
"""In steps: half of int32's range is left to the products."""


def _channel_axis(kind: str) -> int:
    """The axis of a convolution's weights along which its output channels are counted."""
    return 3 if kind == "DEPTHWISE_CONV_2D" else 0  # (1, KH, KW, C); others (C, KH, KW, C_in) or (C, C_in)


@dataclass(frozen=True)
class _Clamp:
    """A clamp that becomes the end of the range of the tensor it reads."""

    tensor: int
    low: float
    high: float


class _Rewrite:
    """One pass over the graph; the tensors that it appends are quantized twins of the float ones."""

    def __init__(self, model: Any, ranges: Ranges, scheme: Scheme, chosen: set[int]) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema, self.scheme, self.chosen = schema, scheme, chosen
        self.model, self.graph = copy.copy(model), copy.copy(model.subgraphs[0])
        self.types = operator_names(model)
        self.activations = set(activations(model))
        self.tensors, self.buffers = list(self.graph.tensors), list(model.buffers)
        self.codes = list(model.operatorCodes)
        self.twins: dict[tuple[int, str], int] = {}
        self.read_as_float = set(self.graph.outputs).union(
            *(operator.inputs for index, operator in enumerate(self.graph.operators) if index not in chosen)
        )
        self.clamps = self._free_clamps() if scheme is Scheme.INT8 else {}
        self.numbers = {} if scheme is Scheme.DYNAMIC else self._parameters(ranges)
        while spoiled := self._spoiled_clamps(ranges):
            self.clamps = {index: clamp for index, clamp in self.clamps.items() if index not in spoiled}
            self.numbers = self._parameters(ranges)

    def data(self) -> bytes:
        operators: list[Any] = []
        ready = set()  # twins that are computed already
        for index, operator in enumerate(self.graph.operators):
            if index not in self.chosen:
                operators.append(operator)
                continue
            changed = copy.copy(operator)
            if self.scheme is Scheme.DYNAMIC:
                changed.inputs = [operator.inputs[0], self._weights(index, operator), *operator.inputs[2:]]
                changed.opcodeIndex = self._code(self.types[index], 5)
                operators.append(changed)
                continue
            if index in self.clamps:
                # Its input already saturates at the limit: the same tensor under another index.
                source, output = self.clamps[index].tensor, operator.outputs[0]
                self.twins[output, "activation"] = self._twin(source)
                if output in self.read_as_float:
                    operators.append(self._convert("DEQUANTIZE", self._twin(output), output))
                continue
            inputs = []
            for place, source in enumerate(operator.inputs):
                if source in self.activations:
                    twin = self._twin(source)
                    if twin not in ready:
                        operators.append(self._convert("QUANTIZE", source, twin))
                        ready.add(twin)
                    inputs.append(twin)
                else:
                    inputs.append(self._constant(index, place, source, operator))
            changed.inputs = inputs
            changed.outputs = [self._twin(output) for output in operator.outputs]
            changed.opcodeIndex = self._code(self.types[index], self._version(self.types[index]))
            operators.append(changed)
            ready |= set(changed.outputs)
            for output in operator.outputs:
                if output in self.read_as_float:
                    operators.append(self._convert("DEQUANTIZE", self._twin(output), output))
        self.graph.operators, self.graph.tensors = operators, self.tensors
        self.model.subgraphs, self.model.buffers, self.model.operatorCodes = (
            [self.graph],
            self.buffers,
            self.codes,
        )
        require_runtime(self.model, MINIMUM_RUNTIME)
        return pack(_without_unused(self.model))

    def _free_clamps(self) -> dict[int, _Clamp]:
        """Clamps that cost nothing in int8: those of a tensor that only they read, from an operator that requantizes.

        That operator's results saturate at the ends of their range, so the range can be the clamp. As an operator of
        its own, an int8 RELU took a third of a 1280x720 run.
        """
        readers: dict[int, int] = {}
        makers = {t: i for i, operator in enumerate(self.graph.operators) for t in operator.outputs}
        for operator in self.graph.operators:
            for tensor in operator.inputs:
                readers[tensor] = readers.get(tensor, 0) + 1
        found: dict[int, _Clamp] = {}
        for index in sorted(self.chosen):
            operator, name = self.graph.operators[index], self.types[index]
            values = [tensor for tensor in operator.inputs if tensor in self.activations]
            constants = [tensor for tensor in operator.inputs if tensor not in self.activations]
            if name not in ("RELU", "MINIMUM", "MAXIMUM") or len(values) != 1:
                continue
            limits = self._array(constants[0]).reshape(-1) if constants else np.zeros(1)
            maker = makers.get(values[0], -1)
            anew = self.types[maker] in (*CONVOLUTIONS, *_FREE_SCALE) and self.types[maker] not in _FIXED
            if readers[values[0]] != 1 or len(limits) != 1 or maker not in self.chosen:
                continue
            if values[0] in set(self.graph.outputs) or not (anew or maker in found):
                continue
            limit = float(limits[0])
            low, high = (-np.inf, limit) if name == "MINIMUM" else (limit, np.inf)
            if low <= 0.0 <= high:  # zero must stay within the range
                found[index] = _Clamp(values[0], low, high)
        return found

    def _parameters(self, ranges: Ranges) -> dict[int, tuple[float, int]]:
        """Scale and zero point of every activation tensor; the same for all that an operator ties together."""
        parent = {index: index for index in self.activations}

        def root(index: int) -> int:
            while parent[index] != index:
                index = parent[index]
            return index

        fixed: dict[int, tuple[float, int]] = {}
        for index in sorted(self.chosen):
            operator = self.graph.operators[index]
            tied = [t for t in (*operator.inputs, *operator.outputs) if t in self.activations]
            if self.types[index] in _KEEP_SCALE or index in self.clamps:
                for tensor in tied[1:]:
                    parent[root(tensor)] = root(tied[0])
        for index in self.chosen:
            if self.types[index] in _FIXED:
                scale8, zero8, scale16 = _FIXED[self.types[index]]
                fixed[root(self.graph.operators[index].outputs[0])] = (
                    (scale16, 0) if self.scheme is Scheme.INT16 else (scale8, zero8)
                )
        groups: dict[int, list[int]] = {}
        for tensor in self.activations:
            groups.setdefault(root(tensor), []).append(tensor)
        numbers: dict[int, tuple[float, int]] = {}
        for top, members in groups.items():
            low = min(ranges[t][0] for t in members)
            high = max(ranges[t][1] for t in members)
            for clamp in self.clamps.values():
                if root(clamp.tensor) == top:
                    low, high = max(low, clamp.low), min(high, clamp.high)
            parameters = fixed.get(top) or scale_and_zero_point(low, high, self.scheme)
            numbers |= dict.fromkeys(members, parameters)
        self.groups = {tensor: members for members in groups.values() for tensor in members}
        self.fixed = {tensor for top in fixed for tensor in groups[top]}
        self._widen(numbers, ranges)
        return numbers

    def _widen(self, numbers: dict[int, tuple[float, int]], ranges: Ranges) -> None:
        """Give tensors that are next to nothing steps that are not too small beside their operators' others.

        XNNPACK refuses a file in which they are: where a gate was closed on all calibration pictures, for instance, or a
        channel is never reached.
        """
        for index in sorted(self.chosen):
            operator, kind = self.graph.operators[index], self.types[index]
            read = [tensor for tensor in operator.inputs if tensor in numbers]
            written = operator.outputs[0]
            least: dict[int, float] = {}
            if kind in ("ADD", "SUB"):
                least = dict.fromkeys(read, numbers[written][0] / _FINEST_SUMMAND)
            elif kind == "MUL":
                least[written] = float(np.prod([numbers[tensor][0] for tensor in read])) / _FINEST_RESULT
            elif kind in CONVOLUTIONS and read:
                step = float(np.abs(self._array(operator.inputs[1])).max()) / 127
                least[written] = numbers[read[0]][0] * step / _FINEST_RESULT
            for tensor, scale in least.items():
                if numbers[tensor][0] < scale and tensor not in self.fixed:
                    members = self.groups[tensor]
                    low = min(0.0, *(ranges[member][0] for member in members))
                    zero = int(np.clip(np.rint(-128 - low / scale), -128, 127))
                    zero = 0 if self.scheme is Scheme.INT16 else zero
                    numbers |= dict.fromkeys(members, (scale, zero))

    def _spoiled_clamps(self, ranges: Ranges) -> set[int]:
        """Folded clamps whose range does not suit all tensors that share it.

        A concatenation, for instance, ties the clamped tensor to others that go beyond the clamp, and would be cut; or
        a sigmoid fixes a range that reaches beyond the clamp, which would be lost.
        """
        spoiled = set()
        inputs = {clamp.tensor for clamp in self.clamps.values()}  # these alone may be cut
        for index, clamp in self.clamps.items():
            group = self.groups[clamp.tensor]
            bounds = [ranges[tensor] for tensor in group if tensor not in inputs]
            scale, zero_point = self.numbers[clamp.tensor]
            if self.fixed & set(group):
                bounds.append((scale * (-128 - zero_point), scale * (127 - zero_point)))
            if any(low < clamp.low - 1e-6 or high > clamp.high + 1e-6 for low, high in bounds):
                spoiled.add(index)
        return spoiled

    def _twin(self, tensor: int) -> int:
        """The quantized form of an activation tensor."""
        key = (tensor, "activation")
        if key not in self.twins:
            scale, zero_point = self.numbers[tensor]
            kind = INT16 if self.scheme is Scheme.INT16 else INT8
            self.twins[key] = self._append(
                tensor, kind, self._quantization([scale], [zero_point]), None, self.tensors[tensor].shape
            )
        return self.twins[key]

    def _constant(self, index: int, place: int, tensor: int, operator: Any) -> int:
        """What a quantized operator reads in place of a constant: weights, a bias or a plain operand."""
        if tensor < 0 or self.tensors[tensor].type != FLOAT32:
            return tensor  # shapes, axes, paddings
        if self.types[index] in CONVOLUTIONS:
            return self._weights(index, operator) if place == 1 else self._bias(index, tensor, operator)
        values = self._array(tensor)
        low, high = float(values.min()), float(values.max())
        scale, zero_point = scale_and_zero_point(min(low, 0.0), max(high, 0.0), self.scheme)
        if self.types[index] in _KEEP_SCALE:  # the limit of a clamp
            scale, zero_point = self.numbers[operator.outputs[0]]
        limit, dtype = (32767, np.int16) if self.scheme is Scheme.INT16 else (127, np.int8)
        stored = np.clip(np.rint(values / scale) + zero_point, -limit - 1, limit).astype(dtype)
        kind = INT16 if self.scheme is Scheme.INT16 else INT8
        return self._append(tensor, kind, self._quantization([scale], [zero_point]), stored, values.shape)

    def _weights(self, index: int, operator: Any) -> int:
        """The quantized weights of a convolution."""
        tensor, axis = operator.inputs[1], _channel_axis(self.types[index])
        stored, scales = self._quantized(index, operator)
        key = (
            tensor,
            f"weights {scales.tolist()}",
        )  # two convolutions may share weights, and differ in their biases
        if key not in self.twins:
            quantization = self._quantization(scales.tolist(), [0] * len(scales), axis)
            self.twins[key] = self._append(tensor, INT8, quantization, stored, stored.shape)
        return self.twins[key]

    def _quantized(self, index: int, operator: Any) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
        """The weights of a convolution, and their scales: large enough for its bias to be an int32 in steps of them."""
        biases = [tensor for tensor in operator.inputs[2:] if self._is_bias(tensor)]
        at_least: NDArray[np.float64] | float = 0.0
        if biases and self.scheme is not Scheme.DYNAMIC:
            at_least = np.abs(self._array(biases[-1])) / (self._input_scale(index, operator) * MAX_BIAS)
        return quantized_weights(self._array(operator.inputs[1]), _channel_axis(self.types[index]), at_least)

    def _is_bias(self, tensor: int) -> bool:
        return tensor >= 0 and tensor not in self.activations and self.tensors[tensor].type == FLOAT32

    def _input_scale(self, index: int, operator: Any) -> float:
        # The first input of a transposed convolution is its output's shape.
        place = 2 if self.types[index] == "TRANSPOSE_CONV" else 0
        return self.numbers[operator.inputs[place]][0]

    def _bias(self, index: int, tensor: int, operator: Any) -> int:
        scales = self._input_scale(index, operator) * self._quantized(index, operator)[1]
        dtype, kind = (np.int64, INT64) if self.scheme is Scheme.INT16 else (np.int32, INT32)
        limit = np.iinfo(np.int32).max
        stored = np.clip(np.rint(self._array(tensor) / scales), -limit, limit).astype(dtype)
        return self._append(
            tensor, kind, self._quantization(scales.tolist(), [0] * len(scales)), stored, stored.shape
        )

    def _array(self, tensor: int) -> NDArray[np.float32]:
        return array_of(self.model, self.tensors[tensor])

    def _quantization(self, scales: Sequence[float], zero_points: Sequence[int], axis: int = 0) -> Any:
        quantization = self.schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = list(scales), list(zero_points)
        quantization.quantizedDimension = axis
        return quantization

    def _append(self, like: int, kind: int, quantization: Any, stored: Any, shape: Iterable[int]) -> int:
        entry = copy.copy(self.tensors[like])
        entry.type, entry.quantization, entry.shape = kind, quantization, list(shape)
        entry.name = entry.name + b"_quantized"
        entry.buffer = 0
        if stored is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(stored).tobytes(), np.uint8)
            self.buffers.append(buffer)
            entry.buffer = len(self.buffers) - 1
        self.tensors.append(entry)
        return len(self.tensors) - 1

    def _convert(self, name: str, source: int, target: int) -> Any:
        operator = self.schema.OperatorT()
        operator.opcodeIndex = self._code(name, self._version(name))
        operator.inputs, operator.outputs = [source], [target]
        return operator

    def _version(self, name: str) -> int:
        return _VERSIONS[name][1 if self.scheme is Scheme.INT16 else 0]

    def _code(self, name: str, version: int) -> int:
        """Index of an operator code with at least this version; a later one if the graph had that already."""
        number = getattr(self.schema.BuiltinOperator, name)
        own = [c for c in self.codes if builtin_number(c) == number]
        version = max([version, *(c.version for c in own[:1])])
        for index, code in enumerate(self.codes):
            if builtin_number(code) == number and code.version == version:
                return index
        code = self.schema.OperatorCodeT()
        code.builtinCode, code.version = number, version
        code.deprecatedBuiltinCode = min(number, 127)
        self.codes.append(code)
        return len(self.codes) - 1


def _without_unused(model: Any) -> Any:
    """Leaves out tensors and buffers that nothing reads any more: the float weights behind quantized ones."""
    graph = model.subgraphs[0]
    used = set(graph.inputs) | set(graph.outputs)
    for operator in graph.operators:
        used |= set(operator.inputs) | set(operator.outputs)
    used.discard(-1)
    order = sorted(used)
    place = {old: new for new, old in enumerate(order)}
    place[-1] = -1
    tensors = [copy.copy(graph.tensors[index]) for index in order]
    kept = [0, *sorted({t.buffer for t in tensors if t.buffer} | {m.buffer for m in model.metadata or []})]
    moved = {old: new for new, old in enumerate(kept)}
    for tensor in tensors:
        tensor.buffer = moved[tensor.buffer]
    operators = []
    for operator in graph.operators:
        moved_one = copy.copy(operator)
        moved_one.inputs = [place[index] for index in operator.inputs]
        moved_one.outputs = [place[index] for index in operator.outputs]
        operators.append(moved_one)
    graph.inputs, graph.outputs = ([place[i] for i in side] for side in (graph.inputs, graph.outputs))
    graph.tensors, graph.operators = tensors, operators
    model.buffers = [model.buffers[index] for index in kept]
    metadata = [copy.copy(entry) for entry in model.metadata or []]
    for entry in metadata:
        entry.buffer = moved[entry.buffer]
    model.metadata = metadata
    signatures = [copy.deepcopy(signature) for signature in model.signatureDefs or []]
    for signature in signatures:
        for entry in (*signature.inputs, *signature.outputs):
            entry.tensorIndex = place[entry.tensorIndex]
    model.signatureDefs = signatures
    return model
