"""What the quantizer must leave alone, what the specification fixes, and ranges that are always covered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from afterlens.conversion.tflite.graph import builtin_number, operator_names, pack, read_tflite
from afterlens.conversion.tflite.quantize import _VERSIONS, quantizable, quantize
from afterlens.conversion.tflite.ranges import covering, extremes, measure_ranges
from afterlens.conversion.tflite.scales import Scheme
from afterlens.training.deployable import Port
from tests.conversion.tflite.files import File, conv_options
from tests.conversion.tflite.test_quantized_layers import SHAPE, features, normal, run

WIDE = features(3, -2.0, 2.0)


def convolved(file: File) -> tuple[int, int]:
    """An image and its convolution, of which half the values are negative."""
    image, made = file.tensor(SHAPE), file.tensor(SHAPE)
    constants = [
        file.tensor((4, 3, 3, 4), data=normal(7, 4, 3, 3, 4)),
        file.tensor((4,), data=np.zeros(4, np.float32)),
    ]
    file.operator("CONV_2D", [image, *constants], [made], conv_options())
    return image, made


def quantized(model: Any, scheme: Scheme, path: Path) -> Any:
    """The quantized model as it is read back."""
    path.write_bytes(quantize(model, measure_ranges(model, [{"t0": WIDE[0]}]), scheme))
    return read_tflite(path)


def steps_off(model: Any, path: Path) -> float:
    """The largest error of the first output, in steps of its range."""
    exact, got = run(pack(model), WIDE), run(path.read_bytes(), WIDE)
    return float(np.abs(got - exact).max() / (np.ptp(exact) / 255))


def test_a_clamp_whose_input_is_read_elsewhere_is_not_folded(tmp_path: Path) -> None:
    file = File()
    image, made = convolved(file)
    positive, total = file.tensor(SHAPE), file.tensor(SHAPE)
    file.operator("RELU", [made], [positive])
    file.operator("ADD", [made, positive], [total], schema.AddOptionsT())
    model = file.finish([image], [total])
    after = quantized(model, Scheme.INT8, tmp_path / "q.tflite")
    assert "RELU" in operator_names(after)
    assert run((tmp_path / "q.tflite").read_bytes(), WIDE).min() < 0.5 * run(pack(model), WIDE).min() < 0
    assert steps_off(model, tmp_path / "q.tflite") < 4


def test_a_clamp_whose_input_is_an_output_is_not_folded(tmp_path: Path) -> None:
    file = File()
    image, made = convolved(file)
    positive = file.tensor(SHAPE)
    file.operator("RELU", [made], [positive])
    model = file.finish([image], [made, positive])
    assert "RELU" in operator_names(quantized(model, Scheme.INT8, tmp_path / "q.tflite"))
    assert steps_off(model, tmp_path / "q.tflite") < 4


def test_a_clamp_that_does_not_hold_zero_is_not_folded(tmp_path: Path) -> None:
    file = File()
    image, made = convolved(file)
    high = file.tensor(SHAPE)
    limit = file.tensor((1,), data=np.array([0.5], np.float32))
    positive = file.tensor(SHAPE)
    file.operator("RELU", [made], [positive])
    file.operator("MAXIMUM", [positive, limit], [high], schema.MaximumMinimumOptionsT())
    model = file.finish([image], [high])
    ranges = dict.fromkeys((image, made, positive, high), (-2.0, 2.0))
    (tmp_path / "q.tflite").write_bytes(quantize(model, ranges, Scheme.INT8))
    assert "MAXIMUM" in operator_names(read_tflite(tmp_path / "q.tflite"))


def limit(file: File, kind: str, source: int, *values: float, shape: tuple[int, ...] = ()) -> int:
    """The result of a clamp; one of kind RELU has no limit."""
    result = file.tensor(SHAPE)
    constants = [file.tensor(shape, data=np.array(values, np.float32).reshape(shape))] if values else []
    options = schema.MaximumMinimumOptionsT() if kind in ("MINIMUM", "MAXIMUM") else None
    file.operator(kind, [source, *constants], [result], options)
    return result


def summed(file: File, *sources: int) -> int:
    result = file.tensor(SHAPE)
    file.operator("ADD", [*sources], [result], schema.AddOptionsT())
    return result


def pooled(file: File, source: int) -> int:
    result = file.tensor(SHAPE)
    options = schema.Pool2DOptionsT()
    options.strideH = options.strideW = options.filterHeight = options.filterWidth = 1
    file.operator("MAX_POOL_2D", [source], [result], options)
    return result


CLAMPS: dict[str, tuple[Any, tuple[str, ...]]] = {
    # Of the file, the image and its convolution; and the clamps that are still there in int8. Those that do not reach
    # beyond zero are of a sum: behind a padded convolution in float, LiteRT's kernels refuse them or crop the picture.
    "from below": (lambda f, i, m: limit(f, "RELU", m), ()),
    "from above": (lambda f, i, m: limit(f, "MINIMUM", m, 0.5), ()),
    "by a limit with axes": (lambda f, i, m: limit(f, "MINIMUM", m, 0.5, shape=(1, 1, 1, 1)), ()),
    "below zero": (lambda f, i, m: limit(f, "MAXIMUM", m, -0.5), ()),
    "at zero": (lambda f, i, m: limit(f, "MINIMUM", summed(f, m, i), 0.0), ()),
    "on both sides": (lambda f, i, m: limit(f, "MINIMUM", limit(f, "RELU", m), 1.0), ()),
    "of a sum": (lambda f, i, m: limit(f, "RELU", summed(f, m, i)), ()),
    "above zero": (lambda f, i, m: limit(f, "MAXIMUM", summed(f, m, i), 0.1), ("MAXIMUM",)),
    "below a number below zero": (lambda f, i, m: limit(f, "MINIMUM", summed(f, m, i), -0.1), ("MINIMUM",)),
    "by a limit for each channel": (
        lambda f, i, m: limit(f, "MINIMUM", m, 0.1, 0.2, 0.3, 0.4, shape=(1, 1, 1, 4)),
        ("MINIMUM",),
    ),
    "by another picture": (
        lambda f, i, m: (
            f.operator("MINIMUM", [m, i], [r := f.tensor(SHAPE)], schema.MaximumMinimumOptionsT()) or r
        ),
        ("MINIMUM",),
    ),
    "of the image": (lambda f, i, m: summed(f, m, limit(f, "RELU", i)), ("RELU",)),
    "of a sigmoid": (lambda f, i, m: limit(f, "MINIMUM", limit(f, "LOGISTIC", m), 0.5), ("MINIMUM",)),
    "of what keeps its scale": (lambda f, i, m: limit(f, "RELU", pooled(f, m)), ("RELU",)),
    "to six": (lambda f, i, m: limit(f, "RELU6", m), ("RELU6",)),
    "of what int8 cannot": (lambda f, i, m: limit(f, "RELU", limit(f, "SIN", m)), ("RELU",)),
}


@pytest.mark.parametrize(("make", "left"), CLAMPS.values(), ids=CLAMPS)
def test_a_clamp_is_folded_where_the_range_can_be_its_limit(
    make: Any, left: tuple[str, ...], tmp_path: Path
) -> None:
    file = File()
    image, made = convolved(file)
    result = make(file, image, made)
    model = file.finish([image], [result])
    kinds = [kind for kind in operator_names(model) if kind in ("RELU", "RELU6", "MINIMUM", "MAXIMUM")]
    after = operator_names(quantized(model, Scheme.INT8, tmp_path / "q.tflite"))
    assert [kind for kind in after if kind in ("RELU", "RELU6", "MINIMUM", "MAXIMUM")] == list(left)
    widest = np.ptp(measure_ranges(model, [{"t0": WIDE[0]}])[made])
    exact, got = run(pack(model), WIDE), run((tmp_path / "q.tflite").read_bytes(), WIDE)
    print(f"{np.abs(got - exact).max() / widest * 255:.1f} steps of the convolution's range")
    assert np.abs(got - exact).max() < 8 * widest / 255
    if "RELU6" not in kinds:  # which int16 has none for
        wide = operator_names(quantized(model, Scheme.INT16, tmp_path / "q.tflite"))
        assert [kind for kind in wide if kind in kinds] == kinds


def test_a_clamp_of_an_operator_in_float_is_not_folded(tmp_path: Path) -> None:
    file = File()
    image, made = convolved(file)
    model = file.finish([image], [limit(file, "RELU", made)])
    ranges = measure_ranges(model, [{"t0": WIDE[0]}])
    for keep, kinds in (
        ([], ["QUANTIZE", "CONV_2D", "DEQUANTIZE"]),
        ([0], ["CONV_2D", "QUANTIZE", "RELU", "DEQUANTIZE"]),
        ([1], ["QUANTIZE", "CONV_2D", "DEQUANTIZE", "RELU"]),
        ([0, 1], ["CONV_2D", "RELU"]),
    ):
        (tmp_path / "q.tflite").write_bytes(quantize(model, ranges, Scheme.INT8, keep))
        assert operator_names(read_tflite(tmp_path / "q.tflite")) == kinds
        assert steps_off(model, tmp_path / "q.tflite") < 4


@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.INT16])
def test_what_several_read_is_converted_once(scheme: Scheme, tmp_path: Path) -> None:
    """The image by two integer operators, and their sum by two float ones and the app."""
    file = File()
    image, made = convolved(file)
    total = summed(file, image, made)
    waves = [limit(file, "SIN", total), limit(file, "COS", total)]
    model = file.finish([image], [total, *waves])
    after = operator_names(quantized(model, scheme, tmp_path / "q.tflite"))
    assert sorted(after) == ["ADD", "CONV_2D", "COS", "DEQUANTIZE", "QUANTIZE", "SIN"]


@pytest.mark.parametrize("scheme", Scheme)
def test_nothing_is_in_the_file_that_nothing_reads(scheme: Scheme, tmp_path: Path) -> None:
    """A matrix product without a bias has no tensor in its place."""
    file = File()
    image, made = file.tensor(SHAPE), file.tensor(SHAPE)
    options = schema.FullyConnectedOptionsT()
    options.keepNumDims = True
    file.operator("FULLY_CONNECTED", [image, file.tensor((4, 4), data=normal(7, 4, 4)), -1], [made], options)
    model = file.finish([image], [made])
    after = quantized(model, scheme, tmp_path / "q.tflite")
    graph = after.subgraphs[0]
    read = {*graph.inputs, *graph.outputs}.union(*(operator.inputs for operator in graph.operators)) - {-1}
    assert read == set(range(len(graph.tensors)))
    assert sorted({tensor.buffer for tensor in graph.tensors} | {0}) == list(range(len(after.buffers)))
    (product,) = (o for o in graph.operators if len(o.inputs) == 3)
    assert product.inputs[2] == -1
    assert steps_off(model, tmp_path / "q.tflite") < 4


@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.INT16])
@pytest.mark.parametrize(
    ("kind", "int8", "int16"),
    [
        ("LOGISTIC", (1 / 256, -128), (1 / 32768, 0)),
        ("SOFTMAX", (1 / 256, -128), (1 / 32768, 0)),
        ("TANH", (1 / 128, 0), (1 / 32768, 0)),
    ],
)
def test_scales_that_the_specification_fixes(
    tmp_path: Path, scheme: Scheme, kind: str, int8: tuple[float, int], int16: tuple[float, int]
) -> None:
    file = File()
    image, made = convolved(file)
    result = file.tensor(SHAPE)
    options = schema.SoftmaxOptionsT() if kind == "SOFTMAX" else None
    if options is not None:
        options.beta = 1.0
    file.operator(kind, [made], [result], options)
    model = file.finish([image], [result])
    after = quantized(model, scheme, tmp_path / "q.tflite")
    graph = after.subgraphs[0]
    (operator,) = [o for o, n in zip(graph.operators, operator_names(after), strict=True) if n == kind]
    numbers = graph.tensors[operator.outputs[0]].quantization
    wanted = int16 if scheme is Scheme.INT16 else int8
    assert (numbers.scale[0], numbers.zeroPoint[0]) == (pytest.approx(wanted[0], rel=1e-6), wanted[1])


def test_int16_keeps_four_times_the_range_that_the_pictures_had(tmp_path: Path) -> None:
    file = File()
    image, made = convolved(file)
    model = file.finish([image], [made])
    ranges = measure_ranges(model, [{"t0": WIDE[0]}])
    after = quantized(model, Scheme.INT16, tmp_path / "q.tflite")
    for tensor in after.subgraphs[0].tensors:
        if tensor.type == schema.TensorType.INT16:
            index = int(tensor.name.decode().removesuffix("_quantized")[1:])
            largest = max(abs(end) for end in ranges[index])
            assert tensor.quantization.scale[0] == pytest.approx(4.0 * largest / 32767, rel=1e-6)
            assert list(tensor.quantization.zeroPoint) == [0]


# The first versions that take int8 and int16 activations (register.cc of TensorFlow Lite).
VERSIONS = {"CONV_2D": (3, 4), "RESIZE_BILINEAR": (3, 4), "QUANTIZE": (1, 2), "DEQUANTIZE": (2, 3)}


@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.INT16])
def test_operators_have_the_versions_that_their_types_need(tmp_path: Path, scheme: Scheme) -> None:
    file = File()
    image, made = convolved(file)
    large = file.tensor((1, 2 * SHAPE[1], 2 * SHAPE[2], SHAPE[3]))
    options = schema.ResizeBilinearOptionsT()
    options.halfPixelCenters = True
    size = file.tensor((2,), np.int32, np.array([2 * SHAPE[1], 2 * SHAPE[2]], np.int32))
    file.operator("RESIZE_BILINEAR", [made, size], [large], options)
    for code in file.model.operatorCodes:
        code.version = 1
    model = file.finish([image], [large])
    after = quantized(model, scheme, tmp_path / "q.tflite")
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    used = {operator.opcodeIndex for operator in after.subgraphs[0].operators}
    found = {
        names[builtin_number(code)]: code.version for i, code in enumerate(after.operatorCodes) if i in used
    }
    assert found == {name: pair[scheme is Scheme.INT16] for name, pair in VERSIONS.items()}
    assert len({(builtin_number(code), code.version) for code in after.operatorCodes}) == len(
        after.operatorCodes
    )
    assert steps_off(model, tmp_path / "q.tflite") < 4


PAIR = {
    **{"ADD": (2, 3), "MUL": (2, 4), "SUB": (2, 5), "MINIMUM": (2, 4), "MAXIMUM": (2, 4)},
    **{"RELU": (2, 3), "TANH": (2, 3), "LOGISTIC": (2, 3)},
}
"""The first versions that take int8 and int16, read from TensorFlow's op_version.cc once more."""


