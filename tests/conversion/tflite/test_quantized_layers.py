"""Single layers, quantized and run: their results against the float layer's, channel by channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from afterlens.conversion.tflite.check import quantization_faults
from afterlens.conversion.tflite.graph import operator_names, pack, read_tflite
from afterlens.conversion.tflite.quantize import quantize
from afterlens.conversion.tflite.ranges import measure_ranges
from afterlens.conversion.tflite.scales import Scheme
from tests.conversion.tflite.files import File, conv_options

SIDE = 16
SHAPE = (1, SIDE, SIDE, 4)
Array = NDArray[Any]


def features(seed: int, low: float = 0.0, high: float = 1.0) -> Array:
    return np.random.default_rng(seed).uniform(low, high, SHAPE).astype(np.float32)


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run(data: bytes, picture: Array) -> Array:
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
    interpreter.invoke()
    result: Array = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return result


def quantized(model: Any, picture: Array, scheme: Scheme) -> bytes:
    return quantize(model, measure_ranges(model, [{"t0": picture[0]}]), scheme)


def errors(model: Any, data: bytes, picture: Array) -> Array:
    """The largest error of each output channel, as a share of the channel's largest value."""
    exact, got = run(pack(model), picture), run(data, picture)
    share: Array = np.abs(got - exact).max((0, 1, 2)) / np.abs(exact).max((0, 1, 2))
    print(share)
    return share


def depthwise(weights: Array, bias: Array) -> Any:
    file = File()
    image, result = file.tensor(SHAPE), file.tensor(SHAPE)
    constants = [file.tensor(weights.shape, data=weights), file.tensor(bias.shape, data=bias)]
    options = schema.DepthwiseConv2DOptionsT()
    options.strideH = options.strideW = options.depthMultiplier = 1
    options.dilationHFactor = options.dilationWFactor = 1
    file.operator("DEPTHWISE_CONV_2D", [image, *constants], [result], options)
    return file.finish([image], [result])


@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.DYNAMIC])
def test_depthwise_weights_have_a_scale_for_each_channel(scheme: Scheme, tmp_path: Path) -> None:
    size = np.array([1e-3, 1, 0.03, 0.2], np.float32)
    model = depthwise(normal(1, 1, 3, 3, 4) * size, np.zeros(4, np.float32))
    (tmp_path / "float.tflite").write_bytes(pack(model))
    data = quantized(model, features(2), scheme)
    (tmp_path / "quantized.tflite").write_bytes(data)
    tensors = read_tflite(tmp_path / "quantized.tflite").subgraphs[0].tensors
    (weights,) = [tensor for tensor in tensors if tensor.name == b"t2_quantized"]
    assert len(weights.quantization.scale) == 4 and weights.quantization.quantizedDimension == 3
    assert quantization_faults(tmp_path / "quantized.tflite", tmp_path / "float.tflite") == []
    # The results share one scale in int8, so that its steps are fine for the largest channel only.
    assert errors(model, data, features(2))[1] < 0.02
    if scheme is Scheme.DYNAMIC:
        assert errors(model, data, features(2)).max() < 0.02


def test_a_depthwise_channel_out_of_place_is_a_fault(tmp_path: Path) -> None:
    model = depthwise(normal(1, 1, 3, 3, 4), np.zeros(4, np.float32))
    other = depthwise(normal(1, 1, 3, 3, 4)[..., ::-1], np.zeros(4, np.float32))
    (tmp_path / "float.tflite").write_bytes(pack(other))
    (tmp_path / "quantized.tflite").write_bytes(quantized(model, features(2), Scheme.INT8))
    (fault,) = quantization_faults(tmp_path / "quantized.tflite", tmp_path / "float.tflite")
    assert "steps off" in fault


