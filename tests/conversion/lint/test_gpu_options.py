"""What TFLite's GPU delegate takes and refuses, case by case: each condition once on either side."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from afterlens.conversion.lint.gpu import GPU_OPERATORS
from afterlens.conversion.lint.graph import Graph, Node, Tensor
from tests.conversion.lint.bundles import rules_of

_NUMBERS = itertools.count()


def value(*shape: int | None, dtype: str = "float32", constant: bool = False) -> Tensor:
    return Tensor(f"t{next(_NUMBERS)}", dtype, shape, constant)


def stored(*shape: int, dtype: str = "float32") -> Tensor:
    return value(*shape, dtype=dtype, constant=True)


PICTURE, OTHER = value(1, 8, 8, 4), value(1, 8, 8, 4)
FACTORS, ROW, COLUMN = value(1, 1, 1, 4), value(1, 8, 1, 4), value(1, 1, 8, 4)
AXES = stored(2, dtype="int32")


def found(
    operator: str, inputs: list[Tensor], options: Mapping[str, Any] | None = None, output: Tensor = OTHER
) -> dict[str, int]:
    """The rules that a graph of one operator breaks."""
    node = Node(operator, 1, tuple(inputs), (output,), options or {})
    return rules_of(Graph((node,), (PICTURE,), ()))


@pytest.mark.parametrize(
    ("operator", "taken", "refused"),
    [
        ("LOGISTIC", [PICTURE], [PICTURE, OTHER]),
        ("LOGISTIC", [PICTURE], [stored(1, 8, 8, 4)]),
        ("SUB", [PICTURE, stored(4)], [PICTURE]),
        ("SUB", [stored(4), PICTURE], [stored(1, 8, 8, 4), stored(4)]),
        ("SUB", [PICTURE, OTHER], [PICTURE, OTHER, FACTORS]),
        ("ADD", [PICTURE, OTHER], [PICTURE, OTHER, FACTORS]),
        ("MUL", [PICTURE, OTHER], [PICTURE]),
        ("ADD_N", [PICTURE, OTHER], [PICTURE, OTHER, FACTORS]),
        ("ADD", [PICTURE, stored(8, 4)], [PICTURE, stored(8, 3)]),
        ("ADD", [PICTURE, stored(3)], [PICTURE, stored(3, 4)]),
        ("ADD", [PICTURE, FACTORS], [PICTURE, stored(7, 1, 4)]),
        ("MUL", [PICTURE, ROW], [COLUMN, ROW]),
        ("MUL", [COLUMN, PICTURE], [ROW, COLUMN]),
        ("SLICE", [value(8, 8, 4)], [value(8, 4)]),
        ("SLICE", [PICTURE], [value(1, 1, 8, 8, 4)]),
        ("STRIDED_SLICE", [PICTURE], [value(8, 4)]),
        ("PAD", [PICTURE, stored(4, 2, dtype="int32")], [PICTURE, stored(5, 2, dtype="int32")]),
        ("PADV2", [PICTURE, stored(3, 2, dtype="int32")], [PICTURE, stored(2, 2, dtype="int32")]),
        ("MIRROR_PAD", [PICTURE, stored(4, 2, dtype="int32")], [PICTURE, stored(4, 1, dtype="int32")]),
        *[
            (operator, [PICTURE, AXES], [PICTURE, axes])
            for operator in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")
            for axes in (value(2, dtype="int32"), stored(2, dtype="int64"))
        ],
        ("MEAN", [PICTURE, AXES], [PICTURE]),
        ("GATHER", [PICTURE, stored(3, dtype="int32")], [PICTURE, stored(3, dtype="int64")]),
        ("GATHER", [PICTURE, stored(3, dtype="int32")], [PICTURE, stored(3, 1, dtype="int32")]),
        ("DEQUANTIZE", [stored(4, dtype="int8")], [stored(4, dtype="int16")]),
    ],
)
def test_inputs_on_either_side(operator: str, taken: list[Tensor], refused: list[Tensor]) -> None:
    assert "gpu-options" not in found(operator, taken)
    assert found(operator, refused)["gpu-options"] == 1


@pytest.mark.parametrize(
    ("operator", "taken", "refused"),
    [
        ("STRIDED_SLICE", {"beginMask": 1, "ellipsisMask": 0}, {"ellipsisMask": 1}),
        ("STRIDED_SLICE", {"endMask": 1, "newAxisMask": 0}, {"newAxisMask": 1}),
        ("STRIDED_SLICE", {"shrinkAxisMask": 0}, {"shrinkAxisMask": 2}),
        ("SOFTMAX", {"beta": 1.0}, {"beta": 0.5}),
        ("RESIZE_BILINEAR", {"alignCorners": True}, {"alignCorners": True, "halfPixelCenters": True}),
        ("RESIZE_BILINEAR", {"halfPixelCenters": True}, {"alignCorners": True, "halfPixelCenters": True}),
        ("MIRROR_PAD", {"mode": 0}, {"mode": 1}),
        ("DEPTHWISE_CONV_2D", {"depthMultiplier": 1}, {"depthMultiplier": 2}),
    ],
)
def test_options_on_either_side(operator: str, taken: dict[str, Any], refused: dict[str, Any]) -> None:
    assert "gpu-options" not in found(operator, [PICTURE], taken)
    assert found(operator, [PICTURE], refused)["gpu-options"] == 1


def test_a_depth_multiplier_of_one_channel_is_taken() -> None:
    assert "gpu-options" not in found("DEPTHWISE_CONV_2D", [value(1, 8, 8, 1)], {"depthMultiplier": 2})


@pytest.mark.parametrize(
    ("operator", "dtype", "hits"),
    [
        *[("RELU", dtype, 0) for dtype in ("float32", "float16", "int8", "uint8")],
        *[("RELU", dtype, 1) for dtype in ("int16", "int32", "bool")],
        *[("CAST", dtype, 0) for dtype in ("bool", "int32")],
        ("CAST", "int64", 1),
        ("ONE_HOT", "int32", 0),
        ("ONE_HOT", "bool", 1),
        ("GREATER", "bool", 0),
        ("GREATER", "int32", 1),
    ],
)
def test_types_on_either_side(operator: str, dtype: str, hits: int) -> None:
    assert found(operator, [PICTURE], output=value(1, 8, 8, 4, dtype=dtype)).get("gpu-type", 0) == hits
    assert "gpu-type" not in found(operator, [PICTURE, stored(4, dtype=dtype)])  # constants are converted


@pytest.mark.parametrize(
    ("rule", "operator", "within", "beyond"),
    [
        ("gpu-quantized", "QUANTIZE", [PICTURE], [PICTURE, value(1, 8, 8, 4, dtype="int8")]),
        ("gpu-rank", "RELU", [PICTURE], [value(1, 1, 8, 8, 4)]),
        ("gpu-rank", "ADD", [PICTURE, stored(4)], [PICTURE, stored(1, 1, 1, 1, 4)]),
        ("gpu-dynamic", "RELU", [PICTURE], [value(1, None, 8, 4)]),
        ("gpu-batch", "RELU", [PICTURE], [value(2, 8, 8, 4)]),
        ("gpu-batch", "RELU", [value()], [value(4)]),
        ("gpu-batch", "ADD", [PICTURE, stored(4)], [PICTURE, value(4)]),
        ("gpu-rank-3", "SOFTMAX", [PICTURE], [value(1, 8, 4)]),
        ("gpu-rank-3", "BATCH_MATMUL", [PICTURE, OTHER], [value(1, 8, 4), value(1, 4, 8)]),
        ("gpu-mixed-rank", "SUB", [PICTURE, stored(4)], [PICTURE, value(1, 8, 4)]),
        ("gpu-identical-inputs", "SUB", [PICTURE, OTHER], [PICTURE, PICTURE]),
        ("gpu-identical-inputs", "MUL", [PICTURE, PICTURE], None),
        ("gpu-groups", "CONV_2D", [PICTURE, stored(4, 3, 3, 4)], [PICTURE, stored(4, 3, 3, 2)]),
    ],
)
def test_tensors_on_either_side(
    rule: str, operator: str, within: list[Tensor], beyond: list[Tensor] | None
) -> None:
    output = {"gpu-quantized": value(1, 8, 8, 4, dtype="int8")}.get(rule, PICTURE)
    assert rule not in found(operator, within, output=PICTURE)
    if beyond is not None:
        assert found(operator, beyond, output=output)[rule] == 1


@pytest.mark.parametrize(
    ("shape", "paddings", "hits"),
    [
        ((1, 8, 4), [[0, 0], [0, 0], [0, 2]], 0),
        ((1, 8, 4), [[0, 0], [1, 0], [0, 0]], 1),
        ((1, 8, 8, 4), [[0, 0], [1, 1], [1, 1], [0, 0]], 0),
    ],
)
def test_padding_of_rank_3_is_taken_along_the_last_axis(
    shape: tuple[int, ...], paddings: list[list[int]], hits: int
) -> None:
    assert found("PAD", [value(*shape)], {"paddings": paddings}).get("gpu-rank-3-pad", 0) == hits


# By the newest version that the delegate takes (model_builder.cc).
NEWEST = {
    1: "ONE_HOT PRELU RESHAPE SELECT SELECT_V2",
    2: "ABS ADD ATAN2 AVERAGE_POOL_2D CEIL CONCATENATION COS DIV ELU EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD "
    "GELU GREATER GREATER_EQUAL LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGISTIC MAXIMUM MAX_POOL_2D "
    "MINIMUM MIRROR_PAD NEG NOT_EQUAL PAD POW QUANTIZE RELU RELU6 RSQRT SIGN SIN SLICE SOFTMAX "
    "SPACE_TO_DEPTH SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB TANH",
    3: "DEQUANTIZE MUL RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR TRANSPOSE_CONV",
    4: "LSTM",
    6: "CONV_2D DEPTHWISE_CONV_2D",
    9: "FULLY_CONNECTED",
}


def test_versions_on_either_side() -> None:
    newest = {operator: version for version, names in NEWEST.items() for operator in names.split()}
    assert newest == {operator: version for operator, version in GPU_OPERATORS.items() if version is not None}
    for operator, version in newest.items():
        for shown in (version, version + 1):
            node = Node(operator, shown, (PICTURE, stored(3, 3, 4, 4)), (OTHER,), {})
            hits = rules_of(Graph((node,), (PICTURE,), ()))
            assert ("gpu-version" in hits) == (shown > version), (operator, shown)