@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.INT16])
@pytest.mark.parametrize("kind", PAIR)
def test_element_by_element_operators_have_the_versions_that_their_types_need(
    kind: str, scheme: Scheme, tmp_path: Path
) -> None:
    file = File()
    image, made = convolved(file)
    result = file.tensor(SHAPE)
    options = {"ADD": schema.AddOptionsT, "MUL": schema.MulOptionsT, "SUB": schema.SubOptionsT}.get(
        kind, schema.MaximumMinimumOptionsT
    )
    one = kind in ("RELU", "TANH", "LOGISTIC")
    # Of the image: a clamp of the convolution would be folded into it.
    file.operator(kind, [image] if one else [made, image], [result], None if one else options())
    model = file.finish([image], [made, result])
    after = quantized(model, scheme, tmp_path / "q.tflite")
    (version,) = (
        after.operatorCodes[operator.opcodeIndex].version
        for operator, name in zip(after.subgraphs[0].operators, operator_names(after), strict=True)
        if name == kind
    )
    assert version == PAIR[kind][scheme is Scheme.INT16]
    codes = [(builtin_number(code), code.version) for code in after.operatorCodes]
    assert len(set(codes)) == len(codes)  # though two results are converted to float32


@pytest.mark.parametrize(("own", "expected"), [("1.5.0", "2.6.0"), ("2.10.0", "2.10.0"), ("2.6.0", "2.6.0")])
def test_the_minimum_runtime_is_raised_and_never_lowered(tmp_path: Path, own: str, expected: str) -> None:
    file = File()
    image, made = convolved(file)
    model = file.finish([image], [made])
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(own.encode().ljust(16, b"\0"), np.uint8)
    model.buffers.append(buffer)
    entry.name, entry.buffer = b"min_runtime_version", len(model.buffers) - 1
    model.metadata = [entry]
    after = quantized(model, Scheme.INT8, tmp_path / "q.tflite")
    (found,) = after.metadata
    assert bytes(after.buffers[found.buffer].data).rstrip(b"\0").decode() == expected


