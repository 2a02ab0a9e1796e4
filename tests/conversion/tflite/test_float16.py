"""Constants of a float32 file as float16: half the bytes, the same results, and no constant lost."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from afterlens.conversion.tflite.float16 import as_halves, float16_constants
from afterlens.conversion.tflite.graph import array_of, operator_names, read_tflite
from tests.conversion.tflite.files import File, conv_options

SHAPE = (1, 4, 5, 3)


def _shares(path: Path, epsilon: float) -> Path:
    """``x / (x + epsilon)``, then a 1x1 convolution to 16 channels."""
    file = File()
    x, total, share, result = (file.tensor(s) for s in (SHAPE, SHAPE, SHAPE, (1, 4, 5, 16)))
    constant = file.tensor((1,), data=np.array([epsilon]))
    weights = file.tensor((16, 1, 1, 3), data=np.random.default_rng(0).normal(size=(16, 1, 1, 3)))
    bias = file.tensor((16,), data=np.linspace(-1, 1, 16))
    file.operator("ADD", [x, constant], [total], schema.AddOptionsT())
    file.operator("DIV", [x, total], [share], schema.DivOptionsT())
    file.operator("CONV_2D", [share, weights, bias], [result], conv_options())
    return file.write(path, [x], [result])


def _run(data: bytes, value: NDArray[Any]) -> NDArray[Any]:
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], value.astype(np.float32))
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


@pytest.mark.parametrize("epsilon", [1e-3, 1e-6, 1e-8, 1e-20])
def test_tiny_constants_are_kept(epsilon: float, tmp_path: Path) -> None:
    source = _shares(tmp_path / "float32.tflite", epsilon)
    data = float16_constants(read_tflite(source))
    for value in (np.zeros(SHAPE), np.ones(SHAPE), np.random.default_rng(1).random(SHAPE)):
        got, expected = _run(data, value), _run(source.read_bytes(), value)
        print(epsilon, np.abs(got - expected).max())
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, expected, atol=3e-3)


def test_weights_are_the_nearest_halves(tmp_path: Path) -> None:
    source = read_tflite(_shares(tmp_path / "float32.tflite", 1e-3))
    (tmp_path / "float16.tflite").write_bytes(float16_constants(source))
    model = read_tflite(tmp_path / "float16.tflite")
    assert operator_names(model) == ["DEQUANTIZE"] * 3 + ["ADD", "DIV", "CONV_2D"]
    stored = {t.name: array_of(model, t) for t in model.subgraphs[0].tensors if t.name.endswith(b"_float16")}
    for tensor in source.subgraphs[0].tensors:
        if source.buffers[tensor.buffer].data is not None:
            halves = stored[tensor.name + b"_float16"]
            assert halves.dtype == np.float16
            np.testing.assert_array_equal(halves, array_of(source, tensor).astype(np.float16))


def test_nothing_is_stored_twice(tmp_path: Path) -> None:
    source = read_tflite(_shares(tmp_path / "float32.tflite", 1e-3))
    (tmp_path / "float16.tflite").write_bytes(float16_constants(source))
    model = read_tflite(tmp_path / "float16.tflite")

    def stored(file: Any) -> dict[int, int]:
        return {
            i: len(buffer.data)
            for i, buffer in enumerate(file.buffers)
            if buffer.data is not None and len(buffer.data)
        }

    print(stored(source), stored(model))
    read = {tensor.buffer for tensor in model.subgraphs[0].tensors}
    read |= {entry.buffer for entry in model.metadata or []}
    assert stored(model).keys() <= read
    constants = [
        sum(stored(file)[t.buffer] for t in file.subgraphs[0].tensors if t.buffer in stored(file))
        for file in (source, model)
    ]
    assert constants[0] == 4 * (1 + 16 * 3 + 16) and 2 * constants[1] == constants[0]


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([1e-8], True),
        ([0.5, 1e-8], True),
        ([1e-8] + [0.5] * 15, True),  # the most values that may be kept
        ([1e-8] + [0.5] * 16, False),  # weights: one that is lost is as good as zero
        ([0.0, -0.0], False),
        ([6e-8], False),  # float16's smallest
        ([1e5], True),
        ([-1e5, 2.0], True),
        ([65504.0], False),  # and its largest
        ([np.inf, -np.inf], False),  # as float16 they are the same
        ([np.inf, 1e-8], True),
    ],
    ids=str,
)
def test_constants_of_few_values_stay_float32_where_one_would_be_lost(
    values: list[float], kept: bool
) -> None:
    constant = np.array(values, np.float32)
    with np.errstate(over="ignore"):
        halves = constant.astype(np.float16)
    got = as_halves(constant)
    assert (got is None) == kept
    if got is not None:
        np.testing.assert_array_equal(got, halves)


def _with_codes(codes: dict[str, int], path: Path) -> Any:
    """The file, its operator codes in these versions, with another operator that dequantizes where that is among them."""
    file = File()
    x, made = file.tensor(SHAPE), file.tensor(SHAPE)
    bias = file.tensor((3,), data=np.linspace(-1, 1, 3))
    file.operator("ADD", [x, bias], [made], schema.AddOptionsT())
    model = file.finish([x], [made])
    for kind, version in codes.items():
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        code.version = version
        model.operatorCodes.append(code)
    path.write_bytes(float16_constants(model))
    return read_tflite(path)


@pytest.mark.parametrize(
    ("codes", "place", "version"),
    [
        ({}, 1, 3),
        ({"MUL": 4}, 2, 3),
        ({"DEQUANTIZE": 2}, 2, 3),  # it takes no float16
        ({"DEQUANTIZE": 3}, 1, 3),
        ({"MUL": 1, "DEQUANTIZE": 5}, 2, 5),
    ],
    ids=str,
)
def test_constants_are_widened_by_an_operator_that_takes_float16(
    codes: dict[str, int], place: int, version: int, tmp_path: Path
) -> None:
    model = _with_codes(codes, tmp_path / "float16.tflite")
    widening = model.subgraphs[0].operators[0]
    assert operator_names(model) == ["DEQUANTIZE", "ADD"]
    assert (widening.opcodeIndex, model.operatorCodes[place].version) == (place, version)
    assert len(model.operatorCodes) == max(len(codes) + 1, place + 1)


@pytest.mark.parametrize(("own", "expected"), [("1.5.0", "1.15.0"), ("1.15.0", "1.15.0"), ("2.3.0", "2.3.0")])
def test_the_metadata_stays_and_asks_for_a_runtime_that_widens(
    own: str, expected: str, tmp_path: Path
) -> None:
    """The first that takes float16 there."""
    source = read_tflite(_shares(tmp_path / "float32.tflite", 1e-3))
    source.metadata = []
    for name, text in ((b"min_runtime_version", own), (b"more", "something")):
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(text.encode().ljust(16, b"\0"), np.uint8)
        source.buffers.append(buffer)
        entry.name, entry.buffer = name, len(source.buffers) - 1
        source.metadata.append(entry)
    (tmp_path / "float16.tflite").write_bytes(float16_constants(source))
    model = read_tflite(tmp_path / "float16.tflite")
    kept = {
        entry.name: bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode() for entry in model.metadata
    }
    assert kept == {b"min_runtime_version": expected, b"more": "something"}
    assert bytes(source.buffers[-2].data).rstrip(b"\0").decode() == own  # the float32 file's own


def test_the_slope_of_a_leaky_relu_is_rounded_too(tmp_path: Path) -> None:
    file = File()
    x, result = file.tensor(SHAPE), file.tensor(SHAPE)
    options = schema.LeakyReluOptionsT()
    options.alpha = 0.2
    file.operator("LEAKY_RELU", [x], [result], options)
    model = read_tflite(file.write(tmp_path / "leaky.tflite", [x], [result]))
    data = float16_constants(model)
    got = _run(data, np.full(SHAPE, -1.0))
    np.testing.assert_array_equal(got, np.full(SHAPE, -np.float32(np.float16(0.2))))
    assert model.subgraphs[0].operators[0].builtinOptions.alpha == np.float32(0.2)  # the float32 file's own
