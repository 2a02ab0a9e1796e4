"""A float32 TFLite file -> its quantized variants, written operator by operator into the flatbuffer.

    model = read_tflite(Path("reflection_256x256_float32.tflite"))
    ranges = measure_ranges(model, pictures)                     # what every tensor holds on real pictures
    data = quantize(model, ranges, Scheme.INT8, keep_float=set())

TFLite's own converter decides by itself what stays in float, takes minutes, and calls the graph by other names. Here
every operator and range is in our hands. The arithmetic follows TFLite's quantization specification
(tensorflow.org/lite/performance/quantization_spec): values are ``scale * (q - zero_point)``; int8 values are
asymmetric, int16 values symmetric, weights symmetric per output channel, and biases int32 (int64 beside int16 values)
with the scale of the product.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.tflite.onnx2tf import pack

Picture = NDArray[np.float32]


INT16_HEADROOM = 4.0
"""int16 has steps to spare: pictures unlike those of the calibration, such as noise, need not be cut off."""

MINIMUM_RUNTIME = "2.6.0"
"""Of TensorFlow Lite: the first release that has every version of `_VERSIONS`."""


class Scheme(Enum):
    """How values and weights are stored where an operator is quantized."""

    INT8 = "int8 values, int8 weights"
    INT16 = "int16 values, int8 weights"
    DYNAMIC = "float32 values, int8 weights"


# Operators with kernels for int8 values, and those of them whose results must keep their inputs' scale.
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
_NO_INT16 = ("DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "MIRROR_PAD", "RELU6", "DEPTHWISE_CONV_2D")
# The specification fixes these results' scale.
_FIXED = {
    "LOGISTIC": (1 / 256, -128, 1 / 32768),
    "SOFTMAX": (1 / 256, -128, 1 / 32768),
    "TANH": (1 / 128, 0, 1 / 32768),
}
# The first version of each operator that takes int8 and int16 values, from TFLite's register of versions.
_VERSIONS = {
    "CONV_2D": (3, 4), "DEPTHWISE_CONV_2D": (3, 5), "TRANSPOSE_CONV": (2, 3), "FULLY_CONNECTED": (4, 7),
    "ADD": (2, 3), "SUB": (2, 5), "MUL": (2, 4), "MEAN": (2, 3), "LOGISTIC": (2, 3), "SOFTMAX": (2, 3), "RELU": (2, 3),
    "RELU6": (2, 2), "TANH": (2, 3), "RESHAPE": (1, 1), "CONCATENATION": (2, 3), "AVERAGE_POOL_2D": (2, 3),
    "MAX_POOL_2D": (2, 3), "RESIZE_BILINEAR": (3, 4), "RESIZE_NEAREST_NEIGHBOR": (3, 4), "STRIDED_SLICE": (2, 4),
    "SLICE": (2, 4), "DEPTH_TO_SPACE": (1, 1), "SPACE_TO_DEPTH": (1, 1), "PAD": (2, 3), "MIRROR_PAD": (2, 2),
    "TRANSPOSE": (2, 4), "MINIMUM": (2, 4), "MAXIMUM": (2, 4), "QUANTIZE": (1, 2), "DEQUANTIZE": (2, 3),
}  # fmt: skip


def measure_ranges(model: Any, pictures: Sequence[Mapping[str, Picture]]) -> dict[int, tuple[float, float]]:
    """Runs a float32 model on pictures, (H, W, 3) by input name -> the smallest and largest value of each value tensor.

    Every tensor is made an output of a copy of the graph: so the fast kernels still run, which an interpreter that is
    told to keep its tensors does without.
    """
    from ai_edge_litert.interpreter import Interpreter

    probe, graph = copy.copy(model), copy.copy(model.subgraphs[0])
    names = {index: graph.tensors[index].name.decode() for index in graph.inputs}
    watched = value_tensors(model)
    # Inputs are no outputs: LiteRT gives their memory to later tensors.
    graph.outputs = [index for index in watched if index not in names]
    probe.subgraphs, probe.signatureDefs = [graph], []
    interpreter = Interpreter(model_content=pack(probe), num_threads=1)
    interpreter.allocate_tensors()
    ranges: dict[int, tuple[float, float]] = {}
    for picture in pictures:
        for index, name in names.items():
            interpreter.set_tensor(index, np.ascontiguousarray(picture[name][None], np.float32))
        interpreter.invoke()
        for index in watched:
            value = picture[names[index]] if index in names else interpreter.get_tensor(index)
            low, high = ranges.get(index, (np.inf, -np.inf))
            ranges[index] = (min(low, float(value.min())), max(high, float(value.max())))
    return ranges


def value_tensors(model: Any) -> list[int]:
    """Numbers of the float32 tensors that are no constants."""
    graph = model.subgraphs[0]
    made = {index for operator in graph.operators for index in operator.outputs} | set(graph.inputs)
    return sorted(index for index in made if graph.tensors[index].type == _FLOAT32)


_FLOAT32, _INT32, _INT64, _INT16, _INT8 = 0, 2, 4, 7, 9  # TensorType of the schema


def operator_names(model: Any) -> list[str]:
    """The type of each operator of the graph, as the schema names it."""
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    return [
        names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "unknown")
        for code in (model.operatorCodes[operator.opcodeIndex] for operator in model.subgraphs[0].operators)
    ]


def quantizable(model: Any, scheme: Scheme) -> list[int]:
    """Numbers of the operators that the scheme can quantize."""
    types = CONVOLUTIONS if scheme is Scheme.DYNAMIC else (*CONVOLUTIONS, *_KEEP_SCALE, *_FREE_SCALE)
    excluded = (
        _NO_INT16 if scheme is Scheme.INT16 else ("TRANSPOSE_CONV",) if scheme is Scheme.DYNAMIC else ()
    )
    floats = set(value_tensors(model))
    return [
        index
        for index, (name, operator) in enumerate(
            zip(operator_names(model), model.subgraphs[0].operators, strict=True)
        )
        if name in types and name not in excluded and set(operator.outputs) <= floats
    ]


def quantize(
    model: Any, ranges: Mapping[int, tuple[float, float]], scheme: Scheme, keep_float: Collection[int] = ()
) -> bytes:
    """The file with every operator quantized that the scheme can, but those of ``keep_float`` (their numbers).

    Inputs and outputs stay float32. ``ranges``: smallest and largest value of each value tensor; not read for DYNAMIC.
    """
    return _Rewrite(model, ranges, scheme, set(quantizable(model, scheme)) - set(keep_float)).data()


@dataclass(frozen=True)
class _Clamp:
    """A clamp of a value tensor that becomes the end of its range."""

    tensor: int
    low: float
    high: float


class _Rewrite:
    """One pass over the graph; the tensors that it appends are the quantized twins of float ones."""

    def __init__(
        self, model: Any, ranges: Mapping[int, tuple[float, float]], scheme: Scheme, chosen: set[int]
    ) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema, self.scheme, self.chosen = schema, scheme, chosen
        self.model, self.graph = copy.copy(model), copy.copy(model.subgraphs[0])
        self.types = operator_names(model)
        self.values = set(value_tensors(model))
        self.tensors, self.buffers = list(self.graph.tensors), list(model.buffers)
        self.codes = list(model.operatorCodes)
        self.twins: dict[tuple[int, str], int] = {}
        self.read_as_float = set(self.graph.outputs).union(
            *(operator.inputs for index, operator in enumerate(self.graph.operators) if index not in chosen)
        )
        self.clamps = self._free_clamps() if scheme is Scheme.INT8 else {}
        self.numbers = {} if scheme is Scheme.DYNAMIC else self._parameters(ranges)

    def data(self) -> bytes:
        operators: list[Any] = []
        ready = set()  # twins that hold their values already
        for index, operator in enumerate(self.graph.operators):
            if index not in self.chosen:
                operators.append(operator)
                continue
            changed = copy.copy(operator)
            if self.scheme is Scheme.DYNAMIC:
                changed.inputs = [operator.inputs[0], self._weights(operator.inputs[1]), *operator.inputs[2:]]
                changed.opcodeIndex = self._code(self.types[index], 5)
                operators.append(changed)
                continue
            if index in self.clamps:
                # Its input already ends where it would cut: the same values under another number.
                source, output = self.clamps[index].tensor, operator.outputs[0]
                self.twins[output, "value"] = self._twin(source)
                if output in self.read_as_float:
                    operators.append(self._convert("DEQUANTIZE", self._twin(output), output))
                continue
            inputs = []
            for place, source in enumerate(operator.inputs):
                if source in self.values:
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
        self._require_runtime()
        return pack(_without_unused(self.model))

    def _require_runtime(self) -> None:
        """Raise the version of TensorFlow Lite that the file asks for, if it names an older one."""
        for entry in self.model.metadata or []:
            if entry.name == b"min_runtime_version":
                own = bytes(self.buffers[entry.buffer].data).rstrip(b"\0").decode()
                if [int(part) for part in own.split(".")] < [
                    int(part) for part in MINIMUM_RUNTIME.split(".")
                ]:
                    buffer = self.schema.BufferT()
                    buffer.data = np.frombuffer(MINIMUM_RUNTIME.encode().ljust(16, b"\0"), np.uint8)
                    self.buffers[entry.buffer] = buffer

    def _free_clamps(self) -> dict[int, _Clamp]:
        """Clamps that int8 gets for nothing: whose input is made for them alone, by an operator that rounds anew.

        That operator's results saturate at the ends of their range, so the range can be the clamp. As an operator of
        its own an int8 RELU took a third of a 1280x720 run.
        """
        readers: dict[int, int] = {}
        makers = {t: i for i, operator in enumerate(self.graph.operators) for t in operator.outputs}
        for operator in self.graph.operators:
            for tensor in operator.inputs:
                readers[tensor] = readers.get(tensor, 0) + 1
        found: dict[int, _Clamp] = {}
        for index in sorted(self.chosen):
            operator, name = self.graph.operators[index], self.types[index]
            values = [tensor for tensor in operator.inputs if tensor in self.values]
            constants = [tensor for tensor in operator.inputs if tensor not in self.values]
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

    def _parameters(self, ranges: Mapping[int, tuple[float, float]]) -> dict[int, tuple[float, int]]:
        """Scale and zero point of every value tensor; one for all that an operator ties together."""
        parent = {index: index for index in self.values}

        def root(index: int) -> int:
            while parent[index] != index:
                index = parent[index]
            return index

        fixed: dict[int, tuple[float, int]] = {}
        for index in sorted(self.chosen):
            operator = self.graph.operators[index]
            tied = [t for t in (*operator.inputs, *operator.outputs) if t in self.values]
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
        for tensor in self.values:
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
        return numbers

    def _twin(self, tensor: int) -> int:
        """The quantized form of a value tensor."""
        key = (tensor, "value")
        if key not in self.twins:
            scale, zero_point = self.numbers[tensor]
            kind = _INT16 if self.scheme is Scheme.INT16 else _INT8
            self.twins[key] = self._append(
                tensor, kind, self._quantization([scale], [zero_point]), None, self.tensors[tensor].shape
            )
        return self.twins[key]

    def _constant(self, index: int, place: int, tensor: int, operator: Any) -> int:
        """What a quantized operator reads in place of a constant: weights, a bias, or a plain value."""
        if tensor < 0 or self.tensors[tensor].type != _FLOAT32:
            return tensor  # shapes, axes, paddings
        if self.types[index] in CONVOLUTIONS:
            return self._weights(tensor) if place == 1 else self._bias(tensor, operator)
        values = self._array(tensor)
        low, high = float(values.min()), float(values.max())
        scale, zero_point = scale_and_zero_point(min(low, 0.0), max(high, 0.0), self.scheme)
        if self.types[index] in _KEEP_SCALE:  # the limit of a clamp
            scale, zero_point = self.numbers[operator.outputs[0]]
        limit, dtype = (32767, np.int16) if self.scheme is Scheme.INT16 else (127, np.int8)
        stored = np.clip(np.rint(values / scale) + zero_point, -limit - 1, limit).astype(dtype)
        kind = _INT16 if self.scheme is Scheme.INT16 else _INT8
        return self._append(tensor, kind, self._quantization([scale], [zero_point]), stored, values.shape)

    def _weights(self, tensor: int) -> int:
        key = (tensor, "weights")
        if key not in self.twins:
            stored, scales = quantized_weights(self._array(tensor))
            self.twins[key] = self._append(
                tensor, _INT8, self._quantization(scales.tolist(), [0] * len(scales)), stored, stored.shape
            )
        return self.twins[key]

    def _bias(self, tensor: int, operator: Any) -> int:
        scales = self.numbers[operator.inputs[0]][0] * quantized_weights(self._array(operator.inputs[1]))[1]
        dtype, kind = (np.int64, _INT64) if self.scheme is Scheme.INT16 else (np.int32, _INT32)
        limit = np.iinfo(np.int32).max
        stored = np.clip(np.rint(self._array(tensor) / scales), -limit, limit).astype(dtype)
        return self._append(
            tensor, kind, self._quantization(scales.tolist(), [0] * len(scales)), stored, stored.shape
        )

    def _array(self, tensor: int) -> NDArray[np.float32]:
        return array_of(self.model, self.tensors[tensor])

    def _quantization(self, scales: Sequence[float], zero_points: Sequence[int]) -> Any:
        quantization = self.schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = list(scales), list(zero_points)
        quantization.quantizedDimension = 0  # output channels come first in every kind of weights here
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
        """The place of an operator and version in the model's list; a later version if the graph had that already."""
        number = getattr(self.schema.BuiltinOperator, name)
        own = [c for c in self.codes if max(c.builtinCode, c.deprecatedBuiltinCode) == number]
        version = max([version, *(c.version for c in own[:1])])
        for index, code in enumerate(self.codes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == number and code.version == version:
                return index
        code = self.schema.OperatorCodeT()
        code.builtinCode, code.version = number, version
        code.deprecatedBuiltinCode = min(number, 127)
        self.codes.append(code)
        return len(self.codes) - 1


def array_of(model: Any, tensor: Any) -> NDArray[Any]:
    """The values of a constant, as they are stored."""
    dtypes = {_FLOAT32: "<f4", _INT32: "<i4", _INT64: "<i8", _INT16: "<i2", _INT8: "i1"}
    shape = () if tensor.shape is None else tuple(tensor.shape)
    return np.frombuffer(bytes(model.buffers[tensor.buffer].data), dtypes[tensor.type]).reshape(shape)


def scale_and_zero_point(low: float, high: float, scheme: Scheme) -> tuple[float, int]:
    """For values from ``low`` to ``high``; zero is always among them, and exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    if scheme is Scheme.INT16:
        return INT16_HEADROOM * max(-low, high, 1e-8) / 32767, 0
    scale = max(high - low, 1e-8) / 255
    return scale, int(np.clip(np.rint(-128 - low / scale), -128, 127))


def quantized_weights(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Float weights, output channels first -> int8 in [-127, 127] and a scale per output channel."""
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1).astype(np.float64)
    scales = np.maximum(largest, 1e-8) / 127
    stored = np.rint(weights / scales.reshape(-1, *[1] * (weights.ndim - 1)))
    return np.clip(stored, -127, 127).astype(np.int8), scales


def _without_unused(model: Any) -> Any:
    """Leaves out the buffers that no tensor reads any more: the float weights behind quantized ones."""
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