REST = {
    **{
        "CONCATENATION": (2, 3),
        "AVERAGE_POOL_2D": (2, 3),
        "MAX_POOL_2D": (2, 3),
        "SLICE": (2, 4),
        "PAD": (2, 3),
    },
    **{
        "MEAN": (2, 3),
        "SOFTMAX": (2, 3),
        "FULLY_CONNECTED": (4, 7),
        "DEPTHWISE_CONV_2D": (3, 5),
        "RELU6": (2, 2),
    },
    **{"TRANSPOSE_CONV": (2, 3), "RESIZE_NEAREST_NEIGHBOR": (3, 4), "MIRROR_PAD": (2, 2), "RESHAPE": (1, 1)},
    # op_version.cc has 5 for a transpose of int16; runtimes take any version up to their own.
    **{"DEPTH_TO_SPACE": (2, 2), "SPACE_TO_DEPTH": (2, 2), "TRANSPOSE": (2, 4)},
    # It has no rule for int16; the fifth version takes strings.
    "STRIDED_SLICE": (2, 4),
}
"""Those of all others, from op_version.cc."""


def test_the_table_of_versions_is_whole_and_has_those_of_tensorflow() -> None:
    assert {**VERSIONS, **PAIR, **REST} == _VERSIONS


WITHOUT_INT16 = {"DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "MIRROR_PAD", "RELU6", "DEPTHWISE_CONV_2D"}
"""TFLite has no kernels for them."""


@pytest.mark.parametrize(
    "kind", [*sorted({*VERSIONS, *PAIR, *REST} - {"QUANTIZE", "DEQUANTIZE"}), "SIN", "DIV"]
)
def test_each_scheme_takes_the_operators_that_there_are_kernels_for(kind: str) -> None:
    file = File()
    image, result = file.tensor(SHAPE), file.tensor(SHAPE)
    # The first input of a transposed convolution is its output's shape; those of others are read in this order.
    weights = file.tensor((4,), data=np.zeros(4))
    file.operator(kind, [weights, weights, image] if kind == "TRANSPOSE_CONV" else [image, weights], [result])
    model = file.finish([image], [result])
    wanted = {
        Scheme.INT8: kind not in ("SIN", "DIV"),
        Scheme.INT16: kind not in {"SIN", "DIV", *WITHOUT_INT16},
        Scheme.DYNAMIC: kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"),
    }
    assert {scheme: quantizable(model, scheme) == [0] for scheme in Scheme} == wanted


@pytest.mark.parametrize("scheme", Scheme)
def test_operators_of_whole_numbers_and_products_with_the_weights_first_stay(scheme: Scheme) -> None:
    file = File()
    image, weights = file.tensor(SHAPE), file.tensor((4, 4), data=np.zeros((4, 4)))
    number, whole = file.tensor((4,), np.int32), file.tensor((4,), np.int32)
    one, two = file.tensor(SHAPE), file.tensor(SHAPE)
    file.operator("RESHAPE", [number], [whole])
    file.operator("FULLY_CONNECTED", [weights, image], [one])
    file.operator("FULLY_CONNECTED", [image, weights], [two])
    assert quantizable(file.finish([image, number], [whole, one, two]), scheme) == [2]


# Ranges


def test_extremes_reach_both_ends_of_every_input_that_is_no_class() -> None:
    hazy = 0.1 + 0.6 * features(1)[0, :, :, :3]
    shape = (1, 3, *hazy.shape[:2])
    ports = (
        Port("image", shape, (0.0, 1.0)),
        Port("signed", shape, (-1.0, 1.0)),
        Port("strength", (1, 4), (2.0, 5.0), kind="vector"),
        Port("style", (1, 3), (0.0, 1.0), kind="class"),
    )
    style = np.array([0.0, 1.0, 0.0], np.float32)
    given = {"image": hazy, "signed": hazy, "strength": np.full(4, 3.0, np.float32), "style": style}
    low, high, stretched = extremes([given, given], ports)
    for port in ports[:3]:
        assert low[port.name].min() == low[port.name].max() == port.range[0]
        assert high[port.name].min() == high[port.name].max() == port.range[1]
        assert all(made[port.name].shape == given[port.name].shape for made in (low, high, stretched))
    for made in (low, high, stretched):
        assert np.array_equal(made["style"], style)
    assert (stretched["signed"].min(), stretched["signed"].max()) == pytest.approx((-1.0, 1.0))
    assert np.corrcoef(stretched["image"].ravel(), hazy.ravel())[0, 1] > 0.999
    assert extremes([], ports) == []


def test_declared_ranges_are_covered_and_nothing_is_narrowed() -> None:
    file = File()
    image, made = convolved(file)
    model = file.finish([image], [made])
    ports = (Port("t0", (1, 4, 16, 16), (0.0, 1.0)), Port("t1", (1, 4, 16, 16), (-9.0, 0.5)))
    ranges = {image: (0.2, 1.5), made: (-3.0, 2.0)}
    model.subgraphs[0].tensors[made].name = b"t1"
    assert covering(model, ranges, ports) == {image: (0.0, 1.5), made: (-9.0, 2.0)}
    assert ranges == {image: (0.2, 1.5), made: (-3.0, 2.0)}


def test_white_is_white_though_no_calibration_picture_was(tmp_path: Path) -> None:
    """The fault that started this: hazy pictures end at 0.88, and so did all that came out."""
    file = File()
    image, made = convolved(file)
    model = file.finish([image], [made])
    hazy = (0.08 + 0.8 * features(5))[0]
    white = np.ones(SHAPE, np.float32)
    ports = (Port("t0", (1, 4, 16, 16), (0.0, 1.0)),)
    exact = run(pack(model), white)
    errors = {}
    for name, pictures in (
        ("narrow", [{"t0": hazy}]),
        ("covered", [{"t0": hazy}, *extremes([{"t0": hazy}], ports)]),
    ):
        ranges = measure_ranges(model, pictures)
        ranges = covering(model, ranges, ports) if name == "covered" else ranges
        got = run(quantize(model, ranges, Scheme.INT8), white)
        errors[name] = float(np.abs(got - exact).max() / np.ptp(exact))
    print(errors)
    assert errors["covered"] < 0.02
    assert errors["narrow"] > 0.04


@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.INT16])
def test_what_is_next_to_nothing_has_steps_that_the_runtime_takes(scheme: Scheme, tmp_path: Path) -> None:
    """A channel that is never reached, added to a picture: steps of 1e-8 / 255 would be refused by XNNPACK."""
    file = File()
    image, made, positive, total = (file.tensor(SHAPE) for _ in range(4))
    constants = [
        file.tensor((4, 3, 3, 4), data=normal(7, 4, 3, 3, 4)),
        file.tensor((4,), data=np.full(4, -1000.0, np.float32)),
    ]
    file.operator("CONV_2D", [image, *constants], [made], conv_options())
    file.operator("RELU", [made], [positive])
    file.operator("ADD", [image, positive], [total], schema.AddOptionsT())
    model = file.finish([image], [total])
    after = quantized(model, scheme, tmp_path / "q.tflite").subgraphs[0]
    (add,) = (o for o in after.operators if len(o.inputs) == 2)
    one, other, result = (float(after.tensors[t].quantization.scale[0]) for t in (*add.inputs, *add.outputs))
    print(one, other, result)
    assert min(one, other) >= result / 1024
    assert steps_off(model, tmp_path / "q.tflite") < (2 if scheme is Scheme.INT8 else 6)


