"""Reading TFLite files: what is read, and that a hostile file is one line, whoever reads it."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from afterlens.benchmarks.operators import cut
from afterlens.conversion.lint.graph import read_graph
from afterlens.conversion.operator_counts import operator_counts
from afterlens.conversion.tflite import graph as reader
from afterlens.conversion.tflite.graph import (
    array_of,
    dequantized,
    operator_names,
    pack,
    read_tflite,
    shape_of,
)
from afterlens.training.media.errors import UserError

WEIGHTS = np.arange(8, dtype=np.float32).reshape(2, 1, 1, 4)


def tensor(name: str, shape: list[int], kind: int = schema.TensorType.FLOAT32, buffer: int = 0) -> Any:
    entry = schema.TensorT()
    entry.name, entry.shape, entry.type, entry.buffer = name.encode(), shape, kind, buffer
    return entry


def model() -> Any:
    """A 1x1 convolution, then a custom operator, with a runtime version and a signature."""
    stored = schema.BufferT()
    stored.data = np.frombuffer(WEIGHTS.tobytes(), np.uint8)
    convolution, custom = schema.OperatorT(), schema.OperatorT()
    convolution.opcodeIndex, convolution.inputs, convolution.outputs = 0, [0, 1, -1], [2]
    convolution.builtinOptionsType, convolution.builtinOptions = (
        schema.BuiltinOptions.Conv2DOptions,
        schema.Conv2DOptionsT(),
    )
    custom.opcodeIndex, custom.inputs, custom.outputs = 1, [2], [3]
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("image", [1, 4, 4, 4]),
        tensor("weights", [2, 1, 1, 4], buffer=1),
        tensor("features", [1, 4, 4, 2]),
        tensor("restored", [1, 4, 4, 2]),
    ]
    graph.operators, graph.inputs, graph.outputs = [convolution, custom], [0], [3]
    codes = []
    for number, name in ((schema.BuiltinOperator.CONV_2D, None), (schema.BuiltinOperator.CUSTOM, b"Mine")):
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.customCode = number, number, name
        codes.append(code)
    port, signature, metadata = schema.TensorMapT(), schema.SignatureDefT(), schema.MetadataT()
    port.name, port.tensorIndex = b"image", 0
    signature.inputs, signature.outputs = [port], []
    metadata.name, metadata.buffer = b"min_runtime_version", 1
    whole = schema.ModelT()
    whole.version, whole.subgraphs, whole.operatorCodes = 3, [graph], codes
    whole.buffers, whole.signatureDefs, whole.metadata = [schema.BufferT(), stored], [signature], [metadata]
    return whole


def saved(folder: Path, content: Any) -> Path:
    path = folder / "hostile.tflite"
    path.write_bytes(content if isinstance(content, bytes) else pack(content))
    return path


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    read = read_tflite(saved(tmp_path, model()))
    assert operator_names(read) == ["CONV_2D", "CUSTOM Mine"]
    tensors = read.subgraphs[0].tensors
    assert [shape_of(entry) for entry in tensors[:2]] == [(1, 4, 4, 4), (2, 1, 1, 4)]
    np.testing.assert_array_equal(array_of(read, tensors[1]), WEIGHTS)


def test_a_constant_of_a_type_that_cannot_be_read_is_named() -> None:
    whole = model()
    whole.subgraphs[0].tensors[1].type = schema.TensorType.STRING
    with pytest.raises(ValueError, match="a constant of type STRING"):
        array_of(whole, whole.subgraphs[0].tensors[1])


@pytest.mark.parametrize("axis", [0, 3])
def test_quantized_constants_are_scaled_along_their_axis(axis: int) -> None:
    whole = model()
    codes = np.array([[-128, -1, 0, 5], [127, 7, 2, -3]], np.int8).reshape(2, 1, 1, 4)
    weights = whole.subgraphs[0].tensors[1]
    scales = np.arange(1, codes.shape[axis] + 1, dtype=np.float32) / 4
    weights.type, whole.buffers[1].data = schema.TensorType.INT8, np.frombuffer(codes.tobytes(), np.uint8)
    weights.quantization = schema.QuantizationParametersT()
    weights.quantization.scale, weights.quantization.quantizedDimension = scales.tolist(), axis
    expected = np.moveaxis(np.moveaxis(codes.astype(np.float64), axis, -1) * scales, -1, axis)
    np.testing.assert_array_equal(dequantized(whole, weights), expected)


def _cut_weights(whole: Any) -> None:
    whole.buffers[1].data = whole.buffers[1].data[:-4]


def _set(path: str, value: object) -> Callable[[Any], None]:
    """A change of one field, `subgraphs.0.operators.0.opcodeIndex`."""

    def change(whole: Any) -> None:
        *road, last = path.split(".")
        place = whole
        for step in road:
            place = place[int(step)] if step.isdigit() else getattr(place, step)
        setattr(place, last, value)

    return change


HOSTILE: list[tuple[Callable[[Any], None], str]] = [
    (_set("subgraphs.0.operators.0.opcodeIndex", 2), "operator code 2 of 2"),
    (_set("subgraphs.0.operators.1.inputs", [4]), "tensor 4 of 4"),
    (_set("subgraphs.0.operators.1.inputs", [-2]), "tensor -2 of 4"),
    (_set("subgraphs.0.operators.1.outputs", [-1]), "tensor -1 of 4"),
    (_set("subgraphs.0.inputs", [9]), "tensor 9 of 4"),
    (_set("subgraphs.0.outputs", [-1]), "tensor -1 of 4"),
    (_set("subgraphs.0.tensors.1.buffer", 7), "buffer 7 of 2"),
    (_set("subgraphs.0.tensors.1.shape", [-2, 1, 1, 4]), "has the shape"),
    (_set("subgraphs.0.tensors.1.shape", [2, 1, 1, 2**30]), "has 32 bytes"),
    (_cut_weights, "has 28 bytes, its shape needs 32"),
    (_set("signatureDefs.0.inputs.0.tensorIndex", 99), "tensor 99 of 4"),
    (_set("metadata.0.buffer", 5), "buffer 5 of 2"),
    (_set("subgraphs", []), "holds 0 graphs"),
    (lambda whole: whole.subgraphs.append(whole.subgraphs[0]), "holds 2 graphs"),
]
READERS: list[Callable[[Path], object]] = [
    operator_counts,
    read_graph,
    lambda path: cut(read_tflite(path), str(path)),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_number_out_of_range_is_one_line_to_every_reader(number: int, tmp_path: Path) -> None:
    change, text = HOSTILE[number]
    whole = model()
    change(whole)
    path = saved(tmp_path, whole)
    for read in READERS:
        with pytest.raises(UserError, match=text) as caught:
            read(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_file_of_just_the_limit_is_read_and_one_byte_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, model())
    monkeypatch.setattr(reader, "MAX_BYTES", path.stat().st_size)
    assert operator_names(read_tflite(path)) == ["CONV_2D", "CUSTOM Mine"]
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UserError, match=f"larger than {reader.MAX_BYTES} bytes, this is no TFLite file"):
        read_tflite(path)


def test_the_limit_is_what_a_file_can_hold(tmp_path: Path) -> None:
    """Offsets within it are 32 bits, with a sign. It is sparse."""
    path = saved(tmp_path, model())
    os.truncate(path, 2**31 + 1)
    with pytest.raises(UserError, match="larger than 2147483648 bytes"):
        read_tflite(path)


def test_a_truncated_file_is_one_line(tmp_path: Path) -> None:
    data = pack(model())
    for size in (0, 3, 8, 20, len(data) // 2, len(data) - 40):
        with pytest.raises(UserError, match="hostile.tflite") as caught:
            read_tflite(saved(tmp_path, data[:size]))
        assert "\n" not in str(caught.value)


def test_flipped_words_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    """Every word of the file replaced in turn: whatever it was, nothing but a UserError comes out."""
    data = pack(model())
    refused = 0
    for at in range(8, len(data) - 4, 4):
        for word in (0xFFFFFFFF, 0x7FFFFFFF, 0x00010000):
            path = saved(tmp_path, data[:at] + struct.pack("<I", word) + data[at + 4 :])
            try:
                operator_names(read_tflite(path))
            except UserError as error:
                refused += 1
                assert "\n" not in str(error)
    print(f"{refused} of {3 * len(range(8, len(data) - 4, 4))} refused")
    assert refused > 0