def transposed(weights: Array, bias: Array) -> Any:
    file = File()
    image, result = file.tensor(SHAPE), file.tensor((1, 2 * SIDE, 2 * SIDE, weights.shape[0]))
    size = np.array([1, 2 * SIDE, 2 * SIDE, weights.shape[0]], np.int32)
    constants = [file.tensor((4,), np.int32, size), file.tensor(weights.shape, data=weights)]
    options = schema.TransposeConvOptionsT()
    options.strideH = options.strideW = 2
    file.operator(
        "TRANSPOSE_CONV", [*constants, image, file.tensor(bias.shape, data=bias)], [result], options
    )
    file.model.operatorCodes[0].version = 3  # the first with a bias
    return file.finish([image], [result])


@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.INT16])
def test_a_transposed_convolution_keeps_its_bias(scheme: Scheme) -> None:
    model = transposed(normal(3, 3, 2, 2, 4), np.array([5.0, -3.0, 0.1], np.float32))
    assert errors(model, quantized(model, features(4), scheme), features(4)).max() < 0.03


def convolution(weights: Array, bias: Array) -> Any:
    file = File()
    image, result = file.tensor(SHAPE), file.tensor((1, SIDE, SIDE, len(weights)))
    constants = [file.tensor(weights.shape, data=weights), file.tensor(bias.shape, data=bias)]
    file.operator("CONV_2D", [image, *constants], [result], conv_options())
    return file.finish([image], [result])


@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.INT16])
@pytest.mark.parametrize("size", [0.0, 1e-9])
def test_a_channel_of_nothing_but_bias_keeps_it(scheme: Scheme, size: float) -> None:
    weights, bias = normal(5, 3, 3, 3, 4), np.array([0.1, 2.0, -4.0], np.float32)
    weights[1] *= size
    model = convolution(weights, bias)
    assert errors(model, quantized(model, features(6), scheme), features(6)).max() < 0.05


def clamped(limit: float, beside: str) -> Any:
    """concat(min(relu(conv(image)), limit), the image, or its sigmoid)."""
    file = File()
    image = file.tensor(SHAPE)
    weights = normal(7, 4, 3, 3, 4)
    made, positive, cut, other = (file.tensor(SHAPE) for _ in range(4))
    result = file.tensor((*SHAPE[:3], 8))
    constants = [file.tensor(weights.shape, data=weights), file.tensor((4,), data=np.zeros(4))]
    file.operator("CONV_2D", [image, *constants], [made], conv_options())
    file.operator("RELU", [made], [positive])
    file.operator(
        "MINIMUM", [positive, file.tensor((), data=np.array(limit))], [cut], schema.MaximumMinimumOptionsT()
    )
    if beside == "sigmoid":
        file.operator("LOGISTIC", [image], [other])
    else:
        other = image
    options = schema.ConcatenationOptionsT()
    options.axis = 3
    file.operator("CONCATENATION", [cut, other], [result], options)
    return file.finish([image], [result])


@pytest.mark.parametrize(("low", "high"), [(-2.0, 3.0), (0.0, 3.0), (-1.0, 0.5), (-2.0, -0.5)])
@pytest.mark.parametrize("beside", ["image", "sigmoid"])
def test_a_clamp_cuts_nothing_but_its_own_tensor(low: float, high: float, beside: str) -> None:
    model, picture = clamped(0.5, beside), features(8, low, high)
    exact = run(pack(model), picture)
    got = run(quantized(model, picture, Scheme.INT8), picture)
    before = run(pack(convolution(normal(7, 4, 3, 3, 4), np.zeros(4, np.float32))), picture)
    step = max(np.ptp(exact), np.ptp(before)) / 255  # of the range that the tensors share
    print(f"largest error {np.abs(got - exact).max() / step:.2f} steps")
    assert np.abs(got - exact).max() < 4 * step
    assert got[..., :4].max() < 0.5 + step and got[..., :4].min() > -step