@pytest.mark.parametrize("left", [0.0, 1e-5])
@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.INT16])
def test_a_convolution_that_comes_to_nothing_has_steps_that_the_runtime_takes(
    scheme: Scheme, left: float, tmp_path: Path
) -> None:
    """Two equal channels, one taken from the other: what is left are no steps to round to."""
    file = File()
    image, made = file.tensor(SHAPE), file.tensor(SHAPE)
    weights = np.zeros((4, 1, 1, 4), np.float32)
    weights[..., 0], weights[..., 1] = 1.0, -1.0 - left
    constants = [file.tensor(weights.shape, data=weights), file.tensor((4,), data=np.zeros(4, np.float32))]
    file.operator("CONV_2D", [image, *constants], [made], conv_options())
    model = file.finish([image], [made])
    grey = np.repeat(WIDE[..., :1], 4, axis=3)
    ranges = measure_ranges(model, [{"t0": grey[0]}])
    low, high = ranges[made]
    assert low < 0.0 < high if left else low == high == 0.0
    (tmp_path / "q.tflite").write_bytes(quantize(model, ranges, scheme))
    after = read_tflite(tmp_path / "q.tflite").subgraphs[0]
    (conv,) = (o for o in after.operators if len(o.inputs) == 3)
    one, result = (float(after.tensors[t].quantization.scale[0]) for t in (conv.inputs[0], conv.outputs[0]))
    (zero,) = after.tensors[conv.outputs[0]].quantization.zeroPoint
    lowest, highest = (-128, 127) if scheme is Scheme.INT8 else (-32767, 32767)
    print(one, result, zero)
    assert (lowest - zero) * result <= low and high <= (highest - zero) * result
    assert one / 127 <= 256 * result  # XNNPACK refuses a product of steps from 256 times the result's
    assert np.abs(run((tmp_path / "q.tflite").read_bytes(), grey)).max() < 1e-3 * np.abs(grey).max()