def test_a_clamp_that_suits_its_tensors_still_costs_nothing(tmp_path: Path) -> None:
    model, picture = clamped(0.5, "image"), features(8, 0.0, 0.5)
    path = tmp_path / "quantized.tflite"
    path.write_bytes(quantized(model, picture, Scheme.INT8))
    assert not {"RELU", "MINIMUM"} & set(operator_names(read_tflite(path)))


def limited(kind: str, limit: float) -> Any:
    """The image, cut at a limit."""
    file = File()
    image, result = file.tensor(SHAPE), file.tensor(SHAPE)
    numbers = [image, file.tensor((), data=np.array(limit))]
    file.operator(kind, numbers, [result], schema.MaximumMinimumOptionsT())
    return file.finish([image], [result])


@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.INT16])
@pytest.mark.parametrize(("kind", "limit"), [("MINIMUM", 9.0), ("MAXIMUM", -9.0)])
def test_a_limit_that_nothing_reaches_is_right_at_the_end_of_the_range(
    kind: str, limit: float, scheme: Scheme, tmp_path: Path
) -> None:
    model, picture = limited(kind, limit), features(9, -1.0, 2.0)
    (tmp_path / "float.tflite").write_bytes(pack(model))
    data = quantized(model, picture, scheme)
    (tmp_path / "quantized.tflite").write_bytes(data)
    assert errors(model, data, picture).max() < 0.01
    assert quantization_faults(tmp_path / "quantized.tflite", tmp_path / "float.tflite") == []


@pytest.mark.parametrize(
    ("kind", "limit", "stored"),
    [("MINIMUM", 9.0, 126), ("MAXIMUM", -9.0, 127), ("MAXIMUM", -9.0, -127), ("MINIMUM", 0.5, 127)],
    ids=["short of the end", "at the wrong end", "short of the lower end", "reached"],
)
def test_a_limit_elsewhere_is_a_fault(kind: str, limit: float, stored: int, tmp_path: Path) -> None:
    model = limited(kind, limit)
    (tmp_path / "float.tflite").write_bytes(pack(model))
    (tmp_path / "quantized.tflite").write_bytes(quantized(model, features(9, -1.0, 2.0), Scheme.INT8))
    damaged = read_tflite(tmp_path / "quantized.tflite")
    (constant,) = [tensor for tensor in damaged.subgraphs[0].tensors if tensor.name == b"t2_quantized"]
    damaged.buffers[constant.buffer].data = np.array([stored], np.int8).view(np.uint8)
    (tmp_path / "quantized.tflite").write_bytes(pack(damaged))
    (fault,) = quantization_faults(tmp_path / "quantized.tflite", tmp_path / "float.tflite")
    assert "steps off" in fault


@pytest.mark.parametrize(
    ("scales", "axis"),
    [([0.1] * 3, 3), ([0.1] * 5, 3), ([0.1] * 4, 4), ([0.1] * 4, 1)],
    ids=["too few", "too many", "no such axis", "another axis"],
)
def test_scales_that_do_not_fit_the_weights_are_a_fault_and_no_crash(
    scales: list[float], axis: int, tmp_path: Path
) -> None:
    model = depthwise(normal(1, 1, 3, 3, 4), np.zeros(4, np.float32))
    (tmp_path / "float.tflite").write_bytes(pack(model))
    (tmp_path / "quantized.tflite").write_bytes(quantized(model, features(2), Scheme.INT8))
    damaged = read_tflite(tmp_path / "quantized.tflite")
    (weights,) = [tensor for tensor in damaged.subgraphs[0].tensors if tensor.name == b"t2_quantized"]
    weights.quantization.scale, weights.quantization.zeroPoint = scales, [0] * len(scales)
    weights.quantization.quantizedDimension = axis
    (tmp_path / "quantized.tflite").write_bytes(pack(damaged))
    (fault,) = quantization_faults(tmp_path / "quantized.tflite", tmp_path / "float.tflite")
    assert fault == f"constant 't2' has {len(scales)} scales for (1, 3, 3, 4)"
